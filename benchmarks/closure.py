"""Evidence closure of diagnoses that a model reads, before and after the checker, over the captured cases.

    python -m benchmarks.closure [CASES]            three scripted models: careful, careless, lying
    python -m benchmarks.closure [CASES] --real     the configured model (PARAMEDIC_LLM__MODEL=…)

The scripted models are no language models: they quote what they were shown, or lie in one of the ways below, and know
which they did. So they measure the checker, by kind of lie, and not what a model is worth: of a model only `--real`
tells something. "stated" is the closure of all statements, "kept" that of those which are left in the document. A kind
of lie that a checker of quotes, names and numbers cannot see is among them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage

from agents.read_tools import objects_of, snapshot_tools
from agents.reading import read_with_model
from diagnosis.workloads.diagnose import diagnose
from incidents.database import Database
from incidents.models import Diagnosis, Incident, IncidentStatus, ObjectRef
from incidents.usage import UsageStore
from settings import LlmSettings, load_settings
from tests.snapshot_cases import SNAPSHOTS, loaded, truth
from tests.standins.scripted_model import ScriptedChatModel, says
from tools.llm.models import Models

HONESTY = {"careful": 1.0, "careless": 0.6, "lying": 0.0}
LIES = {
    "quote that is not there": "It is so.",
    "evidence that does not exist": "It is so.",
    "number of its own": "It failed 7741 times.",
    "object that nobody saw": "Service/ghost is down.",
    "blame of an object not cited": "{other} is at fault.",
    "approval": "The change was approved.",
    "place in code of its own": "It crashed at ghost.cpp:77.",
    "true quote, wrong conclusion": "All is well.",
}
_PIECE = re.compile(r"<<<\w+ evidence (ev_\w+) (\w+)\n(source: .*?)\n\w+>>>", re.DOTALL)
_OBJECTS = re.compile(r"<<<\w+ observed objects\n(.*?)\n\w+>>>", re.DOTALL)
_HYPOTHESIS = re.compile(r"<<<\w+ hypothesis\n\S+ in \S+ (\S+)")


@dataclass
class Pretender:
    """A scripted model. `honesty` is the share of its statements that quote what is there and add nothing."""

    honesty: float
    dice: random.Random
    stated: dict[str, str] = field(default_factory=dict)
    """What it said, to the kind of lie; an empty one is none."""
    other: str = ""

    def __call__(self, messages: list[BaseMessage]) -> AIMessage:
        system, text = messages[0].text, "\n".join(message.text for message in messages[1:])
        if "propose_hypotheses" in system:
            return says(calls=[("propose_hypotheses", {"hypotheses": list(self._hypotheses(text))})])
        pieces = _PIECE.findall(text)
        if "give_verdict" not in system:
            answer = {part: [self._claim(pieces), self._claim(pieces)] for part in ("explanation", "findings")}
            return says(calls=[("submit_answer", answer)])
        about = _HYPOTHESIS.search(text)
        name = about[1].rpartition("/")[2] if about else ""
        claim = self._claim([piece for piece in pieces if name in piece[2] and piece[1] != "log"] or pieces)
        verdict = {"verdict": self.dice.choice(["confirmed", "refuted"]), "statement": claim["text"], "confidence": 0.9}
        return says(calls=[("give_verdict", {**verdict, "citations": claim["citations"]})])

    def _hypotheses(self, text: str) -> Iterator[dict[str, Any]]:
        found = _OBJECTS.search(text)
        names = found[1].splitlines() if found else []
        self.other = names[-1].replace(" ", "/") if names else "Service/other"
        for name in names[:3]:
            kind, _, place = name.partition(" ")
            namespace, _, own = place.rpartition("/")
            pods = kind in ("Deployment", "StatefulSet", "DaemonSet", "Job", "Pod")
            tool = "get_pods" if pods else "get_endpoints" if kind == "Service" else "get_quota"
            arguments = {"namespace": namespace} | ({"name": own} if tool != "get_quota" else {})
            yield {
                "class": "application_error",
                "object": name,
                "tool": tool,
                "arguments": arguments | ({"kind": kind} if pods else {}),
            }

    def _claim(self, pieces: list[tuple[str, str, str]]) -> dict[str, Any]:
        evidence_id, _, whole = self.dice.choice(pieces)
        lines = [
            line.strip() for line in whole.splitlines() if len(line.strip()) > 8 and not line.startswith("source: ")
        ]
        quote = (self.dice.choice(lines) if lines else whole.partition("\n")[2].strip())[:120]
        lie = "" if self.dice.random() < self.honesty else self.dice.choice(list(LIES))
        word = "".join(self.dice.choices("abcdefghijkl", k=12))  # to find it again; prose to the checker
        said = LIES[lie].format(other=self.other) if lie else "This was seen."
        self.stated[f"{word}: {said}"] = lie
        if lie == "quote that is not there":
            quote = f"{quote} not"
        if lie == "evidence that does not exist":
            evidence_id = "ev_0123456789abcdef"
        return {"text": f"{word}: {said}", "citations": [{"evidence_id": evidence_id, "quote": quote}]}


async def read(models: Models, name: str) -> tuple[Diagnosis, Diagnosis]:
    """A captured case: the rules' diagnosis, and the same after a model has read."""
    snapshot, namespace = loaded(name), truth(name)["namespace"]
    ruled = await asyncio.to_thread(diagnose, snapshot, namespace=namespace)
    now = datetime.now(UTC)
    incident = Incident(
        id=f"inc_{name}",
        created_at=now,
        updated_at=now,
        status=IncidentStatus.ANALYSING,
        target=ObjectRef(kind="Namespace", name=namespace),
        event="something fails",
        requested_by="local",
    )

    async def report(text: str, type: str = "", data: dict[str, object] | None = None) -> None:
        return None

    found = await read_with_model(
        models,
        agent="researcher",
        incident=incident,
        diagnosis=ruled,
        tools=snapshot_tools(snapshot, [namespace], ruled.timeline),
        report=report,
        objects=objects_of(snapshot, [namespace]),
    )
    untouched = (ruled.status, ruled.causes, ruled.findings, ruled.evidence)
    after = (
        found.status,
        found.causes[: len(ruled.causes)],
        found.findings[: len(ruled.findings)],
        found.evidence[: len(ruled.evidence)],
    )
    assert untouched == after, f"{name}: the rules' diagnosis was changed"
    return ruled, found


