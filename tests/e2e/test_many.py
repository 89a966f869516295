"""Twenty incidents at once: all end, each with its own answer."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.e2e.audit import AuditLog
from tests.e2e.cores import CoreFolder
from tests.e2e.service import Service
from tests.e2e.stage import Stage

# scenario, how many of it, and what each must come to: status, and class of the first cause
_CROWD = {
    "image_tag": (3, "diagnosed", "bad_image"),
    "config_key": (3, "diagnosed", "missing_config_key"),
    "command": (3, "diagnosed", "bad_command"),
    "readiness_path": (3, "awaiting_approval", "wrong_readiness_probe"),
    "healthy": (2, "healthy", None),
    "unexplained": (1, "unknown", None),
    "crash_from_birth": (1, "diagnosed", "null_dereference"),
}
_CORES = 4


@pytest.mark.scenario(*(name for name, (count, *_) in _CROWD.items() for _ in range(count)))
def test_twenty_incidents_at_once(stage: Stage, service: Service, audit: AuditLog, cores: CoreFolder) -> None:
    crowd = [(name, stage.take(name)) for name, (count, *_) in _CROWD.items() for _ in range(count)]
    crashed = next(made for name, made in crowd if name == "crash_from_birth")
    core = cores.of(crashed.namespace, crashed.container)[-1]  # the oldest is surely complete
    marks = [(made.namespace, audit.mark()) for _, made in crowd]

    with ThreadPoolExecutor(20) as pool:
        reported = list(pool.map(lambda entry: service.report(entry[1].namespace, entry[1].name), crowd))
        posted = list(pool.map(lambda number: post_core(service, str(core), number), range(_CORES)))
        ended = list(
            pool.map(
                lambda incident: service.wait(
                    incident, "diagnosed", "healthy", "unknown", "awaiting_approval", timeout=240
                ),
                [*reported, *posted],
            )
        )
    assert len({item["incident"]["id"] for item in ended}) == len(crowd) + _CORES == 20
    for (name, made), found in zip(crowd, ended, strict=False):
        _, status, cause_class = _CROWD[name]
        causes = found["diagnosis"]["causes"]
        assert found["incident"]["status"] == status, (name, service.story(found["incident"]["id"]))
        if cause_class:
            assert (causes[0]["class"], causes[0]["object"]["name"]) == (cause_class, made.name)
    for found in ended[len(crowd) :]:
        assert found["incident"]["status"] == "diagnosed"
        assert found["diagnosis"]["causes"][0]["class"] == "null_dereference"
    for namespace, mark in marks:
        assert audit.writes_to(namespace, mark) == []


def post_core(service: Service, core: str, number: int) -> str:
    """A crash without a cluster. Each report forces an incident of its own."""
    body = {"core": {"path": core}, "event": f"crash number {number}", "force": True}
    return str(service.ask("POST", "/api/v1/autofix", body)["incident"]["id"])
