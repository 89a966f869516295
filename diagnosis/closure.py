"""How much of what was stated on the way to a diagnosis its evidence bears."""

from __future__ import annotations

from incidents.models import Diagnosis, Hypothesis


def with_closure(diagnosis: Diagnosis) -> Diagnosis:
    """The diagnosis with its `closure`; see the field for what it means.

    A rule's finding counts as borne when all its evidence is there, a rule's cause when all its findings are. What a
    model stated is counted by the checker: dropped statements are in no finding any more.
    """
    evidence = {item.id for item in diagnosis.evidence}
    findings = {item.id for item in diagnosis.findings}
    suggested = {item.id for item in diagnosis.findings if item.source == "model"}
    borne = [evidence.issuperset(finding.evidence_ids) for finding in diagnosis.findings if finding.id not in suggested]
    borne += [
        findings.issuperset(cause.finding_ids)
        for cause in diagnosis.causes
        if not suggested.issuperset(cause.finding_ids)
    ]
    said = diagnosis.model_statements
    kept, total = (said.kept, said.total) if said else (0, 0)
    total += len(borne)
    return diagnosis.model_copy(update={"closure": (sum(borne) + kept) / total if total else None})


def closure_line(diagnosis: Diagnosis) -> str | None:
    """The closure in words, for people; None where nothing was stated."""
    if diagnosis.closure is None:
        return None
    said = diagnosis.model_statements
    of_model = f"; of {said.total} statements of a model, {said.kept}" if said else ""
    return f"The evidence bears {diagnosis.closure:.0%} of what was stated{of_model}"


def hypothesis_line(hypothesis: Hypothesis) -> str:
    """A tested hypothesis in one line: what, what became of it, and why."""
    what = f"{hypothesis.cause_class.value} in {hypothesis.object}"
    cited = f" [{', '.join(hypothesis.evidence_ids)}]" if hypothesis.evidence_ids else ""
    return f"{hypothesis.verdict.replace('_', ' ')}: {what}: {hypothesis.because}{cited}"
