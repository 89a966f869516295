"""A container whose CPU limit slows it so much that its probes time out. Seen in measurements only.

The kernel counts the periods in which a group of processes ran and those in which it was stopped at its quota
(`container_cpu_cfs_periods_total`, `container_cpu_cfs_throttled_periods_total`, from cAdvisor). Being throttled is
ordinary under load; it is a cause where most periods were and a probe that waits for an answer gives up.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

from diagnosis.workloads.containers import Container
from diagnosis.workloads.contract import Claim, Documented, Found, quoted
from diagnosis.workloads.evidence import of_event, of_object
from diagnosis.workloads.fields import quantity, text
from diagnosis.workloads.metrics import Series
from diagnosis.workloads.probes import KINDS, Symptom, probe_of, telling_failure
from diagnosis.workloads.scope import Scope
from incidents.models import CauseClass, Evidence, Fact, Severity

NAME = "cpu_throttled"
READS = ("Pod", "Event")
RULED_OUT = "CPU: no container with a probe that times out is seen to be throttled"
CAUSES = {
    CauseClass.CPU_THROTTLED: Documented(
        "A container is stopped at its CPU limit in most periods, and its probes time out.",
        "The counters of throttled periods over the time of the trouble, the CPU limit, and the probe's timeout.",
        "A higher CPU limit, from the share of periods in which it was stopped.",
    )
}

_THROTTLED = "container_cpu_cfs_throttled_periods_total"
_PERIODS = "container_cpu_cfs_periods_total"
SHARE = 0.5
_FEWEST_PERIODS = 300  # of 100 ms each: half a minute of running


def find(scope: Scope) -> Iterable[Found]:
    if not scope.snapshot.series:
        return
    for container in scope.troubled:
        limit = text(container.spec, "resources", "limits", "cpu")
        told = _timed_out(scope, container)
        share = throttled_share(scope, container) if limit and told else None
        if share is not None and share[0] >= SHARE and told is not None:
            yield _found(scope, container, limit, told, share)


def _timed_out(scope: Scope, container: Container) -> tuple[str, list[Evidence], str] | None:
    """A probe of the container that waits in vain: (kind, evidence, the kubelet's words)."""
    now = scope.snapshot.observed_at
    for kind in KINDS:
        probe = probe_of(container.spec, kind)
        failure = telling_failure(probe, scope.container_events(container)) if probe else None
        if failure is not None and failure[1] is Symptom.TIMEOUT:
            shown = of_object(container.pod, f"{container.spec_at}/{kind}Probe", now)
            return kind, [of_event(failure[0], now), shown], failure[0].message
    return None


def throttled_share(scope: Scope, container: Container) -> tuple[float, list[Evidence]] | None:
    """The share of periods in which a container was stopped at its quota over the measured time, and the series."""
    labels = {"namespace": container.namespace, "pod": container.pod_name, "container": container.name}
    stopped, periods = (scope.snapshot.series.find(name, **labels) for name in (_THROTTLED, _PERIODS))
    if len(stopped) != 1 or len(periods) != 1:
        return None
    total = growth(periods[0])
    if total < _FEWEST_PERIODS:
        return None
    now = scope.snapshot.observed_at
    return min(1.0, growth(stopped[0]) / total), [stopped[0].evidence(now), periods[0].evidence(now)]


def growth(series: Series) -> float:
    """How much a counter grew; a fall is a restart from zero. One point is its own growth since the start."""
    values = [value for _, value in series.points]
    if len(values) == 1:
        return values[0]
    return sum(later - earlier if later >= earlier else later for earlier, later in pairwise(values))


def _found(
    scope: Scope,
    container: Container,
    limit: str,
    told: tuple[str, list[Evidence], str],
    share: tuple[float, list[Evidence]],
) -> Found:
    now, owner = scope.snapshot.observed_at, scope.owner(container)
    kind, evidence, message = told
    percent = round(share[0] * 100)
    resources = of_object(container.pod, f"{container.spec_at}/resources", now)
    claims = [
        Claim(
            f"Container {container.name} of pod {container.pod_name} was stopped in {percent} % of its CPU periods",
            share[1],
        ),
        Claim(f"Its CPU limit is {limit}", [resources], Severity.INFO),
        Claim(f"Its {kind} probe gives up: {quoted(message)}", evidence),
    ]
    facts: dict[str, Fact] = {"cpu_limit": limit, "throttled_percent": percent, "probe": kind}
    suggested = _suggested(limit)
    if suggested:
        facts |= {
            "suggested_cpu_limit": suggested,
            "suggested_from": f"twice the limit: it was stopped in {percent} % of the periods, what it needs is more",
        }
    return Found(
        CauseClass.CPU_THROTTLED,
        owner,
        0.85,
        f"Container {container.name} of {owner.kind} {owner.name} is slowed by its CPU limit of {limit} (stopped in "
        f"{percent} % of the periods), so that its {kind} probe times out.",
        claims,
        facts=facts,
        place=container.pod_name,
        next_steps=[f"Raise the CPU limit of container {container.name} or take it off; then look at the probe again"],
    )


def _suggested(limit: str) -> str | None:
    cores = quantity(limit)
    return f"{round(cores * 2000)}m" if cores and cores > 0 else None
