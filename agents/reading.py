"""A model reads, on top of the rules.

It sees the evidence, what the rules found and some read-only tools, and tests its own hypotheses with them. What it
says is checked statement by statement; what stays is added to the diagnosis, and nothing of the rules is changed. A
model that fails, lies, is slow or has no budget leaves the rules' diagnosis whole, with a note in `unseen`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import structlog

from agents.briefing import observed_objects
from agents.fencing import Fence, clean
from agents.inquiry import Inquiry, Report
from agents.tool_loop import Desk, Reading, ReadTool
from diagnosis.closure import with_closure
from diagnosis.hypotheses import causes_of, ruled_out_by
from errors import ParamedicError
from incidents.models import Diagnosis, Incident, ModelStatements, ObjectRef
from tools.llm.models import Models

__all__ = ["ReadTool", "Reading", "Report", "read_with_model"]

_DEADLINE_CALLS = 8
"""A whole reading may last as long as this many calls that each use their full time."""

log = structlog.get_logger(__name__)


async def read_with_model(
    models: Models | None,
    *,
    agent: str,
    incident: Incident,
    diagnosis: Diagnosis,
    tools: Sequence[ReadTool],
    report: Report,
    whole: Mapping[str, str] | None = None,
    objects: Sequence[ObjectRef] = (),
) -> Diagnosis:
    """The diagnosis with what a model adds: tested hypotheses, candidate causes below the rules', findings, next steps.

    `agent` names the prompt (researcher, gdb_analyst). `report` gets one sentence a step. `whole` maps evidence ids to
    texts longer than their excerpts; `objects` were observed beside those that the rules named. Never raises because of
    the model; without one the diagnosis comes back unchanged.
    """
    if models is None:
        return diagnosis
    seconds = models.settings.timeout * _DEADLINE_CALLS
    inquiry = Inquiry(
        models=models,
        agent=agent,
        incident=incident,
        diagnosis=diagnosis,
        desk=Desk(tools, report, Fence()),
        report=report,
        texts={item.id: clean((whole or {}).get(item.id, item.excerpt)) for item in diagnosis.evidence},
        objects=list(dict.fromkeys([incident.target, *observed_objects(diagnosis), *objects])),
    )
    reason = None
    try:
        await inquiry.run(seconds)
    except TimeoutError:
        reason = f"it took longer than {seconds:.0f} s"
    except ParamedicError as error:
        reason = clean(str(error))
    except Exception as error:
        # the last guard: whatever a model makes our code do, the rules' diagnosis must get through
        log.exception("reading with a model failed", model=models.name, incident=incident.id)
        reason = f"unexpected {type(error).__name__}"
    found = _merged(diagnosis, inquiry, models.name, reason)
    said = found.model_statements
    log.info(
        "model answer checked",
        incident=incident.id,
        agent=agent,
        model=models.name,
        kept=said.kept if said else 0,
        total=said.total if said else 0,
        closure=found.closure,
        failed=reason,
        dropped=[f"{item.part}: {item.reason}" for item in [*inquiry.refused, *inquiry.answer.dropped]],
    )
    if reason is not None:
        await report(found.unseen[-1])
    if said is not None:
        await report(f"the evidence bears {said.kept} of {said.total} statements of the model")
    return found


def _merged(diagnosis: Diagnosis, inquiry: Inquiry, model: str, failed: str | None) -> Diagnosis:
    """The rules' diagnosis first and whole. Of what the model read, only what stays cited becomes evidence."""
    judged, answer, desk = inquiry.judged, inquiry.answer, inquiry.desk
    causes, findings = causes_of(judged, diagnosis, model=model)
    stated = [item for item in judged if item.stated]
    kept = answer.kept + sum(item.fault is None for item in stated)
    dropped = len(answer.dropped) + len(inquiry.refused) + sum(item.fault is not None for item in stated)
    cited = answer.cited.union(*(item.hypothesis.evidence_ids for item in judged))
    known = {item.id for item in diagnosis.evidence}
    notes = []
    if dropped:
        of = f"{dropped} of {kept + dropped} statements of the model {model}"
        notes.append(f"{of} were dropped: the evidence does not bear them")
    if desk.refused:
        names = ", ".join(dict.fromkeys(desk.refused))
        notes.append(f"the model {model} asked for tools that do not exist and got none: {names}")
    if failed is not None:
        tested = sum(item.hypothesis.verdict != "not_tested" for item in judged)
        half = f" after {tested} of {len(judged)} hypotheses" if tested else ""
        notes.append(f"the model {model} {'stopped' if half else 'did not help'}{half}: {failed}")
    said = [text for text in (diagnosis.explanation, answer.explanation) if text]
    merged = diagnosis.model_copy(
        update={
            "causes": [*diagnosis.causes, *causes],
            "findings": list({item.id: item for item in [*diagnosis.findings, *findings, *answer.findings]}.values()),
            "evidence": [*diagnosis.evidence, *(item for item in desk.evidence if item.id in cited - known)],
            "ruled_out": [*diagnosis.ruled_out, *ruled_out_by(judged)],
            "next_steps": [*diagnosis.next_steps, *(f"{step} (the model's suggestion)" for step in answer.next_steps)],
            "unseen": [*diagnosis.unseen, *notes],
            "explanation": "\n\n".join(said) or None,
            "hypotheses": [item.hypothesis for item in judged],
            "model_statements": ModelStatements(kept=kept, total=kept + dropped) if kept + dropped else None,
        }
    )
    return with_closure(merged)
