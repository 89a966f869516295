"""Results that were not run, for the tests of scoring and report."""

from __future__ import annotations

from typing import Any

from evals.results import Answer, Result
from evals.scenario import Truth


def truth(cause: str = "oom_killed", object: str | None = "Deployment/shop", container: str | None = "till") -> Truth:
    return Truth.model_validate({"class": cause, "object": object, "container": container})


def answer(cause: str = "oom_killed", object: str | None = "Deployment/shop", container: str | None = "till") -> Answer:
    return Answer.model_validate({"class": cause, "object": object, "container": container, "confidence": 0.9})


def result(scenario: str = "one", repetition: int = 0, right: bool = True, **more: Any) -> Result:
    said = more.pop("answer", answer() if right else answer("bad_image"))
    fields: dict[str, Any] = {
        "scenario": scenario,
        "group": "run-time",
        "mode": "paramedic",
        "repetition": repetition,
        "truth": truth(),
        "answer": said,
        "class_right": right,
        "object_right": right,
        "right": right,
        "at_large": said,
        "at_large_right": right,
        "claims": 4,
        "closed": 4,
        "remedy": "action",
        **more,
    }
    return Result.model_validate(fields)
