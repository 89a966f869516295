"""One diagnosis out of what the specialists found about the same incident."""

from __future__ import annotations

from collections.abc import Iterable

from diagnosis.closure import with_closure
from incidents.models import Cause, CauseClass, Diagnosis, DiagnosisStatus, ModelStatements, Moment, ObjectRef

CRASH_CLASSES = frozenset(
    {
        CauseClass.NULL_DEREFERENCE,
        CauseClass.WILD_POINTER,
        CauseClass.STACK_OVERFLOW,
        CauseClass.ABORT,
        CauseClass.HEAP_CORRUPTION,
        CauseClass.STACK_SMASHING,
        CauseClass.ASSERTION,
        CauseClass.UNCAUGHT_EXCEPTION,
        CauseClass.PANIC,
        CauseClass.ARITHMETIC,
        CauseClass.ILLEGAL_INSTRUCTION,
        CauseClass.BUS_ERROR,
    }
)
"""What only the program's own code can cause. Configuration cannot repair it."""

_READ_A_CORE = "`paramedic diagnose core "  # as the analyzer of native crashes advises

CODE_FAULTS = CRASH_CLASSES | {CauseClass.NATIVE_CRASH}


def merge(workload: Diagnosis | None, crash: Diagnosis | None, metrics: Diagnosis | None = None) -> Diagnosis:
    """Join what the cluster shows with what the core shows, and with what was measured.

    The core explains a crash that the cluster only sees as a signal: a `native_crash` cause takes the core's class
    and mechanism, and keeps its object and facts. Any side may be missing; all missing is a failed diagnosis.
    """
    if metrics is not None:
        seen = [item for item in (workload, crash) if item is not None]
        return with_closure(_with_metrics(merge(workload, crash), metrics) if seen else metrics)
    if workload is None or crash is None:
        only = workload or crash
        failed = Diagnosis(status=DiagnosisStatus.FAILED, unseen=["no specialist could look at anything"])
        return with_closure(only or failed)
    suggested = {item.id for item in [*workload.findings, *crash.findings] if item.source == "model"}
    joined = _join(list(workload.causes), list(crash.causes))
    # what a model alone suggests ranks behind every rule's cause, and makes no diagnosis
    causes = sorted(joined, key=lambda cause: suggested.issuperset(cause.finding_ids))
    status = workload.status
    if any(not suggested.issuperset(cause.finding_ids) for cause in causes):
        status = DiagnosisStatus.DIAGNOSED
    elif status is DiagnosisStatus.FAILED:
        status = crash.status
    joint = Diagnosis(
        status=status,
        causes=causes,
        findings=_unique([*crash.findings, *workload.findings], lambda item: item.id),
        evidence=_unique([*crash.evidence, *workload.evidence], lambda item: item.id),
        ruled_out=_unique([*workload.ruled_out, *crash.ruled_out], str),
        unseen=_unique([*workload.unseen, *crash.unseen], str),
        next_steps=_unique([*crash.next_steps, *_left_to_do(workload, crash)], str),
        timeline=_timeline(workload, crash),
        recalled=_unique([*crash.recalled, *workload.recalled], lambda item: (item.kind, item.source)),
        crash=crash.crash,
        signature=crash.signature or workload.signature,
        explanation="\n\n".join(text for text in (crash.explanation, workload.explanation) if text) or None,
        hypotheses=[*workload.hypotheses, *crash.hypotheses],
        model_statements=_statements(workload, crash),
    )
    return with_closure(joint)


def _with_metrics(joint: Diagnosis, metrics: Diagnosis) -> Diagnosis:
    """Measurements add to what is known. That a workload's changed first is a cause without a class: it counts only
    where nothing else names one, and then what looked healthy is not."""
    suggested = {item.id for item in metrics.findings if item.source == "model"}
    causes = [cause for cause in metrics.causes if not joint.causes or suggested.issuperset(cause.finding_ids)]
    status = joint.status
    if metrics.status is DiagnosisStatus.UNKNOWN and status in (DiagnosisStatus.HEALTHY, DiagnosisStatus.FAILED):
        status = DiagnosisStatus.UNKNOWN if causes else status
    return joint.model_copy(
        update={
            "status": status,
            "causes": [*joint.causes, *causes],
            "findings": _unique([*joint.findings, *metrics.findings], lambda item: item.id),
            "evidence": _unique([*joint.evidence, *metrics.evidence], lambda item: item.id),
            "ruled_out": _unique([*joint.ruled_out, *metrics.ruled_out], str),
            "unseen": _unique([*joint.unseen, *metrics.unseen], str),
            "next_steps": _unique([*joint.next_steps, *metrics.next_steps], str),
            "timeline": _timeline(joint, metrics),
            "explanation": "\n\n".join(text for text in (joint.explanation, metrics.explanation) if text) or None,
            "hypotheses": [*joint.hypotheses, *metrics.hypotheses],
            "model_statements": _statements(joint, metrics),
        }
    )


def _left_to_do(workload: Diagnosis, crash: Diagnosis) -> list[str]:
    """The workload's next steps, without reading a core where one was read."""
    return [step for step in workload.next_steps if crash.crash is None or _READ_A_CORE not in step]


def _statements(workload: Diagnosis, crash: Diagnosis) -> ModelStatements | None:
    said = [item.model_statements for item in (workload, crash) if item.model_statements is not None]
    if not said:
        return None
    return ModelStatements(kept=sum(item.kept for item in said), total=sum(item.total for item in said))


def _timeline(workload: Diagnosis, crash: Diagnosis) -> list[Moment]:
    moments = _unique([*workload.timeline, *crash.timeline], lambda item: (item.at, item.kind, item.object, item.text))
    return sorted(moments, key=lambda item: item.at)


def _join(workload: list[Cause], crash: list[Cause]) -> list[Cause]:
    if not crash:
        return workload
    top = crash[0]
    for index, cause in enumerate(workload):
        if cause.cause_class is CauseClass.NATIVE_CRASH and top.cause_class in CRASH_CLASSES:
            joined = top.model_copy(
                update={
                    "object": cause.object,
                    "facts": {**top.facts, **cause.facts},
                    "finding_ids": [*top.finding_ids, *cause.finding_ids],
                    "confidence": max(top.confidence, cause.confidence),
                }
            )
            return [joined, *workload[:index], *workload[index + 1 :], *crash[1:]]
    # a core that fits no crash the cluster saw is still an observation; it ranks by its own confidence
    return sorted([*workload, *crash], key=lambda item: -item.confidence)


def crashed_container(diagnosis: Diagnosis) -> ObjectRef | None:
    """The container whose crash by a signal is the first-ranked such cause, with `facts` naming its pod."""
    for cause in diagnosis.causes:
        if cause.cause_class in CODE_FAULTS:
            return cause.object
    return None


def _unique(items: Iterable, key) -> list:  # type: ignore[no-untyped-def,type-arg]
    seen: dict[object, object] = {}
    for item in items:
        seen.setdefault(key(item), item)
    return list(seen.values())
