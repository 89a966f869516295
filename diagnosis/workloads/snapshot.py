"""What was seen of a cluster at one moment: raw objects, events, logs, and what could not be seen.

A snapshot is the only input of the workload analyzers, live or saved. Secrets never enter it: objects are redacted on
the way in, logs when they are read. Ownership follows `ownerReferences` uids, never names or labels.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import lru_cache

from diagnosis.redaction import redact, redact_object
from diagnosis.workloads.events import Event, is_event, read_event
from diagnosis.workloads.fields import Object, newest, objects, pick, text, when
from diagnosis.workloads.metrics import Alert, Metrics, Series
from diagnosis.workloads.revisions import Revision, revisions_of
from incidents.models import ObjectRef

LogKey = tuple[str, str, str, bool]
"""(namespace, pod, container, previous)"""

WORKLOAD_KINDS = (
    "Deployment", "StatefulSet", "DaemonSet", "CronJob", "Job", "ReplicaSet", "ReplicationController", "Pod",
)  # fmt: skip
_CHAIN_LIMIT = 8  # ownership is a few levels deep; a longer chain is a loop
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Snapshot:
    """Objects, events and logs with accessors that never raise on a malformed object.

    `observed_at` is when the reading ended; by default the newest time that any object or event carries. `complete`
    names (kind, namespace) pairs of which everything was read ("" for kinds without a namespace); `absent` names
    objects that were asked for and are not there. `unseen` says in words what could not be looked at. `focus` is the
    namespace that the reading was about, where it was about one; `series` are measurements and `alerts` what a
    monitoring system said, where they were given.
    """

    def __init__(
        self,
        items: Iterable[Object],
        *,
        logs: Mapping[LogKey, str] | None = None,
        observed_at: datetime | None = None,
        unseen: Iterable[str] = (),
        complete: Iterable[tuple[str, str]] = (),
        absent: Iterable[tuple[str, str, str]] = (),
        focus: str | None = None,
        series: Iterable[Series] = (),
        alerts: Iterable[Alert] = (),
    ) -> None:
        self._objects: dict[str, dict[tuple[str, str], Object]] = defaultdict(dict)
        self._by_uid: dict[str, Object] = {}
        self._events: dict[tuple[str, str, str], list[Event]] = defaultdict(list)
        self._logs = dict(logs or {})
        self._clean_logs: dict[LogKey, str] = {}
        self._chains: dict[str, list[ObjectRef]] = {}
        self._workloads: dict[str, ObjectRef] = {}
        self._owned: dict[str, list[Object]] | None = None
        self._pods_below: dict[str | None, dict[tuple[str, str, str], list[Object]]] = {}
        self._sorted: dict[tuple[str, str | None], list[Object]] = {}
        self._revisions: dict[ObjectRef, list[Revision]] = {}
        self.unseen = list(dict.fromkeys(unseen))
        self.complete = set(complete)
        self.absent = set(absent)
        self.focus = focus
        self.series = Metrics(series)
        self.alerts = sorted(alerts, key=lambda alert: (alert.started or _EPOCH, alert.name, str(alert.labels)))
        seen_events: set[tuple[str, str]] = set()
        for item in items:
            if isinstance(item, dict):
                self._add(item, seen_events)
        self.observed_at = observed_at or self._newest_time() or _EPOCH

    def _add(self, item: Object, seen_events: set[tuple[str, str]]) -> None:
        item = redact_object(item)
        if is_event(item):
            key = (text(item, "metadata", "namespace"), text(item, "metadata", "name"))
            if key[1] and key in seen_events:
                return  # the same event through both APIs
            seen_events.add(key)
            event = read_event(item)
            self._events[event.kind, event.namespace, event.name].append(event)
            return
        name = text(item, "metadata", "name")
        if name:
            self._objects[_kind_key(item)][text(item, "metadata", "namespace"), name] = item
            if uid := text(item, "metadata", "uid"):
                self._by_uid[uid] = item

    def _newest_time(self) -> datetime | None:
        times = [event.last for event in self.events()]
        for kind in self._objects:
            for item in self.all(kind):
                times.append(when(item, "metadata", "creationTimestamp"))
                times += [
                    when(c, field)
                    for c in objects(item, "status", "conditions")
                    for field in ("lastTransitionTime", "lastHeartbeatTime", "lastUpdateTime")
                ]
                for status in objects(item, "status", "containerStatuses"):
                    times += [when(status, "state", "running", "startedAt")]
                    times += [when(status, state, "terminated", "finishedAt") for state in ("state", "lastState")]
        return newest(times)

    # objects

    def get(self, kind: str, namespace: str | None, name: str) -> Object | None:
        return self._objects.get(kind, {}).get((namespace or "", name))

    def all(self, kind: str, namespace: str | None = None) -> list[Object]:
        """Objects of a kind, in one namespace or everywhere, by namespace and name."""
        place = (kind, namespace)
        if place not in self._sorted:
            found = self._objects.get(kind, {})
            self._sorted[place] = [found[key] for key in sorted(found) if namespace is None or key[0] == namespace]
        return self._sorted[place]

    def by_uid(self, uid: str) -> Object | None:
        return self._by_uid.get(uid)

    def kinds(self) -> set[str]:
        return {kind for kind, found in self._objects.items() if found}

    def items(self) -> list[Object]:
        """Every object and event, redacted, in a stable order."""
        events = sorted(self.events(), key=lambda event: text(event.raw, "metadata", "name"))
        return [item for kind in sorted(self._objects) for item in self.all(kind)] + [event.raw for event in events]

    def namespaces(self) -> list[str]:
        """Namespaces that some object of the snapshot lies in."""
        found = {key[0] for objects_of_kind in self._objects.values() for key in objects_of_kind}
        return sorted((found | {key[1] for key in self._events}) - {""})

    def lacks(self, kind: str, namespace: str | None, name: str) -> bool | None:
        """True: known not to exist; False: exists; None: nobody looked."""
        if self.get(kind, namespace, name) is not None:
            return False
        if (kind, namespace or "", name) in self.absent or (kind, namespace or "") in self.complete:
            return True
        return None

    def looked_at(self, kind: str, namespace: str | None = None) -> bool:
        """Whether objects of the kind were read at all (in a namespace): if not, nothing follows from their absence."""
        if namespace is None:
            return bool(self.all(kind)) or any(complete == kind for complete, _ in self.complete)
        whole = (kind, namespace) in self.complete or (kind, "") in self.complete
        return whole or bool(self.all(kind, namespace))

    def miss(self, sentence: str) -> None:
        """Record that something could not be looked at."""
        if sentence not in self.unseen:
            self.unseen.append(sentence)

    # events and logs

    def events(self) -> list[Event]:
        return [event for found in self._events.values() for event in found]

    def events_for(self, kind: str, namespace: str | None, name: str, uid: str = "") -> list[Event]:
        """Events about an object, oldest first. With `uid`, not those of an earlier object of the same name."""
        found = self._events.get((kind, namespace or "", name), [])
        if uid:
            found = [event for event in found if not event.uid or event.uid == uid]
        return sorted(found, key=lambda event: (event.last or _EPOCH, event.message))

    def log(self, namespace: str, pod: str, container: str, previous: bool) -> str | None:
        """A container's log, redacted; None when it was not read."""
        key = (namespace, pod, container, previous)
        if key not in self._logs:
            return None
        if key not in self._clean_logs:
            self._clean_logs[key] = redact(self._logs[key])
        return self._clean_logs[key]

    def log_keys(self) -> list[LogKey]:
        return sorted(self._logs)

    # ownership

    def owners(self, item: Object) -> list[ObjectRef]:
        """The chain of owners of an object, nearest first, by ownerReferences uid.

        An owner that is not in the snapshot ends the chain under its reference's own kind and name, and is recorded
        as unseen.
        """
        uid = text(item, "metadata", "uid")
        if uid and uid in self._chains:
            return self._chains[uid]
        chain: list[ObjectRef] = []
        namespace = text(item, "metadata", "namespace") or None
        current: Object | None = item
        while current is not None and len(chain) < _CHAIN_LIMIT:
            reference = _controller(current)
            if reference is None:
                break
            owner = self._by_uid.get(text(reference, "uid"))
            if owner is not None:
                chain.append(ref_of(owner))
            else:
                kind, name = text(reference, "kind"), text(reference, "name")
                chain.append(ObjectRef(kind=kind, namespace=None if kind == "Node" else namespace, name=name))
                if kind in WORKLOAD_KINDS:
                    self.miss(f"{kind} {namespace}/{name} owns objects here and is not in the snapshot")
            current = owner
        if uid:
            self._chains[uid] = chain
        return chain

    def workload_of(self, pod: Object) -> ObjectRef:
        """The top of the owner chain that holds a pod template: what a person would change.

        An operator's own object above it is not the workload. A bare or static pod is its own.
        """
        uid = text(pod, "metadata", "uid")
        if uid not in self._workloads:
            found = self._workload_of(pod)
            if not uid:
                return found
            self._workloads[uid] = found
        return self._workloads[uid]

    def _workload_of(self, pod: Object) -> ObjectRef:
        chain = self.owners(pod)
        workloads = [ref for ref in chain if ref.kind in WORKLOAD_KINDS]
        if workloads:
            return workloads[-1]
        if chain and chain[0].kind != "Node":
            return chain[0]
        return ref_of(pod)

    def pods_of(self, ref: ObjectRef) -> list[Object]:
        """Pods below an object, by ownership; a pod is its own."""
        if ref.kind == "Pod":
            pod = self.get("Pod", ref.namespace, ref.name)
            return [pod] if pod is not None else []
        if ref.namespace not in self._pods_below:
            below: dict[tuple[str, str, str], list[Object]] = defaultdict(list)
            for pod in self.all("Pod", ref.namespace):
                for owner in {(above.kind, above.namespace or "", above.name) for above in self.owners(pod)}:
                    below[owner].append(pod)
            self._pods_below[ref.namespace] = below
        return list(self._pods_below[ref.namespace].get((ref.kind, ref.namespace or "", ref.name), ()))

    def owned_by(self, owner: Object, kind: str) -> list[Object]:
        """Objects of a kind whose controller is `owner`."""
        if self._owned is None:
            self._owned = defaultdict(list)
            for owned_kind in self._objects:
                for item in self.all(owned_kind):
                    reference = _controller(item)
                    if reference is not None and text(reference, "uid"):
                        self._owned[text(reference, "uid")].append(item)
        uid = text(owner, "metadata", "uid")
        return [item for item in self._owned.get(uid, []) if _kind_key(item) == kind] if uid else []

    def revisions(self, ref: ObjectRef) -> list[Revision]:
        """Revisions of a Deployment, StatefulSet or DaemonSet that still exist, oldest first; see `Revision`."""
        workload = bare(ref)
        if workload not in self._revisions:
            self._revisions[workload] = revisions_of(self, workload)
        return self._revisions[workload]


