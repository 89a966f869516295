"""A container that the kernel killed for memory: its own limit, a leak, or a node without memory.

The suggested limit is twice the present one, within a LimitRange's maximum: how much the program needs cannot be seen
in a snapshot, only that it is more. Whether it leaks is told by its measured use; where nothing was measured, by lives
that are long and alike. Then no limit is suggested, as a higher one only delays the end. A container that was killed
below its limit is a victim of its node.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from diagnosis.workloads.contract import Claim, Documented, Found
from diagnosis.workloads.evidence import of_event, of_object
from diagnosis.workloads.fields import condition, objects, quantity, text
from diagnosis.workloads.lives import Lives, lives_of
from diagnosis.workloads.memory_use import Trend, trend_of
from diagnosis.workloads.restarts import Ending, Restart
from diagnosis.workloads.scope import Scope
from incidents.models import CauseClass, Fact, ObjectRef, Severity

NAME = "oom_killed"
READS = ("Pod",)
RULED_OUT = "out of memory: no container ended OOMKilled"
CAUSES = {
    CauseClass.OOM_KILLED: Documented(
        "The kernel killed the container because it used more memory than its limit allows.",
        "The termination reason OOMKilled, with the limit in the container's spec; a node without memory is "
        "told apart. A leak by measured use, or, without measurements, by lives that are long and alike.",
        "A higher limit, with headroom and within the LimitRange; a leak by trend needs the program corrected.",
    ),
}

_FACTOR = 2
_MEBI = 1 << 20
_SLOW = timedelta(hours=1)
_SAME_TIME = timedelta(seconds=15)
_NEAR = 0.8  # of the limit; measured every half minute, so the peak itself is missed


def find(scope: Scope) -> Iterable[Found]:
    for container in scope.troubled:
        killed = next((e for e in scope.recent_endings(container) if e.ending is Ending.OOM_KILLED), None)
        if killed is not None:
            yield _found(scope, killed)


def _found(scope: Scope, killed: Restart) -> Found:
    container, now = killed.container, scope.snapshot.observed_at
    limit = text(container.spec, "resources", "limits", "memory")
    child = "" if killed.exit_code == 137 else f"; the main process left with {killed.exit_code}, so a child was killed"
    claims = [
        Claim(
            f"Container {container.name} of pod {container.pod_name} was killed for memory (OOMKilled){child}",
            [of_object(container.pod, killed.at, now)],
            Severity.CRITICAL,
        )
    ]
    facts: dict[str, Fact] = {"memory_limit": limit or None, "restarts": container.restarts}
    if killed.lifetime is not None:
        facts["lifetime_seconds"] = int(killed.lifetime.total_seconds())
    trend = trend_of(scope, container)
    lives = lives_of(scope, container) if limit and (trend is None or trend.leak is None) else None
    if limit:
        spec = of_object(container.pod, f"{container.spec_at}/resources", now)
        claims.append(Claim(f"Its memory limit is {limit}", [spec], Severity.INFO))
    node = text(container.pod, "spec", "nodeName")
    below = trend is not None and trend.bytes_per_hour is not None and trend.peak < _NEAR * (quantity(limit) or 0)
    pressure = _node_pressure(scope, node, killed, events=not limit) if below or not limit else []
    by_node = bool(pressure)
    leads_to = [ObjectRef(kind="Node", name=node)] if by_node else []
    if trend is not None:
        claims.append(_measured(trend, now))
        facts["peak_memory"] = f"{-(-int(trend.peak) // _MEBI)}Mi"
    if by_node:
        claims += pressure
        facts |= {"oom_of": "node", "node": node}
        why = "the node ran out of memory" + (f"; it stayed below its limit of {limit}" if limit else "")
    elif trend is not None and trend.leak is True:
        facts |= {"oom_of": "leak", "mebibytes_per_hour": round((trend.bytes_per_hour or 0) / _MEBI, 1)}
        why = f"its use grows steadily until the limit of {limit}, as that of a leak does"
    elif lives is not None and lives.course == "alike":
        facts |= {"oom_of": "leak", "leak_seen_in": "lifetimes"}
        why = f"it reaches its limit of {limit} after about as long each time, as a leak does"
    elif limit:
        facts["oom_of"] = "limit"
        suggested = suggested_limit(limit, _maximum(scope, container.namespace))
        if suggested:
            facts |= {
                "suggested_memory_limit": suggested,
                "suggested_from": "twice the limit: what it needs was not observed, only that it is more",
            }
        level = trend is not None and trend.leak is False
        why = f"its limit of {limit} is too low" + ("" if level else " or it leaks")
    else:
        why = "it has no limit of its own"
    slow = killed.lifetime is not None and killed.lifetime > _SLOW and facts.get("oom_of") == "limit"
    if lives is not None and not by_node:
        claims.append(_lived(lives))
        facts["lives"] = lives.course
    owner = scope.owner(container)
    steps = [f"Compare the memory use of container {container.name} over time with its limit {limit or '(none)'}"]
    if slow:
        steps.append("It ran for over an hour before it was killed: look for a leak, a higher limit only delays it")
    if facts.get("lives") == "shorter":
        steps.append("Each life is shorter than before: look at what it loads at its start, and at its load")
    return Found(
        CauseClass.OOM_KILLED,
        owner,
        0.95,
        f"Container {container.name} of {owner.kind} {owner.name} is killed for memory: {why}.",
        claims,
        facts=facts,
        place=container.pod_name,
        leads_to=leads_to,
        next_steps=steps,
    )


def _measured(trend: Trend, now: datetime) -> Claim:
    said = f"Its measured use of memory had a peak of {-(-int(trend.peak) // _MEBI)} Mi"
    if trend.leak is True and trend.bytes_per_hour is not None:
        said += f" and grew by {trend.bytes_per_hour / _MEBI:.1f} Mi an hour to the end"
    elif trend.leak is False:
        said += " and stood level before the end"
    return Claim(said, [trend.series.evidence(now)], Severity.INFO)


def _lived(lives: Lives) -> Claim:
    shortest, longest = (round(span.total_seconds() / 60) for span in lives.typical)
    said = {
        "alike": "Nothing was measured, but each life before it was killed took about as long",
        "shorter": "Its last life was much shorter than those before",
        "longer": "Its last life was much longer than those before",
    }[lives.course]
    return Claim(f"{said}: {shortest} to {longest} minutes", lives.evidence, Severity.INFO)


def suggested_limit(limit: str, maximum: float | None = None) -> str | None:
    """Twice the limit in whole Mi; None when that is above the maximum or the limit cannot be read."""
    now = quantity(limit)
    if not now or now <= 0:
        return None
    wanted = -(-int(now * _FACTOR) // _MEBI)
    if maximum is not None and wanted * _MEBI > maximum:
        return None
    return f"{wanted}Mi"


def _maximum(scope: Scope, namespace: str) -> float | None:
    found = [
        value
        for item in scope.snapshot.all("LimitRange", namespace)
        for rule in objects(item, "spec", "limits")
        if text(rule, "type") == "Container" and (value := quantity(text(rule, "max", "memory"))) is not None
    ]
    return min(found, default=None)


def _node_pressure(scope: Scope, node: str, killed: Restart, *, events: bool) -> list[Claim]:
    """That the node itself was out of memory. Its SystemOOM events count for a container without a limit only: kubelets
    that do not understand the kernel's message record one for each container that reaches its own limit as well."""
    item, now = scope.snapshot.get("Node", None, node), scope.snapshot.observed_at
    claims = []
    if condition(item, "MemoryPressure").get("status") == "True" and item is not None:
        evidence = of_object(item, "/status/conditions", now)
        claims.append(Claim(f"Node {node} is under memory pressure", [evidence]))
    seen = scope.snapshot.events_for("Node", "", node) + scope.snapshot.events_for("Node", "default", node)
    for event in seen if events else ():
        near = killed.finished and event.last and abs(killed.finished - event.last) <= _SAME_TIME
        if event.reason in ("SystemOOM", "OOMKilling") and near:
            claims.append(Claim(f"Node {node} killed a process for memory ({event.reason})", [of_event(event, now)]))
    return claims[:2]
