"""Volumes as a container sees them: which mount a path lies on, what kind of volume it is, who may write there."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from diagnosis.workloads.containers import Container
from diagnosis.workloads.fields import mapping, number, objects, pick, text

_QUOTED_PATH = re.compile(r"[\"'`«](?P<path>/[^\"'`\s»]{1,300})[\"'`»]")
_PATH = re.compile(r"(?:^|[\s=(:])(?P<path>/[\w./+@%~-]{0,300}[\w/~-])")
_CODE = re.compile(r"\.(?:py|go|js|ts|java|rb|c|cc|cpp|h|rs|php)$")
_SYSTEM = ("/usr/bin/", "/bin/", "/usr/sbin/", "/sbin/", "/usr/lib/", "/usr/local/bin/", "/usr/local/lib/")


@dataclass(frozen=True)
class Mount:
    """One volume mount. `at` and `volume_at` are JSON pointers into the pod."""

    path: str
    volume: str
    kind: str
    read_only: bool
    sub_path: str
    claim: str | None
    size_limit: str | None
    at: str
    volume_at: str

    @property
    def words(self) -> str:
        if self.claim:
            return f"PersistentVolumeClaim {self.claim}"
        return f"{self.kind} limited to {self.size_limit}" if self.size_limit else self.kind


def mounts_of(container: Container) -> list[Mount]:
    """The volume mounts of a container, each with its volume."""
    volumes = {text(v, "name"): (index, v) for index, v in enumerate(objects(container.pod, "spec", "volumes"))}
    found = []
    for index, mount in enumerate(objects(container.spec, "volumeMounts")):
        at, volume = volumes.get(text(mount, "name"), (-1, {}))
        kind = next((key for key in volume if key != "name"), "unknown")
        found.append(
            Mount(
                path=text(mount, "mountPath"),
                volume=text(mount, "name"),
                kind=kind,
                read_only=pick(mount, "readOnly") is True or pick(volume, kind, "readOnly") is True,
                sub_path=text(mount, "subPath") or text(mount, "subPathExpr"),
                claim=text(volume, "persistentVolumeClaim", "claimName") or None,
                size_limit=text(volume, "emptyDir", "sizeLimit") or None,
                at=f"{container.spec_at}/volumeMounts/{index}",
                volume_at=f"/spec/volumes/{at}" if at >= 0 else f"{container.spec_at}/volumeMounts/{index}",
            )
        )
    return found


def mount_at(mounts: Sequence[Mount], path: str) -> Mount | None:
    """The mount that a path lies on: the longest mount path that it starts with."""
    fitting = [mount for mount in mounts if mount.path and (path + "/").startswith(mount.path.rstrip("/") + "/")]
    return max(fitting, key=lambda mount: len(mount.path), default=None)


def path_in(line: str) -> str | None:
    """The path of a file or directory that a line complains about: the last one that is no program or source file."""
    for pattern in (_QUOTED_PATH, _PATH):
        found = [match["path"] for match in pattern.finditer(line[:800])]
        usable = [path for path in found if not _CODE.search(path) and not path.startswith(_SYSTEM) and path != "/"]
        if usable:
            return usable[-1].rstrip("/:.") or None
    return None


@dataclass(frozen=True)
class User:
    """Who a container runs as, as far as its security context says; None: the image's own user."""

    uid: int | None
    group: int | None
    fs_group: int | None
    read_only_root: bool
    at: str

    @property
    def words(self) -> str:
        who = f"user {self.uid}" if self.uid is not None else "the image's user"
        return f"{who}, fsGroup {self.fs_group}" if self.fs_group is not None else f"{who}, without fsGroup"


def user_of(container: Container) -> User:
    """The container's security context over the pod's. `at` points at the one that says most."""
    own, pod = mapping(container.spec, "securityContext"), mapping(container.pod, "spec", "securityContext")

    def first(field: str) -> int | None:
        mine = number(own, field)
        return number(pod, field) if mine is None else mine

    at = f"{container.spec_at}/securityContext" if own else "/spec/securityContext" if pod else container.spec_at
    return User(first("runAsUser"), first("runAsGroup"), number(pod, "fsGroup"),
                pick(own, "readOnlyRootFilesystem") is True, at)  # fmt: skip
