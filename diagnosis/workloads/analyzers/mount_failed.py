"""A volume that cannot be mounted: file system type, subPath, hostPath type, server, driver, attachment.

The kubelet and the attach controller say why in events; that it waited in vain for volumes is only the symptom. A
ConfigMap, Secret or key that is missing is told by the analyzer of references.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from diagnosis.workloads.containers import Container, containers_of
from diagnosis.workloads.contract import Claim, Documented, Found, quoted
from diagnosis.workloads.evidence import of_event, of_object
from diagnosis.workloads.fields import Object, objects, text
from diagnosis.workloads.scope import Scope
from diagnosis.workloads.volumes import mount_at, mounts_of
from incidents.models import CauseClass, Evidence, Fact

NAME = "mount_failed"
READS = ("Pod", "Event")
RULED_OUT = "mounts: no container waits for a volume that cannot be mounted"
CAUSES = {
    CauseClass.MOUNT_FAILED: Documented(
        "A volume of the pod exists and cannot be mounted: its file system type, subPath, hostPath type, "
        "server, driver "
        "or attachment is wrong.",
        "The kubelet's or the attach controller's event with the mount's own error, and the volume in the pod's spec.",
        "None by itself: what the volume should be is not in the cluster; the facts name the volume and what is wrong.",
    )
}

# words of pkg/volume, pkg/kubelet/volumemanager, k8s.io/mount-utils, mount(8) and runc
_PROBLEMS: tuple[tuple[str, str, re.Pattern[str]], ...] = tuple(
    (kind, words, re.compile(pattern, re.IGNORECASE))
    for kind, words, pattern in (
        ("reference", "", r"(?:configmap|secret)s? \"?[^\"\s]+\"? not found"
                          r"|references non-existent (?:config|secret) key"),
        ("host_path_type", "the path on the node is not of the type that hostPath asks for",
         r"hostPath type check failed"),
        ("sub_path", "its subPath cannot be prepared",
         r"failed to (?:create|prepare) subPath|subPath.{0,120}(?:not a directory|no such file)"
         r"|must not contain '\.\.'"),
        ("multi_attach", "it is attached to another node", r"Multi-Attach error"),
        ("file_system", "its file system type is wrong",
         r"wrong fs type|unknown filesystem type|mount\.\S{1,20}: bad option|need a /sbin/mount\.|no such device"
         r"|fsck.{0,80}(?:error|failed)|bad superblock|failed to format|mkfs\.\S{1,20}.{0,60}not found"),
        ("denied", "its server does not let it be mounted", r"access denied by server"
            r"|mount\.\w{1,10}: .{0,60}permission denied"
         r"|operation not permitted"),
        ("unreachable", "its server does not answer",
         r"connection (?:timed out|refused)|no route to host|failed to resolve server"
         r"|mount\.nfs: .{0,80}(?:timed out|resolve)"
         r"|name or service not known"),
        ("driver", "its driver is not on the node",
         r"not found in the list of registered CSI drivers|no CSIDriver object|no volume plugin matched"
         r"|failed to get plugin"
         r"|driver name .{1,120} not found"),
        ("attach", "it cannot be attached", r"AttachVolume\.Attach failed"
            r"|volume attachment .{0,80}(?:being deleted|not found)"
         r"|timed out waiting for external-attacher"),
        ("not_a_directory", "a directory is mounted onto a file, or a file onto a directory",
         r"not a directory|are you trying to mount a directory"),
        ("path", "its path does not exist on the node", r"path .{1,200} does not exist"
            r"|no such file or directory|does not exist"),
        ("read_only", "its mount point lies on a read-only file system", r"read-only file ?system"),
    )
)  # fmt: skip
_VOLUME = re.compile(r"for volume \"(?P<volume>[^\"]{1,253})\"|subPath for volumeMount \"(?P<mount>[^\"]{1,253})\"")
_MOUNT_POINT = re.compile(r"to rootfs at \"(?P<path>/[^\"]{1,300})\"|mountpoint for .{1,200} mount")
_SYMPTOM = re.compile(r"^Unable to attach or mount volumes")
_RUNTIME = re.compile(
    r"error mounting \"|error during container init: .{0,40}mount|mountpoint for|creating the mountpoint"
    r"|create mountpoint"
)
_CREATING = (
    "ContainerCreating",
    "PodInitializing",
    "CreateContainerConfigError",
    "CreateContainerError",
    "RunContainerError",
)


def find(scope: Scope) -> Iterable[Found]:
    seen: set[str] = set()
    for container in scope.troubled:
        if container.waiting in _CREATING and container.pod_name not in seen:
            for event in reversed(scope.pod_events(container.pod)):
                if event.reason in ("FailedMount", "FailedAttachVolume", "FailedMapVolume") and not _SYMPTOM.match(
                    event.message
                ):
                    found = _of_pod(scope, container, event.message, [of_event(event, scope.snapshot.observed_at)])
                    if found is not None:
                        seen.add(container.pod_name)
                        yield found
                        break
        yield from _of_container(scope, container)


def _of_container(scope: Scope, container: Container) -> Iterable[Found]:
    """What the kubelet (subPath) or the runtime says when it makes one container's mounts."""
    now = scope.snapshot.observed_at
    said = (
        [(container.waiting_message, f"{container.status_at}/state/waiting/message")]
        if container.waiting in _CREATING[2:]
        else []
    )
    said += [
        (e.message, f"{e.at}/message")
        for e in scope.recent_endings(container)[:1]
        if e.reason in ("StartError", "ContainerCannotRun")
    ]
    for message, at in said:
        if "subPath" in message or _RUNTIME.search(message):
            evidence = [of_object(container.pod, at, now)]
            events = [e for e in scope.container_events(container) if e.message in (message, f"Error: {message}")]
            evidence += [of_event(events[-1], now)] if events else []
            volume = _volume(message)
            if not volume and (match := _MOUNT_POINT.search(message)):
                mount = mount_at(mounts_of(container), match["path"] or "")
                volume = mount.volume if mount else ""
            found = _found(scope, container, message, evidence, volume, own=True)
            if found is not None:
                yield found
                return


