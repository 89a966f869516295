"""Questions back: what the chat must know before it can answer."""

from __future__ import annotations

from agents.fencing import clean
from graph.chat_answers import Line
from graph.chat_texts import Language, say, status_word
from graph.intents import Intent
from graph.subject import Subject
from incidents.models import Incident, ObjectRef


def question_back(subject: Subject, intent: Intent, language: Language) -> list[Line]:
    """What is missing, as one question."""
    if intent is Intent.NONE and not subject.mentions.named_something:
        return [Line(say(language, "cannot"))]
    if subject.mentions.unknown is not None:
        key = "no_incident_id" if subject.mentions.unknown.startswith("inc_") else "unknown_name"
        lines = [Line(say(language, key, name=clean(subject.mentions.unknown)))]
        if subject.close:
            lines.append(Line(say(language, "close", names=", ".join(subject.close))))
        return lines
    if subject.ref is not None:
        return [Line(say(language, "no_incident", ref=spoken(subject.ref)))]
    if not subject.candidates:
        return [Line(say(language, "nothing_known"))]
    return [Line(say(language, "which")), *(candidate(item, language) for item in subject.candidates)]


def candidate(item: Incident | ObjectRef, language: Language) -> Line:
    """One line of a list to choose from."""
    if isinstance(item, ObjectRef):
        return Line(say(language, "candidate_ref", what=clean(spoken(item))))
    status = status_word(language, item.status.value)
    return Line(say(language, "candidate", what=clean(str(item.target)), status=status, id=item.id))


def spoken(ref: ObjectRef) -> str:
    """As a person would type it back: "deployment shop/api"."""
    where = f"{ref.namespace}/" if ref.namespace else ""
    return f"{ref.kind.lower()} {where}{ref.name}"
