"""How a model works on one incident: it proposes hypotheses, tests one after the other, and then explains.

Each question is a conversation of its own, so that a small context window is enough and no hypothesis uses up what is
left for the others. What was found good is kept as it comes: when the model is gone half way, that stays.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import structlog
from langchain_core.messages import BaseMessage, HumanMessage, SystemMessage

from agents.briefing import briefing, observed_objects
from agents.fencing import clean
from agents.structured import answer_spec
from agents.tool_loop import Desk, NoAnswer, ToolLoop
from diagnosis.answer import ModelAnswer, Proposals, Verdict
from diagnosis.grounding import Checker, Dropped, Grounded, ground
from diagnosis.hypotheses import MAX_HYPOTHESES, Candidate, Judged, admit, judge, untested
from errors import BudgetExhausted
from incidents.models import Diagnosis, DiagnosisStatus, Incident, ObjectRef
from prompts import render
from tools.llm.models import Models, ToolSpec

PROPOSE_TOOL = "propose_hypotheses"
VERDICT_TOOL = "give_verdict"
ANSWER_TOOL = "submit_answer"
_VERDICT = answer_spec(VERDICT_TOOL, "Give the verdict on the hypothesis. Call it once.", Verdict)
_ANSWER = answer_spec(ANSWER_TOOL, "Give the final answer. Call it once.", ModelAnswer)
_PROMPT_SHARE = 0.6
"""Of what the model's context holds; the rest is for what the tools read."""
_TEST_CHARS = 20_000
"""A test has a narrower question, and is asked several times: it gets less to read."""
_OBJECTS_SHOWN = 60
_NO_SENTENCE = re.compile(r"\w+ (?:[a-z0-9.-]{1,63}/)?[A-Za-z0-9_.:-]{1,253}")
"""A kind and a name without spaces."""

log = structlog.get_logger(__name__)


class Report(Protocol):
    """Tells a step of the incident as it happens."""

    async def __call__(self, text: str, type: str = "tool.called", data: dict[str, object] | None = None) -> None: ...


