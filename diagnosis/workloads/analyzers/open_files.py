"""A program that may open no more files: its limit of descriptors, or the node's of inotify watches."""

from __future__ import annotations

import re
from collections.abc import Iterable

from diagnosis.workloads.contract import Documented, Found
from diagnosis.workloads.log_rules import complaints, rule
from diagnosis.workloads.scope import Scope
from incidents.models import CauseClass, Fact

NAME = "open_files"
READS = ("Pod",)
RULED_OUT = "open files: no failing container's log tells of too many"
CAUSES = {
    CauseClass.TOO_MANY_OPEN_FILES: Documented(
        "A program has reached its limit of open files, or its node's limit of inotify watches.",
        "The program's own log line and its failing container.",
        "None: the limit is the node's or the runtime's, and a leak only takes longer with a higher one.",
    )
}

RULES = (
    rule("", r"too many open files|\bEMFILE\b|\bENFILE\b|cannot open shared object file: Error 24\b|file table overflow"
         r"|打开的文件过多"),
    rule("", r"system limit for number of file watchers reached|inotify watch(?:es)? limit"
             r"|user limit on the total number of"
         r" inotify|inotify.{0,80}no space left on device|no space left on device.{0,80}inotify", "inotify"),
)  # fmt: skip
_INOTIFY = re.compile(r"inotify|file watch|fsnotify", re.IGNORECASE)


def find(scope: Scope) -> Iterable[Found]:
    for complaint in complaints(scope, RULES):
        container, owner = complaint.container, scope.owner(complaint.container)
        inotify = complaint.rule.kind == "inotify" or bool(_INOTIFY.search(complaint.line.text))
        facts: dict[str, Fact] = {"log_line": complaint.line.text, "resource": "inotify" if inotify else "descriptors"}
        what = "inotify watches of its node" if inotify else "open files"
        step = (
            f"Raise fs.inotify limits on the node, or watch fewer files with container {container.name}"
            if inotify
            else f"Look for files and connections that container {container.name} does not close; then "
            f"compare its limit "
            "(the container runtime's LimitNOFILE, `ulimit -n` inside) with what it needs"
        )
        yield Found(
            CauseClass.TOO_MANY_OPEN_FILES,
            owner,
            complaint.confidence + 0.02,
            f"Container {container.name} of {owner.kind} {owner.name} has reached its limit of {what}.",
            complaint.claims(scope),
            facts=facts,
            place=container.pod_name,
            next_steps=[step],
        )