async def pretended(database: Database, kind: str, cases: list[str]) -> dict[str, Any]:
    dice = random.Random(7)
    stated: dict[str, str] = {}
    kept: set[str] = set()
    closures = []
    for name in cases:
        model = Pretender(HONESTY[kind], dice)
        client = ScriptedChatModel(script=[model] * 50)
        settings = LlmSettings.model_validate(
            {"model": f"openai:{kind}", "api_key": "none", "calls_per_hour": 10**6, "tokens_per_incident": 10**7}
        )
        _, found = await read(Models(settings, UsageStore(database), client=client), name)
        stated |= model.stated
        document = found.model_dump_json()
        kept |= {text for text in model.stated if json.dumps(text, ensure_ascii=False)[1:-1] in document}
        closures.append(found.closure or 0.0)
    lies = Counter(stated.values())
    lies_kept = Counter(stated[text] for text in kept)
    return {
        "model": kind,
        "cases": len(cases),
        "statements": len(stated),
        "closure_stated": round(lies[""] / len(stated), 3),
        "closure_kept": round(lies_kept[""] / len(kept), 3) if kept else None,
        "true_dropped": lies[""] - lies_kept[""],
        "lies_kept": {lie: f"{lies_kept[lie]} of {lies[lie]}" for lie in LIES if lies[lie]},
        "closure_recorded": round(sum(closures) / len(closures), 3),
    }


async def real(database: Database, cases: list[str]) -> dict[str, Any]:
    settings = load_settings().llm
    models = Models.from_settings(settings, UsageStore(database))
    if models is None:
        raise SystemExit("no model is configured: set PARAMEDIC_LLM__MODEL")
    kept = total = tested = silent = 0
    for name in cases:
        _, found = await read(models, name)
        said = found.model_statements
        kept, total = kept + (said.kept if said else 0), total + (said.total if said else 0)
        tested += sum(item.verdict in ("confirmed", "refuted") for item in found.hypotheses)
        silent += said is None
        print(f"{name:<30} {said.kept if said else 0} of {said.total if said else 0}  {'; '.join(found.unseen)[:120]}")
    return {
        "model": models.name,
        "cases": len(cases),
        "statements": total,
        "closure_stated": round(kept / total, 3) if total else None,
        "hypotheses_decided": tested,
        "cases_without_a_statement": silent,
    }


async def measure(count: int, with_real: bool) -> list[dict[str, Any]]:
    names = sorted(path.name.removesuffix(".truth.json") for path in SNAPSHOTS.glob("*.truth.json"))
    cases = [name for name in names if truth(name).get("class")][:: max(1, len(names) // count)][:count]
    with tempfile.TemporaryDirectory() as folder:
        database = await Database.open(f"sqlite+aiosqlite:///{Path(folder) / 'bench.db'}")
        try:
            if with_real:
                return [await real(database, cases)]
            return [await pretended(database, kind, cases) for kind in HONESTY]
        finally:
            await database.close()


def main() -> None:
    import structlog

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="?", type=int, default=40, help="so many captured cases")
    parser.add_argument("--real", action="store_true", help="the configured model instead of scripted ones")
    arguments = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    results = asyncio.run(measure(arguments.cases, arguments.real))
    for result in results:
        for name, value in result.items():
            print(f"{name:<26} {value}")
        print()
    print(json.dumps({"benchmark": "closure", "results": results}))


if __name__ == "__main__":
    main()