def _of_pod(scope: Scope, container: Container, message: str, evidence: list[Evidence]) -> Found | None:
    return _found(scope, container, message, evidence, _volume(message), own=False)


def _volume(message: str) -> str:
    match = _VOLUME.search(message)
    return (match["volume"] or match["mount"]) if match else ""


def _found(
    scope: Scope, container: Container, message: str, evidence: list[Evidence], volume: str, *, own: bool
) -> Found | None:
    kind, words = next(
        ((kind, words) for kind, words, pattern in _PROBLEMS if pattern.search(message)), ("other", "it fails")
    )
    if kind == "reference":
        return None
    now = scope.snapshot.observed_at
    owner = scope.owner(container) if own else scope.snapshot.workload_of(container.pod)
    users = [
        c
        for c in containers_of(container.pod)
        if any(text(m, "name") == volume for m in objects(c.spec, "volumeMounts"))
    ]
    if not own and len(users) == 1:
        owner = scope.owner(users[0])
    where = f"container {container.name} of pod {container.pod_name}" if own else f"pod {container.pod_name}"
    claims = [Claim(f"{where[0].upper()}{where[1:]} waits for a mount: {quoted(_telling(message))}", evidence)]
    facts: dict[str, Fact] = {"problem": kind, "volume": volume or None}
    for index, item in enumerate(objects(container.pod, "spec", "volumes")):
        if text(item, "name") in (volume, *_by_claim(scope, container.pod, volume)):
            facts |= {"volume": text(item, "name"), "volume_kind": next((k for k in item if k != "name"), None)}
            facts["claim"] = text(item, "persistentVolumeClaim", "claimName") or None
            claims.append(
                Claim(
                    f"Volume {text(item, 'name')} is in the pod's spec",
                    [of_object(container.pod, f"/spec/volumes/{index}", now)],
                )
            )
    name = facts["volume"] or "(not named)"
    return Found(
        CauseClass.MOUNT_FAILED,
        owner,
        0.95 if kind != "other" else 0.85,
        f"Volume {name} of {owner.kind} {owner.name} cannot be mounted: {words}.",
        claims,
        facts={key: value for key, value in facts.items() if value is not None},
        place=container.pod_name,
        subject=str(name),
        next_steps=[f"Correct volume {name} or its mount ({words}), or what it stands for on the node or server"],
    )


def _by_claim(scope: Scope, pod: Object, volume: str) -> list[str]:
    """The pod's name for a PersistentVolume that the kubelet names."""
    claim = text(scope.snapshot.get("PersistentVolume", None, volume), "spec", "claimRef", "name")
    return [
        text(item, "name")
        for item in objects(pod, "spec", "volumes")
        if claim and text(item, "persistentVolumeClaim", "claimName") == claim
    ]


def _telling(message: str) -> str:
    """The mount's own words come last, and a mount's output has several lines."""
    lines = [line.strip() for line in message.strip().split("\n") if line.strip()]
    telling = next((line for line in lines if any(p.search(line) for _, _, p in _PROBLEMS)), lines[0] if lines else "")
    return telling if len(telling) <= 280 else telling[-280:]
