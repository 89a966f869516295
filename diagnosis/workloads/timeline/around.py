"""What workloads and nodes say of themselves since when, and the alerts about them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from diagnosis.workloads.contract import quoted
from diagnosis.workloads.evidence import of_object
from diagnosis.workloads.fields import Object, objects, text, when
from diagnosis.workloads.metrics import ALIASES, Alert
from diagnosis.workloads.scope import RECENT, Scope
from diagnosis.workloads.snapshot import ref_of
from diagnosis.workloads.timeline.entry import BOOT, Entry, line
from diagnosis.workloads.timeline.subjects import Subjects
from incidents.models import Evidence, MomentKind, ObjectRef

_TROUBLE = {
    "Deployment": {"Available": "False", "Progressing": "False", "ReplicaFailure": "True"},
    "Job": {"Failed": "True"},
}
"""Conditions that say that a workload has not what it wants."""
_SICK = {"DiskPressure", "MemoryPressure", "PIDPressure", "NetworkUnavailable"}
_SUMMARIES = ("summary", "message", "description")


def condition_entries(scope: Scope, subjects: Subjects) -> Iterator[Entry]:
    """Since when workloads say that they have not what they want."""
    for workload, item in (*subjects.own.items(), *subjects.made):
        ref = ref_of(item)
        wanted = _TROUBLE.get(ref.kind, {})
        for index, entry in enumerate(objects(item, "status", "conditions")):
            kind, since = text(entry, "type"), when(entry, "lastTransitionTime")
            if since is None or wanted.get(kind) != entry.get("status"):
                continue
            reason = text(entry, "reason")
            said = f"{ref.kind} {ref.name} reports {kind} {entry['status']}{f' ({reason})' if reason else ''}"
            cite = partial(_cited, item, f"/status/conditions/{index}", scope)
            yield Entry(since, MomentKind.EVENT, workload, line(said), cite, failing=True)


def node_entries(scope: Scope, subjects: Subjects) -> Iterator[Entry]:
    """Nodes that are not well, have got well within the last hour, joined within it, or were tainted."""
    now = scope.snapshot.observed_at
    for node in subjects.nodes:
        ref, made = ref_of(node), when(node, "metadata", "creationTimestamp")
        if made is not None and now - made <= RECENT:
            cite = partial(_cited, node, "/metadata/creationTimestamp", scope)
            yield Entry(made, MomentKind.NODE, ref, line(f"Node {ref.name} joined the cluster"), cite)
        for index, entry in enumerate(objects(node, "status", "conditions")):
            kind, since = text(entry, "type"), when(entry, "lastTransitionTime")
            if since is None or (kind != "Ready" and kind not in _SICK):
                continue
            well = entry.get("status") == ("True" if kind == "Ready" else "False")
            if well and (now - since > RECENT or (made is not None and since - made <= BOOT)):
                continue
            state = f"{kind} {text(entry, 'status')}"
            said = f"Node {ref.name} reports {state}{'' if well else _because(entry)}"
            cite = partial(_cited, node, f"/status/conditions/{index}", scope)
            failing = not well and kind == "Ready"
            yield Entry(since, MomentKind.NODE, ref, line(said), cite, failing=failing)
        for index, taint in enumerate(objects(node, "spec", "taints")):
            if (since := when(taint, "timeAdded")) is not None:
                cite = partial(_cited, node, f"/spec/taints/{index}", scope)
                said = f"Node {ref.name} got the taint {text(taint, 'key')}"
                yield Entry(since, MomentKind.NODE, ref, line(said), cite)


def _because(entry: Object) -> str:
    reason = text(entry, "reason")
    return f" ({reason})" if reason else ""


def alert_entries(scope: Scope, subjects: Subjects) -> Iterator[Entry]:
    """Alerts whose labels name a workload, a pod, a Service or a node of the subjects; those alike are one entry."""
    pods = {ref_of(pod): workload for workload, pod in subjects.pods}
    known = {*subjects.own, *subjects.leaned_on}
    services = {ref for ref in known if ref.kind == "Service"}
    nodes = {ref_of(node).name: ref_of(node) for node in subjects.nodes}
    alike: dict[tuple[str, ObjectRef], list[Alert]] = {}
    for alert in scope.snapshot.alerts:
        if alert.started is None:
            continue
        namespace, pod = _label(alert, "namespace"), _label(alert, "pod")
        about: ObjectRef | None = None
        if pod:
            about = pods.get(ObjectRef(kind="Pod", namespace=namespace or None, name=pod))
        elif workload := _label(alert, "workload"):
            about = next((ref for ref in known if (ref.namespace or "", ref.name) == (namespace, workload)
                          and ref not in services), None)  # fmt: skip
        elif service := _label(alert, "service"):
            about = next((ref for ref in services if (ref.namespace or "", ref.name) == (namespace, service)), None)
        elif node := _label(alert, "node"):
            about = nodes.get(node)
        elif namespace and scope.covers(namespace):
            about = ObjectRef(kind="Namespace", name=namespace)
        if about is not None:
            alike.setdefault((alert.name, about), []).append(alert)
    for (name, about), alerts in alike.items():
        started = sorted(alert.started for alert in alerts if alert.started is not None)
        active = any(alert.active for alert in alerts)
        told = (alert.annotations.get(key, "").strip() for alert in alerts for key in _SUMMARIES)
        summary = next((f": {quoted(summary, 200)}" for summary in told if summary), "")
        said = f"Alert {name}{summary}{'' if active else ' (not active)'}"
        until = started[-1] if started[-1] > started[0] else None
        cite = partial(_alert, alerts[0], scope)
        yield Entry(started[0], MomentKind.ALERT, about, line(said), cite, until, len(alerts), active)


def _label(alert: Alert, label: str) -> str:
    return next((alert.labels[key] for key in ALIASES[label] if alert.labels.get(key)), "")


def _alert(alert: Alert, scope: Scope) -> list[Evidence]:
    return [alert.evidence(scope.snapshot.observed_at)]


def _cited(item: Object, pointer: str, scope: Scope) -> list[Evidence]:
    return [of_object(item, pointer, scope.snapshot.observed_at)]
