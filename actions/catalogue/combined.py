"""Several changes of one workload's pod template as one patch: one preview, one rollout, one undo."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from actions.catalogue.draft import Draft
from actions.patches import forward_body
from errors import Refused, Stale
from incidents.actions import Combined, TemplateChange
from incidents.plan import PatchWrite, Risk

_RISKS = (Risk.LOW, Risk.MEDIUM, Risk.HIGH)


def parts_of(action: Combined) -> list[TemplateChange]:
    """Raises Refused when a part is about something else."""
    for part in action.parts:
        if part.target != action.target:
            raise Refused(f"{part.target} is not {action.target}: one patch changes one object")
    return action.parts


def derive(drafts: Sequence[Draft]) -> Draft:
    """One draft of all. Raises Refused when two parts change the same field, Stale when the object moved meanwhile."""
    first = drafts[0]
    write = _patch(first)
    changes = [change for draft in drafts for change in draft.changes]
    guards = list(dict.fromkeys(guard for draft in drafts for guard in draft.guards))
    for draft in drafts[1:]:
        if (_patch(draft).uid, _patch(draft).fingerprint) != (write.uid, write.fingerprint):
            raise Stale(f"{write.kind} {write.name} was edited while the plan was made")
    paths = [change.path for change in changes]
    for index, path in enumerate(paths):
        if any(_overlap(path, other) for other in paths[index + 1 :]):
            raise Refused(f"two of the changes are about {path}")
    return replace(
        first,
        title="; ".join(draft.title for draft in drafts),
        writes=[
            write.model_copy(update={"body": forward_body(write.uid, write.generation, guards, changes)}),
            *first.writes[1:],
        ],
        risk=max((draft.risk for draft in drafts), key=_RISKS.index),
        blast_radius="; ".join(dict.fromkeys(draft.blast_radius for draft in drafts)),
        changes=changes,
        guards=guards,
        allowed=[path for draft in drafts for path in draft.allowed],
        containers=sorted({name for draft in drafts for name in draft.containers}),
    )


def _patch(draft: Draft) -> PatchWrite:
    write = draft.writes[0]
    assert isinstance(write, PatchWrite)
    return write


def _overlap(one: str, other: str) -> bool:
    return one == other or one.startswith(other + "/") or other.startswith(one + "/")