@dataclass
class Inquiry:
    """One specialist's questions to a model. `judged`, `refused` and `answer` hold what came out so far."""

    models: Models
    agent: str
    incident: Incident
    diagnosis: Diagnosis
    desk: Desk
    report: Report
    texts: Mapping[str, str]
    objects: Sequence[ObjectRef]
    judged: list[Judged] = field(default_factory=list)
    refused: list[Dropped] = field(default_factory=list)
    answer: Grounded = field(default_factory=Grounded)

    async def run(self, seconds: float) -> None:
        """Ask everything within `seconds`. Raises what the model's failure raises; what came before it is kept."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        async with asyncio.timeout_at(end):
            if self.diagnosis.status is not DiagnosisStatus.HEALTHY:
                candidates = await self._propose()
                self.judged = [untested(item, "the model was gone before") for item in candidates]
                for index, item in enumerate(candidates):
                    # each may use its part of what is left, and so may the final answer
                    parts = len(candidates) - index + 1
                    self.judged[index] = await self._test(item, parts, (end - loop.time()) / parts)
                    await self._tell(item, self.judged[index])
            self.answer = ground(await self._explain(), self.checker(), model=self.models.name)

    def checker(self) -> Checker:
        """Over all that was observed so far."""
        return Checker(
            [*self.diagnosis.evidence, *self.desk.evidence],
            texts={**self.texts, **self.desk.texts},
            objects=[*self.objects, *self.desk.objects],
            crash=self.diagnosis.crash,
            subjects=[self.incident.target, *observed_objects(self.diagnosis)],
        )

    async def _propose(self) -> list[Candidate]:
        await self.report(f"asks the model {self.models.name} for hypotheses")
        names = list(dict.fromkeys(_named(ref) for ref in self.objects))[:_OBJECTS_SHOWN]
        try:
            proposals = await self._ask(
                ToolLoop(
                    self.models,
                    self.incident.id,
                    self.desk,
                    _propose_spec(names, [tool.name for tool in self.desk.tools]),
                    Proposals,
                ),
                "propose",
                self.desk.fence.wrap("observed objects", clean("\n".join(names))),
                tools=[(tool.name, tool.description, _arguments(tool.spec())) for tool in self.desk.tools],
                limit=MAX_HYPOTHESES,
            )
        except NoAnswer as error:
            log.info("no hypotheses", incident=self.incident.id, model=self.models.name, error=str(error))
            await self.report("the model proposed nothing that can be used")
            return []
        admitted = admit(proposals.hypotheses, self.objects, self.checker(), self.diagnosis)
        self.refused = admitted.refused
        refused = f", {len(admitted.refused)} refused" if admitted.refused else ""
        await self.report(f"the model proposed {len(admitted.candidates)} hypotheses that can be tested{refused}")
        return admitted.candidates

    async def _test(self, candidate: Candidate, parts: int, seconds: float) -> Judged:
        """One hypothesis with a `parts`th of the tokens that are left. One whose budget or time ends is not tested."""
        left = await self.models.tokens_left(self.incident.id)
        loop = ToolLoop(
            self.models,
            self.incident.id,
            self.desk,
            _VERDICT,
            Verdict,
            rounds=max(1, self.models.settings.max_steps // max(len(self.judged), 1)),
            floor=left - left // parts,
        )
        hypothesis = candidate.hypothesis
        question = [
            f"{candidate}",
            f"would confirm it: {hypothesis.confirms}",
            f"would refute it: {hypothesis.refutes}",
        ]
        data = [self.desk.fence.wrap("hypothesis", clean("\n".join(question)))]
        try:
            async with asyncio.timeout(seconds):
                if candidate.tool:
                    data.append(await self.desk.call(candidate.tool, candidate.arguments))
                verdict = await self._ask(loop, "test", *data, steps=loop.rounds, chars=_TEST_CHARS)
        except TimeoutError:
            return untested(candidate, "its share of the time was used up")
        except BudgetExhausted as error:
            return untested(candidate, str(error))
        except NoAnswer:
            return untested(candidate, "the model gave no usable verdict")
        return judge(candidate, verdict, self.checker())

    async def _tell(self, candidate: Candidate, judged: Judged) -> None:
        found = judged.hypothesis
        cited = f" [{', '.join(found.evidence_ids)}]" if found.evidence_ids else ""
        if judged.fault:
            log.info("verdict dropped", incident=self.incident.id, model=self.models.name, reason=judged.fault)
        await self.report(
            f"tests: {candidate}? → {found.verdict.replace('_', ' ')}: {found.because}{cited}",
            type="hypothesis",
            data=found.model_dump(mode="json", by_alias=True),
        )

    async def _explain(self) -> ModelAnswer:
        verdicts = "\n".join(
            f"{item.hypothesis.verdict}: {item.hypothesis.cause_class.value} in {item.hypothesis.object}: "
            f"{item.hypothesis.because} [{', '.join(item.hypothesis.evidence_ids)}]"
            for item in self.judged
        )
        cited = {evidence_id for item in self.judged for evidence_id in item.hypothesis.evidence_ids}
        read = [item for item in self.desk.evidence if item.id in cited]
        data = [self.desk.fence.wrap("the tested hypotheses", clean(verdicts or "none"))]
        data += [self.desk.fence.evidence(item, self.desk.texts[item.id]) for item in read]
        loop = ToolLoop(self.models, self.incident.id, self.desk, _ANSWER, ModelAnswer)
        answer: ModelAnswer = await self._ask(loop, "explain", *data)
        return answer

    async def _ask(self, loop: ToolLoop[Any], phase: str, *data: str, chars: int = 0, **values: object) -> Any:
        fence = self.desk.fence
        values = {"steps": 0, "tools": [], "limit": 0} | values
        system = render(self.agent, phase=phase, fence=fence.word, answer_tool=loop.answer.name, **values)
        room = int(self.models.prompt_chars * _PROMPT_SHARE) - len(system) - sum(len(part) for part in data)
        room = min(room, chars) if chars else room
        told = briefing(fence, self.diagnosis, self.texts, max(room, 2000), incident=self.incident)
        messages: list[BaseMessage] = [SystemMessage(system), HumanMessage("\n\n".join([told, *data]))]
        return await loop.run(messages)


def _propose_spec(objects: Sequence[str], tools: Sequence[str]) -> ToolSpec:
    """The answer's shape with what may be named in it: a server that enforces a schema lets a model name no other.

    A schema stands outside every fence, so names enter it only when no sentence can hide in them.
    """
    spec = answer_spec(PROPOSE_TOOL, "Give the hypotheses. Call it once.", Proposals)
    fields = spec.schema["$defs"]["Proposed"]["properties"]
    if objects and all(_NO_SENTENCE.fullmatch(name) for name in objects):
        fields["object"]["enum"] = list(objects)
    fields["tool"]["enum"] = [*tools, ""]
    spec.schema["properties"]["hypotheses"]["maxItems"] = MAX_HYPOTHESES
    return spec


def _named(ref: ObjectRef) -> str:
    return str(ref.model_copy(update={"container": None}))


def _arguments(spec: ToolSpec) -> str:
    required = set(spec.schema.get("required", []))
    return ", ".join(name if name in required else f"{name}?" for name in spec.schema.get("properties", {}))
