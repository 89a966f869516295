"""The deletion of one object of exactly one uid."""

from __future__ import annotations

from actions.effects.base import Expected, Look, Rehearsal
from actions.objects import controller_of, fingerprint, metadata, template_of, uid
from errors import Stale
from incidents.plan import DeleteWrite
from tools.kubernetes.client import Cluster, KubernetesError, Object
from tools.kubernetes.writer import Writer


class DeleteEffect:
    """Recognised by the uid: gone, or being deleted, is done."""

    atomic = True
    patience = 10.0

    def __init__(self, cluster: Cluster, write: DeleteWrite) -> None:
        self._cluster = cluster
        self._writer = Writer(cluster)
        self._write = write
        self._name = f"{write.kind} {write.namespace}/{write.name}"

    async def _read(self) -> Object | None:
        write = self._write
        return await self._cluster.get(write.api_version, write.kind, write.namespace, write.name)

    async def _same(self) -> Object:
        live = await self._read()
        if live is None:
            raise Stale(f"{self._name} is gone already")
        if uid(live) != self._write.uid:
            raise Stale(f"{self._name} is another one of the same name")
        if metadata(live).get("deletionTimestamp"):
            raise Stale(f"{self._name} is being deleted already")
        return live

    async def require_unchanged(self) -> None:
        if fingerprint(await self._same()) != self._write.fingerprint:
            raise Stale(f"{self._name} was edited since the plan was made")

    async def rehearse(self) -> Rehearsal:
        live = await self._same()
        try:
            await self._writer.delete(self._write, dry_run=True)
        except KubernetesError as error:
            if error.code >= 500:
                raise
            raise Stale(f"the server's dry run refuses to delete {self._name}: {error.server_message}") from error
        owner = controller_of(live) or {}
        diff = (
            f"--- {self._name} uid {self._write.uid}\n+++ deleted; {owner.get('kind')} {owner.get('name')} "
            "makes a new one from its template"
        )
        return Rehearsal(diff=diff, expected={"deleted": self._write.uid}, before=live, templates=[template_of(live)])

    async def send(self) -> Expected:
        await self._writer.delete(self._write, dry_run=False)
        return {"deleted": self._write.uid}

    async def look(self, expected: Expected) -> tuple[Look, Expected]:
        live = await self._read()
        if live is None or uid(live) != self._write.uid or metadata(live).get("deletionTimestamp"):
            return Look.AFTER, expected
        return Look.BEFORE, {}
