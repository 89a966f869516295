"""What a model is told of an incident before it may ask: all of it outside text, fenced, within a size."""

from __future__ import annotations

from collections.abc import Mapping

from agents.fencing import Fence, clean, cut
from incidents.models import Diagnosis, Evidence, Incident, ObjectRef

_EVIDENCE_CHARS = 3000
_RECALLED_CHARS = 400


def observed_objects(diagnosis: Diagnosis) -> list[ObjectRef]:
    """The objects that the rules named."""
    found = [cause.object for cause in diagnosis.causes]
    return found + [finding.object for finding in diagnosis.findings if finding.object is not None]


def briefing(
    fence: Fence, diagnosis: Diagnosis, texts: Mapping[str, str], limit: int, *, incident: Incident | None = None
) -> str:
    """All outside text of a prompt, fenced, in at most about `limit` characters. Cited evidence comes first."""
    parts = []
    if incident is not None:
        parts.append(fence.wrap("incident", clean(f"target: {incident.target}\nreported: {cut(incident.event, 1000)}")))
    parts.append(fence.wrap("what the rules found", cut(clean(_findings(diagnosis)), limit // 3)))
    room = limit - sum(len(part) for part in parts)
    cited = {evidence_id for finding in diagnosis.findings for evidence_id in finding.evidence_ids}
    left_out: list[Evidence] = []
    for item in sorted(diagnosis.evidence, key=lambda item: item.id not in cited):
        part = fence.evidence(item, cut(texts.get(item.id, ""), _EVIDENCE_CHARS))
        if len(part) > room:
            left_out.append(item)
            continue
        room -= len(part)
        parts.append(part)
    if left_out:
        parts.append(f"{len(left_out)} more pieces of evidence did not fit.")
    return "\n\n".join(parts)


def _findings(diagnosis: Diagnosis) -> str:
    lines = [f"status: {diagnosis.status.value}"]
    for cause in diagnosis.causes:
        where = str(cause.object)
        lines.append(f"cause {cause.cause_class.value} in {where} (confidence {cause.confidence:.2f}): {cause.summary}")
    lines += [f"finding [{', '.join(item.evidence_ids)}]: {item.claim}" for item in diagnosis.findings]
    lines += [f"ruled out: {text}" for text in diagnosis.ruled_out]
    lines += [f"could not be seen: {text}" for text in diagnosis.unseen]
    for item in diagnosis.recalled:
        borne = {True: "borne out now", False: "not borne out now", None: "not checked"}[item.borne_out]
        lines.append(f"remembered, {borne} [{', '.join(item.evidence_ids)}]: {cut(item.text, _RECALLED_CHARS)}")
    if diagnosis.crash is not None and diagnosis.crash.mechanism:
        lines.append(f"mechanism: {diagnosis.crash.mechanism}")
    return "\n".join(lines)