def ref_of(item: Object) -> ObjectRef:
    """The reference to an object of the snapshot."""
    return _ref(_kind_key(item), text(item, "metadata", "namespace"), text(item, "metadata", "name"))


def bare(ref: ObjectRef) -> ObjectRef:
    """The reference without its container."""
    return _ref(ref.kind, ref.namespace or "", ref.name) if ref.container else ref


@lru_cache(maxsize=1 << 15)
def _ref(kind: str, namespace: str, name: str) -> ObjectRef:
    return ObjectRef(kind=kind, namespace=namespace or None, name=name)


def _controller(item: Object) -> Object | None:
    """The managing owner (`controller: true`); without one, the only owner."""
    references = objects(item, "metadata", "ownerReferences")
    managing = [reference for reference in references if pick(reference, "controller") is True]
    if not managing and len(references) == 1:
        managing = references
    usable = [reference for reference in managing if text(reference, "kind") and text(reference, "name")]
    return usable[0] if usable else None


def _kind_key(item: Object) -> str:
    """The kind; with its group where another project uses a built-in kind's name (Knative's Service)."""
    kind, version = text(item, "kind"), text(item, "apiVersion")
    if version in ("v1", "apps/v1"):
        return kind
    group = version.rpartition("/")[0]
    built_in = not group or "." not in group or group.endswith(".k8s.io")
    return kind if built_in or kind not in _COMMON_NAMES else f"{kind}.{group}"


_COMMON_NAMES = {
    *WORKLOAD_KINDS, "Service", "Ingress", "Node", "Event", "Secret", "ConfigMap", "NetworkPolicy", "Namespace", "Role",
    "Gateway", "HTTPRoute", "Lease", "Endpoints", "RoleBinding", "ClusterRole", "ClusterRoleBinding", "ServiceAccount",
}  # fmt: skip
