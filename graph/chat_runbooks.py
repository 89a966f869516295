"""What the team's runbooks say to a question in the chat: quoted with file, heading and lines, never paraphrased."""

from __future__ import annotations

from agents.fencing import clean
from agents.runbooks import cut, evidence_of
from errors import ParamedicError
from graph.chat_answers import Line, Record
from graph.chat_texts import Language, say
from incidents.models import Evidence
from tools.runbooks.asking import question_of
from tools.runbooks.library import Runbooks
from tools.runbooks.words import telling_words

_SHOWN = 3


async def runbook_answer(
    runbooks: Runbooks | None, message: str, record: Record | None, language: Language
) -> tuple[list[Line], list[Evidence]]:
    """The passages that the incident's diagnosis recalled, then those that have the words of the message.

    With the evidence that the lines cite and the record may not hold.
    """
    if runbooks is None:
        return [Line(say(language, "no_runbooks"))], []
    lines: dict[str, Line] = {}
    notes: list[Line] = []
    found: list[Evidence] = []
    for item in record.diagnosis.recalled if record and record.diagnosis else ():
        if item.kind == "runbook":
            checked = f" ({item.checked})" if item.borne_out is not None else ""
            lines[item.source] = _line(language, item.source, checked, item.text, tuple(item.evidence_ids))
    if record is not None and record.incident.target.namespace:
        message = message.replace(f"{record.incident.target.namespace}/", " ")
    if telling_words(message):
        try:
            answer = await runbooks.search(question_of(message), limit=_SHOWN)
        except ParamedicError as error:
            return [*lines.values(), Line(clean(str(error)))], []
        for hit in answer.hits:
            evidence = evidence_of(hit)
            if evidence.source not in lines:
                found.append(evidence)
                text = cut(hit.passage.text)
                lines[evidence.source] = _line(language, evidence.source, "", text, (evidence.id,))
        notes = [Line(say(language, "unseen", list=clean(note))) for note in answer.notes]
    return [*(lines.values() or [Line(say(language, "runbook_none"))]), *notes], found


def _line(language: Language, source: str, checked: str, text: str, evidence_ids: tuple[str, ...]) -> Line:
    said = say(language, "runbook", source=clean(source), checked=clean(checked), text=clean(text))
    return Line(said, evidence_ids)
