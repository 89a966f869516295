"""The chat about crashes: answers from the record with citations, with or without a model.

It reads, and it may start a diagnosis, which changes nothing. It has no way to approve or to execute: it holds
neither the gate nor the runner's `decide`.
"""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from agents.answering import answer_with_model
from agents.fencing import clean
from graph.chat_answers import Line, Record, answer, causes, waiting
from graph.chat_questions import candidate, question_back, spoken
from graph.chat_runbooks import runbook_answer
from graph.chat_texts import Language, say
from graph.conversations import Conversations
from graph.intents import Intent, intent_of, is_chinese
from graph.observed import namespace_diagnosis
from graph.subject import Resolver, Subject
from graph.watching import settled, watch
from incidents.models import Evidence, Incident, ObjectRef, Via
from tools.runbooks.words import telling_words

if TYPE_CHECKING:
    from graph.services import Services

_LISTED = 10
_QUOTE = 300
_CITED = re.compile(r"\[(ev_[0-9a-z]{1,40})\]")
_MODEL_INTENTS = frozenset({Intent.WHAT, Intent.WHY, Intent.WHERE, Intent.FIX, Intent.EVIDENCE, Intent.NONE})


@dataclass(frozen=True)
class ChatEvent:
    """`step`: what is being done. `token`: a piece of the answer. `citation`: evidence. `done`: the whole answer."""

    type: Literal["step", "token", "citation", "done"]
    data: dict[str, object]


