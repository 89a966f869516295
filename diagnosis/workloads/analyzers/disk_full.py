"""A program that cannot write because its disk is full, with the volume that the path lies on."""

from __future__ import annotations

import re
from collections.abc import Iterable

from diagnosis.workloads.contract import Claim, Documented, Found
from diagnosis.workloads.evidence import of_object
from diagnosis.workloads.fields import quantity
from diagnosis.workloads.log_rules import Complaint, complaints, rule
from diagnosis.workloads.scope import Scope
from diagnosis.workloads.volumes import Mount, mount_at, mounts_of, path_in
from incidents.models import CauseClass, Fact, Severity

NAME = "disk_full"
READS = ("Pod",)
RULED_OUT = "disk space: no failing container's log tells of a full disk"
CAUSES = {
    CauseClass.DISK_FULL: Documented(
        "A program cannot write because the file system is full.",
        "The program's own log line, and the volume that the path in it lies on.",
        "None by itself: what may be deleted, or how large the volume should be, a person must say.",
    )
}

RULES = (
    rule("", r"no space left on device|\bENOSPC\b|disk quota exceeded|\bEDQUOT\b|not enough (?:disk )?space on"
         r"|could not extend file \"|database or disk is full|磁盘(?:空间不足|已满)|\bdisk is full writing\b"),
    rule("etcd", r"etcdserver: mvcc: database space exceeded"),
    rule("elasticsearch", r"flood[- ]stage (?:disk )?watermark"),
    rule("mysql", r"the table '[^']{1,120}' is full|ER_RECORD_FILE_FULL"),
)  # fmt: skip
_NOT_A_DISK = re.compile(r"inotify|file watch|semaphore|semget|shmget|shared memory|sem_open", re.IGNORECASE)
_EMPTY_DIR_LOW = 64 << 20


def find(scope: Scope) -> Iterable[Found]:
    for complaint in complaints(scope, RULES):
        if not _NOT_A_DISK.search(complaint.line.text):
            yield _found(scope, complaint)


def _found(scope: Scope, complaint: Complaint) -> Found:
    container, owner, now = complaint.container, scope.owner(complaint.container), scope.snapshot.observed_at
    path = path_in(complaint.line.text)
    mounts = mounts_of(container)
    mount = mount_at(mounts, path) if path else None
    claims = complaint.claims(scope)
    facts: dict[str, Fact] = {"log_line": complaint.line.text, "path": path}
    where = f" on {path}" if path else ""
    if mount is not None:
        facts |= {"volume": mount.volume, "volume_kind": mount.kind, "claim": mount.claim, "mount_path": mount.path}
        shown = [of_object(container.pod, mount.at, now), of_object(container.pod, mount.volume_at, now)]
        claims.append(Claim(f"{path} lies on volume {mount.volume} ({mount.kind})", shown, Severity.INFO))
        where += f", volume {mount.volume} ({mount.words})"
        if mount.size_limit:
            facts["size_limit"] = mount.size_limit
    return Found(
        CauseClass.DISK_FULL,
        owner,
        complaint.confidence + 0.02,
        f"Container {container.name} of {owner.kind} {owner.name} cannot write: the disk is full{where}.",
        claims,
        facts={key: value for key, value in facts.items() if value is not None},
        place=container.pod_name,
        subject=mount.volume if mount else "",
        next_steps=[_step(mount, path)],
    )


def _step(mount: Mount | None, path: str | None) -> str:
    what = f"See what fills {path}" if path else "See which file system is full and what fills it"
    if mount is None:
        return f"{what}; the container's own file system lies on the node's disk"
    if mount.claim:
        return f"{what}; delete what is not needed or enlarge PersistentVolumeClaim {mount.claim}"
    if mount.kind == "emptyDir":
        small = mount.size_limit and (quantity(mount.size_limit) or 0) < _EMPTY_DIR_LOW
        return f"{what}; {'raise' if small else 'look at'} the limit of emptyDir {mount.volume}"
    return f"{what} on volume {mount.volume}"
