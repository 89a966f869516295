"""A container that may not do what it must: start as its user, write to a path, listen on a low port.

The kubelet names the first; for the others the program's own line is joined with the security context and the mount
that the path lies on. A refusal of the runtime to execute the command is a matter of the command, and what a database
or an API denies is not of this group.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from diagnosis.workloads.containers import Container
from diagnosis.workloads.contract import Claim, Documented, Found, quoted
from diagnosis.workloads.evidence import of_object
from diagnosis.workloads.fields import mapping
from diagnosis.workloads.log_rules import Complaint, complaints, rule
from diagnosis.workloads.scope import Scope
from diagnosis.workloads.volumes import mount_at, mounts_of, path_in, user_of
from incidents.models import CauseClass, Fact, Severity

NAME = "permission_denied"
READS = ("Pod",)
RULED_OUT = "permissions: no container was refused by its security context, a file or a port"
CAUSES = {
    CauseClass.PERMISSION_DENIED: Documented(
        "A container may not start as the user it would run as, may not write where it has to, or may not listen on a "
        "port below 1024.",
        "The kubelet's own message, or the program's line joined with the security context and the volume of the path.",
        "None by itself: the user, fsGroup or path that is right is not observed; the facts name what is set now.",
    )
}

_KUBELET = re.compile(
    r"container has runAsNonRoot and image will run as root|runAsNonRoot and image has non-numeric user"
    r"|container's runAsUser breaks non-root policy|cannot verify user is non-root",
    re.IGNORECASE,
)
_RUNTIME = re.compile(
    r"unable to find user|no matching entries in passwd file|unable to find group|operation not permitted"
    r"|cannot set (?:uid|gid|groups)|apparmor|seccomp|selinux|invalid capability|unknown capability"
    r"|setting cgroup config"
    r"|error (?:setting|loading) (?:seccomp|apparmor)",
    re.IGNORECASE,
)
RULES = (
    rule("", r"\bbind\b.{0,80}permission denied|listen EACCES|permission denied.{0,60}\b(?:bind|attempting to bind)"
         r"|bind: EACCES|BindException: permission denied|could not bind.{0,80}permission denied", "bind"),
    rule("", r"\"root\" execution of the \w{1,40} server is not permitted|(?:refus|declin)\w{1,4} to run as root"
         r"|(?:can ?not|must not|should not|never) (?:be )?(?:run|started"
         r"|executed) (?:\w{1,30} )?as (?:the )?(?:user )?root",
         "root"),
    rule("", r"read-only file ?system|\bEROFS\b", "read_only"),
    rule("", r"permission denied|\bEACCES\b|AccessDeniedException: /|operation not permitted|\bEPERM\b|is not writable"
         r"|no write permission|has wrong ownership|权限不够|没有权限"),
)  # fmt: skip
_OF_SOMETHING_ELSE = re.compile(
    r"permission denied for (?:table|relation|schema|database|sequence|function|view|language)"
    r"|permission denied \((?:publickey|password)|code = PermissionDenied|PERMISSION_DENIED|forbidden: user"
    r"|is forbidden"
    r"|status(?: code)? 40[13]|HTTP.{0,20} 40[13]|exec: |: exec format|vault",
    re.IGNORECASE,
)
_LOW_PORT = re.compile(r"(?::|port[ =:]{1,3}|', )(?P<port>\d{1,4})(?!\d)")
_LOWEST_OF_EVERYBODY = 1024


def find(scope: Scope) -> Iterable[Found]:
    for container in scope.troubled:
        message = container.waiting_message
        if container.waiting in ("CreateContainerConfigError", "CreateContainerError") and _KUBELET.search(message):
            yield _refused(scope, container, f"{container.status_at}/state/waiting/message", message, "run_as_non_root")
            continue
        for ending in scope.recent_endings(container)[:1]:
            if ending.reason in ("StartError", "ContainerCannotRun") and _RUNTIME.search(ending.message):
                yield _refused(scope, container, f"{ending.at}/message", ending.message, "security_context")
        if container.waiting in ("RunContainerError", "CreateContainerError") and _RUNTIME.search(message):
            yield _refused(
                scope, container, f"{container.status_at}/state/waiting/message", message, "security_context"
            )
    for complaint in complaints(scope, RULES):
        code = complaint.ended.exit_code if complaint.ended else None
        if code not in (126, 127) and not _OF_SOMETHING_ELSE.search(complaint.line.text):
            found = _denied(scope, complaint)
            if found is not None:
                yield found


def _refused(scope: Scope, container: Container, at: str, message: str, problem: str) -> Found:
    now, owner, user = scope.snapshot.observed_at, scope.owner(container), user_of(container)
    said = message.strip().split("\n", 1)[0]
    claims = [
        Claim(
            f"Container {container.name} of pod {container.pod_name} may not start: {quoted(said[-280:])}",
            [of_object(container.pod, at, now)],
        )
    ]
    if mapping(container.spec, "securityContext") or mapping(container.pod, "spec", "securityContext"):
        claims.append(
            Claim("Its security context is set in the pod template", [of_object(container.pod, user.at, now)])
        )
    facts: dict[str, Fact] = {"problem": problem, "run_as_user": user.uid, "image": container.image}
    why = "it must not run as root and its image would" if problem == "run_as_non_root" else said[-200:]
    step = "Set runAsUser to the number of a user that the image's files are made for, or use an image with such a user"
    return Found(
        CauseClass.PERMISSION_DENIED,
        owner,
        0.96,
        f"Container {container.name} of {owner.kind} {owner.name} may not start: {why}.",
        claims,
        facts=facts,
        place=container.pod_name,
        subject=problem,
        next_steps=[
            step if problem == "run_as_non_root" else f"Correct the security context of container {container.name}"
        ],
    )


def _denied(scope: Scope, complaint: Complaint) -> Found | None:
    container, owner, now = complaint.container, scope.owner(complaint.container), scope.snapshot.observed_at
    line, user = complaint.line.text, user_of(container)
    facts: dict[str, Fact] = {"log_line": line, "run_as_user": user.uid, "fs_group": user.fs_group}
    claims = complaint.claims(scope)
    confidence = complaint.confidence
    if complaint.rule.kind == "bind":
        port = _low_port(complaint)
        facts |= {"problem": "low_port", "port": port}
        what = f"listen on port {port if port is not None else 'below 1024'} as {user.words.split(',')[0]}"
        step = "Listen on a port from 1024 on and map it with the Service, or give container "
        f"{container.name} NET_BIND_SERVICE"
    elif complaint.rule.kind == "root":
        facts["problem"] = "root"
        what = f"run as root, which it is as {user.words.split(',')[0]}"
        step = f"Set runAsUser of container {container.name} to a user that its files are made for"
    else:
        path = path_in(line)
        if path is None and complaint.rule.kind != "read_only":
            return None  # denied by what or whom was not said
        mount = mount_at(mounts_of(container), path) if path else None
        read_only = complaint.rule.kind == "read_only"
        facts |= {"problem": "read_only" if read_only else "path", "path": path}
        where = path or "its file system"
        if mount is not None:
            facts |= {"volume": mount.volume, "volume_kind": mount.kind, "claim": mount.claim}
            shown = [of_object(container.pod, mount.at, now), of_object(container.pod, mount.volume_at, now)]
            claims.append(Claim(f"{path} lies on volume {mount.volume} ({mount.words})", shown, Severity.INFO))
            where += f" on volume {mount.volume} ({mount.words})"
            confidence += 0.04
        if read_only:
            by = _read_only_by(mount is not None and mount.read_only, mount is None and user.read_only_root)
            what = f"write to {where}: it is read-only{by}"
            step = (
                f"Mount a writable volume at {path or 'the path that it writes to'}, or let the program write elsewhere"
            )
        else:
            what = f"use {where} as {user.words}"
            step = f"Set fsGroup or runAsUser to who owns {path}, or make {path} accessible to it in the image"
    if user.at != container.spec_at:
        claims.append(Claim(f"It runs as {user.words}", [of_object(container.pod, user.at, now)], Severity.INFO))
    return Found(
        CauseClass.PERMISSION_DENIED,
        owner,
        min(confidence, 0.93),
        f"Container {container.name} of {owner.kind} {owner.name} may not {what}.",
        claims,
        facts={key: value for key, value in facts.items() if value is not None},
        place=container.pod_name,
        subject=str(facts.get("path") or facts.get("port") or ""),
        next_steps=[step],
    )


def _low_port(complaint: Complaint) -> int | None:
    """The port in the line, in the lines before, or the only low one that the container declares."""
    before = complaint.log.lines[max(0, complaint.line.number - 6) : complaint.line.number - 1]
    for line in [complaint.line.text, *reversed(before)]:
        match = _LOW_PORT.search(line[:400])
        if match and 0 < int(match["port"]) < _LOWEST_OF_EVERYBODY:
            return int(match["port"])
    declared = {port for _, port in complaint.container.ports() if port < _LOWEST_OF_EVERYBODY}
    return declared.pop() if len(declared) == 1 else None


def _read_only_by(mount: bool, root: bool) -> str:
    if mount:
        return " by the volume mount"
    return " by readOnlyRootFilesystem" if root else ""
