"""A JSON Patch of one object."""

from __future__ import annotations

from actions.effects.base import Expected, Look, Rehearsal
from actions.objects import fingerprint, generation, spec_sha256, template_of, uid
from actions.preview import object_diff
from errors import Refused, Stale
from incidents.plan import PatchWrite
from tools.kubernetes.client import Cluster, KubernetesError, Object
from tools.kubernetes.writer import Writer


class PatchEffect:
    """Recognised by uid, generation (where the kind has one) and the sha256 of the spec."""

    atomic = True
    patience = 10.0

    def __init__(self, cluster: Cluster, write: PatchWrite) -> None:
        self._cluster = cluster
        self._writer = Writer(cluster)
        self._write = write
        self._name = name_of(write)

    async def read(self) -> Object | None:
        write = self._write
        return await self._cluster.get(write.api_version, write.kind, write.namespace, write.name)

    async def require_unchanged(self) -> None:
        live = await self.read()
        if live is None:
            raise Stale(f"{self._name} is gone")
        if uid(live) != self._write.uid:
            raise Stale(f"{self._name} was deleted and created again")
        if generation(live) != self._write.generation or fingerprint(live) != self._write.fingerprint:
            raise Stale(f"{self._name} was edited since the plan was made")

    async def rehearse(self) -> Rehearsal:
        before = await self.read()
        if before is None:
            raise Stale(f"{self._name} is gone")
        try:
            after = await self._writer.patch(self._write, dry_run=True)
        except KubernetesError as error:
            if error.code >= 500:
                raise
            raise Stale(f"the server's dry run refuses the change of {self._name}: {error.server_message}") from error
        expected: Expected = {"generation": generation(after), "spec": spec_sha256(after)}
        return Rehearsal(
            diff=object_diff(before, after),
            expected=expected,
            before=before,
            after=after,
            templates=[template_of(before), template_of(after)],
            starting=[template_of(after)],
        )

    async def send(self) -> Expected:
        answer = await self._writer.patch(self._write, dry_run=False)
        return {"generation": generation(answer), "spec": spec_sha256(answer)}

    async def look(self, expected: Expected) -> tuple[Look, Expected]:
        live = await self.read()
        if live is None or uid(live) != self._write.uid:
            return Look.FOREIGN, {}
        seen: Expected = {"generation": generation(live), "spec": spec_sha256(live)}
        unmoved = generation(live) == self._write.generation
        if unmoved and (self._write.generation or fingerprint(live) == self._write.fingerprint):
            return Look.BEFORE, seen
        return (Look.AFTER if seen == expected else Look.FOREIGN), seen


def require_advances(write: PatchWrite, rehearsal: Rehearsal) -> None:
    """A patch that leaves the generation alone cannot be recognised afterwards. Raises Refused."""
    assert rehearsal.before is not None
    unmoved = rehearsal.expected["generation"] == write.generation
    if unmoved and (write.generation or rehearsal.expected["spec"] == spec_sha256(rehearsal.before)):
        raise Refused(f"{name_of(write)} has this already: there is nothing to change")


def name_of(write: PatchWrite) -> str:
    """Such as `Deployment shop/api`, or `Node n1`."""
    return f"{write.kind} {f'{write.namespace}/' if write.namespace else ''}{write.name}"