class Chat:
    """One for the service. Conversations are kept in the database, each readable by its owner alone."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._resolver = Resolver(services)
        self.conversations = Conversations(services.database)

    async def reply(
        self,
        message: str,
        *,
        caller: str,
        may_start: bool,
        conversation_id: str,
        incident_id: str | None = None,
    ) -> AsyncIterator[ChatEvent]:
        """Answer one message. `conversation_id` is from `conversations.open`; `incident_id` says what it is about.

        Leaving the stream early stops the answer, never a diagnosis that it has started.
        """
        answering = _Answer(self._services, self._resolver, caller, may_start, message)
        history = await self.conversations.turns(conversation_id, caller)
        context = incident_id or await self.conversations.subject(conversation_id, caller)
        await self.conversations.add(conversation_id, caller, "user", message, incident_id)
        said: list[str] = []
        async for event in answering.run(context, history):
            if event.type == "token":
                said.append(str(event.data["text"]))
            yield event
        text = "".join(said).rstrip()
        await self.conversations.add(conversation_id, caller, "assistant", text, answering.incident_id)
        yield ChatEvent(
            "done",
            {
                "conversation_id": conversation_id,
                "incident_id": answering.incident_id,
                "intent": answering.intent.value,
                "by": answering.by,
                "text": text,
            },
        )


class _Answer:
    """One answer in the making."""

    def __init__(self, services: Services, resolver: Resolver, caller: str, may_start: bool, message: str) -> None:
        self._services = services
        self._resolver = resolver
        self._caller = caller
        self._may_start = may_start
        self._message = message
        self._lang: Language = "zh" if is_chinese(message) else "en"
        self._known: dict[str, Evidence] = {}
        self._shown: set[str] = set()
        self.intent = intent_of(message)
        self.incident_id: str | None = None
        self.by = "rules"

    async def run(
        self, context: str | None, history: Sequence[tuple[Literal["user", "assistant"], str]]
    ) -> AsyncIterator[ChatEvent]:
        if self.intent in (Intent.HELP, Intent.LIST, Intent.DECIDE):
            for line in await self._general(context):
                yield _token(line.text)
            return
        if self.intent is Intent.START:
            async for event in self._start(context):
                yield event
            return
        subject = await self._resolver.incident(self._message, context)
        if subject.cluster_silent:
            yield ChatEvent("step", {"text": say(self._lang, "unreachable")})
        if self.intent is Intent.RUNBOOK:
            for event in await self._runbooks(subject):
                yield event
            return
        if subject.incident is None or (self.intent is Intent.NONE and self._off_topic(subject)):
            for line in question_back(subject, self.intent, self._lang):
                yield _token(line.text)
            return
        async for event in self._about(subject.incident, subject.mentions.evidence_ids, history):
            yield event

    def _off_topic(self, subject: Subject) -> bool:
        """Words of no known kind that name nothing: by rules there is nothing to say; a model may read the record."""
        return not subject.mentions.named_something and self._services.models is None

    async def _runbooks(self, subject: Subject) -> list[ChatEvent]:
        # words that name no incident are what is asked for; without any, it is what was spoken about
        spoken_about = subject.mentions.named_something or not telling_words(self._message)
        incident = subject.incident if spoken_about else None
        self.incident_id = incident.id if incident else None
        record = await self._record(incident) if incident else None
        lines, found = await runbook_answer(self._services.runbooks, self._message, record, self._lang)
        self._known |= {item.id: item for item in found}
        return [event for line in lines for event in self._events(line)]

    # --- about one incident ---------------------------------------------------------------------------------------

    async def _about(
        self,
        incident: Incident,
        asked: Sequence[str],
        history: Sequence[tuple[Literal["user", "assistant"], str]],
    ) -> AsyncIterator[ChatEvent]:
        self.incident_id = incident.id
        record = await self._record(incident)
        if asked and not any(item.startswith(prefix) for item in self._known for prefix in asked):
            yield _token(say(self._lang, "no_evidence_id", name=asked[0]))
            return
        models, diagnosis = self._services.models, record.diagnosis
        if models is not None and diagnosis is not None and not asked and self.intent in _MODEL_INTENTS:
            yield ChatEvent("step", {"text": f"asking {models.name}"})
            texts = {item.id: await self._services.incidents.whole_text(item) for item in diagnosis.evidence}
            lines = await answer_with_model(
                models,
                question=self._message,
                context=diagnosis,
                texts=texts,
                objects=[incident.target],
                history=history,
                incident_id=incident.id,
            )
            if lines is not None:
                self.by = models.name
                async for text in lines:
                    for event in self._events(Line(_CITED.sub("", text).rstrip(), tuple(_CITED.findall(text)))):
                        yield event
                yield _token(say(self._lang, "model"))
                return
        if self.intent is Intent.NONE and models is not None and not asked:
            yield _token(say(self._lang, "cannot"))
            return
        for line in answer(self.intent, record, self._lang, asked=asked):
            for event in self._events(line):
                yield event

    async def _record(self, incident: Incident) -> Record:
        store = self._services.incidents
        record = Record(
            incident=incident,
            diagnosis=await store.diagnosis(incident.id),
            proposals=await store.proposals(incident.id),
            approvals=await self._services.approvals.list(incident_id=incident.id),
            steps=await store.steps(incident.id),
            evidence=await store.evidence(incident.id),
        )
        self._known |= {item.id: item for item in record.evidence}
        self._known |= {item.id: item for item in (record.diagnosis.evidence if record.diagnosis else [])}
        return record

    def _events(self, line: Line) -> list[ChatEvent]:
        """The line with its citations; each piece of evidence is described the first time."""
        known = [item for item in line.evidence_ids if item in self._known]
        marks = "".join(f" [{item}]" for item in known)
        events = [_token(line.text + marks)]
        for item in (self._known[name] for name in known if name not in self._shown):
            self._shown.add(item.id)
            data: dict[str, object] = {
                "incident_id": self.incident_id,
                "evidence_id": item.id,
                "kind": item.kind.value,
                "source": clean(item.source),
                "excerpt": clean(item.excerpt[:_QUOTE]),
            }
            events.append(ChatEvent("citation", data))
        return events

    # --- answers about no incident ------------------------------------------------------------------------------

    async def _general(self, context: str | None) -> list[Line]:
        if self.intent is Intent.HELP:
            return [Line(say(self._lang, "help"))]
        if self.intent is Intent.LIST:
            found = await self._services.incidents.recent(limit=_LISTED)
            return [candidate(item, self._lang) for item in found] or [Line(say(self._lang, "nothing_known"))]
        lines = [Line(say(self._lang, "no_decision"))]
        subject = await self._resolver.incident(self._message, context)
        if subject.incident is not None:  # what waits there, so that the person finds it
            self.incident_id = subject.incident.id
            lines += waiting(await self._record(subject.incident), self._lang)
        return lines

    # --- starting a diagnosis -------------------------------------------------------------------------------------

    async def _start(self, context: str | None) -> AsyncIterator[ChatEvent]:
        subject = await self._resolver.workload(self._message)
        cluster = self._services.cluster
        nothing_named = not subject.mentions.named_something and subject.mentions.namespace is None
        if nothing_named and context is not None:  # "analyse it": that has been done
            known = await self._services.incidents.get(context)
            async for event in self._about(known, subject.mentions.evidence_ids, ()):
                yield event
            return
        if not self._may_start:
            yield _token(say(self._lang, "start_no_scope"))
            return
        if cluster is None:
            yield _token(say(self._lang, "start_no_cluster"))
            return
        if subject.cluster_silent:
            yield _token(say(self._lang, "unreachable"))
            return
        if subject.ref is not None and subject.ref.kind != "Process":
            async for event in self._diagnose(subject.ref):
                yield event
        elif subject.mentions.namespace is not None and not subject.mentions.named_something:
            monitoring = self._services.monitoring
            diagnosis = await namespace_diagnosis(cluster, subject.mentions.namespace, monitoring)
            yield _token(say(self._lang, "namespace_looked", namespace=subject.mentions.namespace))
            self._known |= {item.id: item for item in diagnosis.evidence}
            for line in causes(diagnosis, self._lang):
                for event in self._events(line):
                    yield event
        elif subject.mentions.unknown or subject.candidates:
            for line in question_back(subject, self.intent, self._lang):
                yield _token(line.text)
        else:
            yield _token(say(self._lang, "start_what"))

    async def _diagnose(self, ref: ObjectRef) -> AsyncIterator[ChatEvent]:
        began = time.time()
        incident = await self._services.runner.submit(
            ref, self._message[:1000], requested_by=self._caller, via=Via.CHAT
        )
        self.incident_id = incident.id
        joined = incident.created_at.timestamp() < began - 1
        yield _token(say(self._lang, "joined" if joined else "started", ref=spoken(ref), id=incident.id))
        async for step in watch(self._services.incidents, incident.id):
            yield ChatEvent("step", {"text": clean(step.text[:500]), "agent": step.agent, "type": step.type})
        incident = await self._services.incidents.get(incident.id)
        if not settled(incident):
            yield _token(say(self._lang, "not_yet"))
            return
        record = await self._record(incident)
        for intent in (Intent.WHAT, Intent.FIX):
            for line in answer(intent, record, self._lang):
                for event in self._events(line):
                    yield event


def _token(text: str) -> ChatEvent:
    return ChatEvent("token", {"text": text.rstrip("\n") + "\n"})
