"""Who calls or leans on whom, between workloads."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Edge:
    """The caller needs the callee: it calls it, has its address, or runs on it. Names are those of workloads as
    `subject.Subject.entity` gives them: `name`, or `namespace/name` where the series carry namespaces; a bare name
    stands for any namespace that has it once. A node is `node/<name>`."""

    caller: str
    callee: str
