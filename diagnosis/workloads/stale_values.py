"""Values that a running container still has though their ConfigMap or Secret was written since: new pods have the new.

The kubelet resolves variables and `subPath` mounts when it starts a container, and never again; other volumes follow
by themselves (https://kubernetes.io/docs/concepts/configuration/configmap/#mounted-configmaps-are-updated-automatically).
So only a container that has run since before the write, and reads the object in such a way, has old values. When an
object was last written stands in its managed fields; which key was written does not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from diagnosis.workloads.containers import Container
from diagnosis.workloads.contract import Claim
from diagnosis.workloads.evidence import of_object
from diagnosis.workloads.fields import decimal, newest, objects, text, when
from diagnosis.workloads.references import Reference, references_of
from diagnosis.workloads.scope import Scope
from incidents.models import Fact

_CLOSE = timedelta(seconds=2)  # times are told in whole seconds


@dataclass(frozen=True)
class Stale:
    """A container started at `started`, and `kind` `name`, which it read then, was written at `written`."""

    kind: str
    name: str
    started: datetime
    written: datetime
    claims: list[Claim]

    @property
    def facts(self) -> dict[str, Fact]:
        """What makes a restart worth while, for a fixer."""
        clock = "%Y-%m-%d %H:%M:%S"
        because = (
            f"{self.kind} {self.name} was written at {self.written:{clock}}, after the container started at "
            f"{self.started:{clock}} UTC: it still has the values from before, new pods read those of now."
        )
        return {"restart_because": because, "stale_kind": self.kind, "stale_name": self.name}


def stale_values(scope: Scope, container: Container) -> Stale | None:
    """The ConfigMap or Secret of which a running container has old values, the last written one; or None."""
    started, now = when(container.status, "state", "running", "startedAt"), scope.snapshot.observed_at
    if started is None:
        return None
    found = []
    for reference in _read_once(container):
        item = scope.snapshot.get(reference.kind, container.namespace, reference.name)
        made = when(item, "metadata", "creationTimestamp")
        written = newest(when(entry, "time") for entry in objects(item, "metadata", "managedFields"))
        if item is None or made is None or written is None or written <= max(made, started + _CLOSE):
            continue
        clock = "%H:%M:%S"
        claims = [
            Claim(f"{reference.kind} {reference.name} was last written at {written:{clock}}",
                  [of_object(item, "/metadata/managedFields", now)]),
            Claim(f"Container {container.name} of pod {container.pod_name} has run since {started:{clock}}, and read "
                  "it when it started",
                  [of_object(container.pod, f"{container.status_at}/state", now),
                   of_object(container.pod, reference.at, now)]),
        ]  # fmt: skip
        found.append(Stale(reference.kind, reference.name, started, written, claims))
    return max(found, key=lambda stale: stale.written, default=None)


def _read_once(container: Container) -> Iterator[Reference]:
    """What the container's variables and `subPath` mounts come from."""
    single: set[str] = set()
    for mount in objects(container.spec, "volumeMounts"):
        if text(mount, "subPath") or text(mount, "subPathExpr"):
            single.add(text(mount, "name"))
    volumes = objects(container.pod, "spec", "volumes")
    for reference in references_of(container.pod):
        if reference.kind not in ("ConfigMap", "Secret") or reference.pull_secret:
            continue
        if reference.container == container.name:
            yield reference
        elif reference.container is None:
            index = decimal(reference.at.split("/")[3])
            if index is not None and index < len(volumes) and text(volumes[index], "name") in single:
                yield reference


def unready_since_before(container: Container, written: datetime) -> bool:
    """Whether a container that is not ready was so already when the object was written: the write did not break it."""
    for entry in objects(container.pod, "status", "conditions"):
        if entry.get("type") == "ContainersReady":
            since = when(entry, "lastTransitionTime")
            return entry.get("status") == "False" and since is not None and since <= written
    return False
