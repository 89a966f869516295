"""Who calls or leans on whom, between workloads."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class EdgeKind(StrEnum):
    CALL = "call"  # measured by a mesh or by traces
    SERVICE = "service"  # a Service's selector
    REFERENCE = "reference"  # an address in an environment variable or a ConfigMap
    NODE = "node"  # runs on: the "callee" is the node
    OWNER = "owner"


@dataclass(frozen=True)
class Edge:
    """The caller needs the callee. Names are those of workloads as `subject.Subject.entity` gives them: `name`, or
    `namespace/name` where the series carry namespaces; a bare name stands for any namespace that has it once."""

    caller: str
    callee: str
    kind: EdgeKind = EdgeKind.CALL
