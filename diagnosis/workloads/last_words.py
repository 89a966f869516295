"""What the logs of failing containers say last, though no rule need know what it means."""

from __future__ import annotations

from collections.abc import Iterable

from diagnosis.workloads.containers import Container
from diagnosis.workloads.contract import Claim, quoted
from diagnosis.workloads.fields import Object
from diagnosis.workloads.scope import Scope
from incidents.models import Severity

_CITED = 2


def said_by(scope: Scope, container: Container) -> Claim | None:
    """The line of a container's log that best says why it fails, quoted."""
    log = scope.log(container, next(iter(scope.recent_endings(container)), None))
    line = log.telling_line() if log else None
    if log is None or line is None:
        return None
    times = log.like(line)
    often = f" ({times} lines like it)" if times > 1 else ""
    said = f"The log of container {container.name} of pod {container.pod_name} says {quoted(line.text)}{often}"
    return Claim(said, [log.evidence(line, scope.snapshot.observed_at)], Severity.INFO)


def last_words(scope: Scope, pods: Iterable[Object]) -> list[Claim]:
    """Those of the troubled containers of some pods, which need not be of the scope."""
    around = Scope(scope.snapshot, list(pods), [])
    found = (said_by(around, container) for container in around.troubled)
    return [claim for claim in found if claim is not None][:_CITED]
