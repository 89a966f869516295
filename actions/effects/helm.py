"""A helm rollback or uninstall.

helm checks nothing for us, so the release is bound by its revision number, the uid and resourceVersion of the Secret
that stores the revision, and the digests of its values and manifest. An inverse has no storage binding yet (empty
`storage_uid`): it follows our own write directly, and is recognised by the revision that we left.
"""

from __future__ import annotations

import asyncio

from actions.effects.base import Expected, Look, Rehearsal
from actions.preview import mask_manifest_object, text_diff, to_yaml
from errors import NotFound, Stale
from incidents.plan import HelmWrite, canonical_json
from tools.helm.client import Helm, Part, Revision, sha256, storage_secret
from tools.helm.command import HelmFailed
from tools.helm.manifest import is_kept, manifest_objects, name_of
from tools.kubernetes.client import Cluster

SETTLED = ("deployed", "failed")
"""A rollback that ended, well or not: verification tells which."""


class HelmEffect:
    """A rollback makes revision N+1 described `Rollback to R`; an uninstall marks revision N `uninstalled`."""

    atomic = False

    def __init__(self, cluster: Cluster, helm: Helm, write: HelmWrite) -> None:
        self._cluster = cluster
        self._helm = helm
        self._write = write
        self.patience = helm.write_timeout + 10.0
        self._name = f"helm release {write.namespace}/{write.release}"

    async def require_unchanged(self) -> None:
        write = self._write
        current = await self._current()
        if current is None:
            raise Stale(f"{self._name} is gone")
        if current.number != write.revision:
            raise Stale(f"{self._name} moved from revision {write.revision} to {current.number}")
        if current.status.startswith("pending") or current.status in ("uninstalling", "uninstalled"):
            raise Stale(f"{self._name} is {current.status}")
        if not await self._stored_as_bound():
            raise Stale(f"the stored revision {write.revision} of {self._name} was changed")
        try:
            values = await self._helm.get("values", write.namespace, write.release, write.revision)
            manifest = await self._helm.get("manifest", write.namespace, write.release, write.revision)
        except NotFound as error:
            raise Stale(f"{self._name} is gone") from error
        if (sha256(values), sha256(manifest)) != (write.values_sha256, write.manifest_sha256):
            raise Stale(f"values or manifest of {self._name} were changed")

    async def rehearse(self) -> Rehearsal:
        write = self._write
        now = await self._helm.get("manifest", write.namespace, write.release, write.revision)
        try:
            if write.verb == "rollback":
                assert write.to_revision is not None
                goal = await self._helm.get("manifest", write.namespace, write.release, write.to_revision)
                await self._helm.rollback(write.namespace, write.release, write.to_revision, dry_run=True)
                names = (f"{self._name} revision {write.revision}", f"{self._name} revision {write.to_revision} again")
                diff = await asyncio.to_thread(_difference, now, goal, *names)  # manifests can be megabytes
                expected: Expected = {"revision": write.revision + 1, "manifest": sha256(goal)}
                return Rehearsal(diff=diff, expected=expected)
            await self._helm.uninstall(write.namespace, write.release, dry_run=True)
        except (HelmFailed, NotFound) as error:
            raise Stale(f"helm's dry run refuses: {error}") from error
        diff = await asyncio.to_thread(_removal, self._name, now)
        return Rehearsal(diff=diff, expected={"revision": write.revision})

    async def send(self) -> Expected:
        write = self._write
        try:
            if write.verb == "rollback":
                assert write.to_revision is not None
                await self._helm.rollback(write.namespace, write.release, write.to_revision, dry_run=False)
                return {"revision": write.revision + 1}
            await self._helm.uninstall(write.namespace, write.release, dry_run=False)
        except NotFound as error:
            raise HelmFailed(str(error)) from error
        return {"revision": write.revision}

    async def look(self, expected: Expected) -> tuple[Look, Expected]:
        current = await self._current()
        if current is None:
            return Look.FOREIGN, {}
        seen: Expected = {"revision": current.number, "status": current.status}
        return await self._classify(current), seen

    async def _classify(self, current: Revision) -> Look:
        write = self._write
        ours = current.number == write.revision + 1 and current.description == f"Rollback to {write.to_revision}"
        if current.number == write.revision:
            if write.verb == "uninstall" and current.status in ("uninstalled", "uninstalling"):
                return Look.AFTER if current.status == "uninstalled" else Look.WORKING
            return Look.BEFORE if await self._stored_as_bound() else Look.FOREIGN
        if write.verb == "rollback" and current.number == write.revision + 1:
            if current.status == "pending-rollback":
                return Look.WORKING
            # a rollback that failed half way is described by its error
            if ours or current.status == "failed":
                return Look.AFTER
        return Look.FOREIGN

    async def _current(self) -> Revision | None:
        try:
            return await self._helm.status(self._write.namespace, self._write.release)
        except NotFound:
            return None

    async def _stored_as_bound(self) -> bool:
        if not self._write.storage_uid:
            return True
        uid, version = await storage_version(
            self._cluster, self._write.namespace, self._write.release, self._write.revision
        )
        return (uid, version) == (self._write.storage_uid, self._write.storage_resource_version)


async def storage_version(cluster: Cluster, namespace: str, release: str, revision: int) -> tuple[str, str]:
    """uid and resourceVersion of the Secret that stores a revision; empty when there is none."""
    found = await cluster.get("v1", "Secret", namespace, storage_secret(release, revision))
    if found is None:
        return "", ""
    return str(found["metadata"]["uid"]), str(found["metadata"]["resourceVersion"])


async def undo_record(helm: Helm, write: HelmWrite) -> str:
    """Values, manifest and hooks of the release as JSON: the durable record from before a write. May hold secrets."""
    parts: tuple[Part, ...] = ("values", "manifest", "hooks")
    kept = {part: await helm.get(part, write.namespace, write.release, write.revision) for part in parts}
    return canonical_json({"revision": write.revision} | kept).decode()


def _difference(now: str, goal: str, now_name: str, goal_name: str) -> str:
    return text_diff(_shown(now), _shown(goal), now_name, goal_name)


def _shown(manifest: str) -> str:
    """The manifest for people: objects sorted by kind and name, secret values masked."""
    objects = sorted(manifest_objects(manifest), key=lambda item: (str(item["kind"]), str(item["metadata"]["name"])))
    return "---\n".join(to_yaml(mask_manifest_object(item)) for item in objects)


def _removal(name: str, manifest: str) -> str:
    lines = [f"--- {name}", "+++ uninstalled; its history is kept"]
    for item in manifest_objects(manifest):
        lines.append(f" {name_of(item)} (kept by its policy)" if is_kept(item) else f"-{name_of(item)}")
        templates = (item.get("spec") or {}).get("volumeClaimTemplates")
        if item["kind"] == "StatefulSet" and templates:
            lines.append(f" the claims of {name_of(item)} stay; nothing deletes them")
    return "\n".join(lines)
