"""Which revisions of a helm release would change anything: those whose manifest is not the present one."""

from __future__ import annotations

from tools.helm.client import Helm, Revision

MAX_COMPARED = 5
"""So many deployed revisions before the present one are looked at; older ones are left out."""


async def useful_history(helm: Helm, namespace: str, release: str) -> list[Revision]:
    """The present revision, last, and the earlier ones worth going back to. Raises ToolFailed, NotFound.

    An upgrade that changed nothing, or a rollback to what runs now, leaves a revision that repairs nothing.
    """
    history = sorted(await helm.history(namespace, release), key=lambda item: item.number)
    if len(history) < 2:
        return history
    current = history[-1]
    manifest = await helm.get("manifest", namespace, release, current.number)
    kept = []
    ran = [item for item in history[:-1] if item.status in ("superseded", "deployed")]
    for item in ran[-MAX_COMPARED:]:
        if await helm.get("manifest", namespace, release, item.number) != manifest:
            kept.append(item)
    return [*kept, current]
