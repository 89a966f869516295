"""The bounded loop in which a model reads: it may call read-only tools for some rounds, then it must answer.

Whatever it asks for beyond the given tools gets an error as its answer, and is recorded.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from pydantic import BaseModel, ValidationError

from agents.fencing import Fence, clean, cut
from agents.structured import Unusable, parse_answer
from errors import BudgetExhausted, ParamedicError, ToolFailed
from incidents.database import utcnow
from incidents.models import EXCERPT_CHARS, Evidence, EvidenceKind, ObjectRef
from tools.llm.errors import ToolsUnsupported
from tools.llm.models import Models, ToolSpec

Answer = TypeVar("Answer", bound=BaseModel)

_CALLS_A_ROUND = 4
_TOOL_SECONDS = 60.0


class NoAnswer(ToolFailed):
    """The model answered twice in a shape that cannot be used. Another question may fare better."""


@dataclass(frozen=True)
class Reading:
    """What a tool read. `source` is the exact place, for the evidence; `objects` are those that were seen to exist."""

    text: str
    source: str | None = None
    kind: EvidenceKind = EvidenceKind.REPORT
    objects: Sequence[ObjectRef] = ()


@dataclass(frozen=True)
class ReadTool:
    """A read-only tool. `args` validates what the model asks; `run` raises a ParamedicError when it cannot read.

    Each reading is evidence of its own; a plain string is one without a source.
    """

    name: str
    description: str
    args: type[BaseModel]
    run: Callable[[Any], Awaitable[Reading | str | Sequence[Reading]]]

    def spec(self) -> ToolSpec:
        return ToolSpec(self.name, self.description, self.args.model_json_schema())


@dataclass
class Desk:
    """The tools of one analysis and all that was read with them, whichever question it was read for."""

    tools: Sequence[ReadTool]
    report: Callable[[str], Awaitable[None]]
    fence: Fence
    evidence: list[Evidence] = field(default_factory=list)
    texts: dict[str, str] = field(default_factory=dict)
    objects: list[ObjectRef] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    tools_work: bool = True
    """False once the model's server has said that the model cannot call tools."""
    _answers: dict[tuple[str, str], str] = field(default_factory=dict)

    async def call(self, name: str, args: Mapping[str, Any]) -> str:
        """What a model gets for a call: fenced text, or an error. The same call is read once."""
        tool = next((tool for tool in self.tools if tool.name == name), None)
        if tool is None:
            shown = re.sub(r"[^\w.-]", "?", name)[:60]
            self.refused.append(shown)
            await self.report(f"the model asked for a tool that does not exist, {shown}: refused")
            return f"error: there is no tool {shown}; there are {', '.join(tool.name for tool in self.tools)}"
        try:
            given = tool.args.model_validate(args)
        except ValidationError as error:
            problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()[:5])
            return f"error: {problems[:500]}"
        said = cut(clean(json.dumps(given.model_dump(mode="json", exclude_none=True), ensure_ascii=False)), 200)
        key = (name, given.model_dump_json())
        if key not in self._answers:
            await self.report(f"the model reads {name} {said}")
            self._answers[key] = await self._read(tool, given, f"{name} {said}")
        return self._answers[key]

    async def _read(self, tool: ReadTool, given: BaseModel, asked: str) -> str:
        try:
            async with asyncio.timeout(_TOOL_SECONDS):
                result = await tool.run(given)
        except TimeoutError:
            return f"error: {tool.name} took longer than {_TOOL_SECONDS:.0f} s"
        except ParamedicError as error:
            return self.fence.wrap("error", clean(str(error))[:500])
        if isinstance(result, str):
            result = Reading(result)
        reads = [result] if isinstance(result, Reading) else result
        return "\n\n".join(self._record(read, asked) for read in reads) or "(nothing)"

    def _record(self, read: Reading, asked: str) -> str:
        # cut to an excerpt's length first, so that all of what the model sees is kept as evidence
        text = cut(clean(read.text), EXCERPT_CHARS - 60) or "(empty)"
        item = Evidence.of(read.kind, read.source or f"read by the model: {asked}", text, utcnow())
        if item.id not in self.texts:
            self.evidence.append(item)
            self.texts[item.id] = text
        self.objects += read.objects
        return self.fence.evidence(item, text)


@dataclass
class ToolLoop(Generic[Answer]):
    """One question. The model may read for `rounds` rounds; then it must give `answer`, of the shape `shape`.

    `floor`: tokens of the incident's budget that this question must leave for others.
    """

    models: Models
    incident_id: str
    desk: Desk
    answer: ToolSpec
    shape: type[Answer]
    rounds: int = 0
    floor: int = 0

    async def run(self, messages: list[BaseMessage]) -> Answer:
        """The model's answer, unchecked. Raises BudgetExhausted, NoAnswer, ToolFailed or ToolTimeout."""
        messages = list(messages)
        rounds = 0
        repaired = False
        while True:
            if self.floor and await self.models.tokens_left(self.incident_id) <= self.floor:
                raise BudgetExhausted("its share of the incident's token budget is used up")
            offered = [tool.spec() for tool in self.desk.tools] if self.desk.tools_work else []
            full = sum(len(message.text) for message in messages) > self.models.prompt_chars
            ending = repaired or not offered or full or rounds >= self.rounds
            try:
                reply = await self.models.ask(
                    messages,
                    incident_id=self.incident_id,
                    tools=[] if ending else [*offered, self.answer],
                    answer=self.answer if ending else None,
                )
            except ToolsUnsupported:
                if ending:
                    raise
                self.desk.tools_work = False
                continue
            asked = {call["name"] for call in [*reply.tool_calls, *reply.invalid_tool_calls]}
            if ending or not asked or self.answer.name in asked:
                try:
                    return parse_answer(reply, self.answer.name, self.shape)
                except Unusable as problem:
                    if repaired:
                        raise NoAnswer(f"the model {self.models.name} gave no usable answer: {problem}") from None
                    repaired = True
                    messages += [reply, *_not_run(reply), HumanMessage(f"That answer cannot be used: {problem}.")]
                    continue
            rounds += 1
            messages += [reply, *await self._round(reply)]

    async def _round(self, reply: AIMessage) -> list[ToolMessage]:
        """An answer for every call, as the protocol demands: what was read, or an error."""
        answers = []
        for index, call in enumerate(reply.tool_calls):
            if index >= _CALLS_A_ROUND:
                text = f"error: at most {_CALLS_A_ROUND} calls a round; ask again"
            else:
                text = await self.desk.call(call["name"], call["args"])
            answers.append(ToolMessage(text, tool_call_id=call["id"] or ""))
        for broken in reply.invalid_tool_calls:
            answers.append(ToolMessage("error: the arguments are no JSON", tool_call_id=broken.get("id") or ""))
        return answers


def _not_run(reply: AIMessage) -> list[ToolMessage]:
    calls = [*reply.tool_calls, *reply.invalid_tool_calls]
    return [ToolMessage("error: not accepted", tool_call_id=call.get("id") or "") for call in calls]
