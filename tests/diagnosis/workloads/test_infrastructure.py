"""Nodes, the control plane and the network: real objects, some changed by the helper `changed` as each test says."""

from __future__ import annotations

import copy
import json
from datetime import timedelta

import pytest

from diagnosis.workloads.diagnose import diagnose
from diagnosis.workloads.fields import Object
from diagnosis.workloads.metrics import Alert, Series
from diagnosis.workloads.snapshot import Snapshot
from incidents.models import CauseClass, DiagnosisStatus, ObjectRef
from tests.snapshot_cases import changed, classes, loaded, of_case, only, truth

LONG_AGO = "2026-01-01T00:00:00Z"


def lease(snapshot: Snapshot, name: str, ago: timedelta) -> Object:
    renewed = (snapshot.observed_at - ago).strftime("%Y-%m-%dT%H:%M:%S.000000Z")
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": name, "namespace": "kube-system"},
        "spec": {"holderIdentity": "control-1", "leaseDurationSeconds": 15, "renewTime": renewed},
    }


# nodes


def test_a_node_that_is_not_known_to_be_ready_explains_its_workloads() -> None:
    cause = only(of_case("node_kubelet_down"), CauseClass.KUBELET_DOWN)
    assert cause.facts["explained_count"] == 1
    assert "or the way to it is down" in cause.summary  # the machine may be what is dead


def test_without_a_lease_nothing_is_said_of_the_kubelet() -> None:
    """Transformed: leases were not read; the workload is lost with its node all the same."""
    found = of_case("node_kubelet_down", changed("node_kubelet_down", lambda item: item["kind"] != "Lease"))
    only(found, CauseClass.NODE_LOST)


def test_a_node_can_be_asked_about() -> None:
    for name in ("node_kubelet_down", "node_runtime_down", "node_disk_pressure"):
        node = ObjectRef(kind="Node", name=truth(name)["object"]["name"])
        found = diagnose(loaded(name), target=node)
        assert (found.causes[0].cause_class.value, found.causes[0].object) == (truth(name)["class"], node)


def test_another_namespace_is_not_told_of_nodes_that_it_does_not_use() -> None:
    """Transformed: the pods on the broken node are gone."""
    for name in ("node_kubelet_down", "node_runtime_down", "node_disk_pressure"):
        node = truth(name)["object"]["name"]

        def elsewhere(item: Object, node: str = node) -> bool:
            return not (item["kind"] in ("Pod", "Deployment", "ReplicaSet") and node in json.dumps(item))

        found = of_case(name, changed(name, elsewhere))
        assert CauseClass(truth(name)["class"]) not in classes(found)


def test_a_node_that_is_not_ready_for_another_reason_is_not_its_runtime() -> None:
    """Transformed: the kubelet says that the network plugin is missing."""
    name = "node_runtime_down"

    def plugin(item: Object) -> None:
        for condition in item["status"]["conditions"] if item["kind"] == "Node" else []:
            if condition["type"] == "Ready" and condition["status"] == "False":
                condition["message"] = "container network is not ready: cni plugin not initialized"

    only(of_case(name, changed(name, plugin)), CauseClass.NODE_LOST)


@pytest.mark.parametrize(
    ("kind", "word", "cause"),
    [
        ("MemoryPressure", "memory", CauseClass.NODE_MEMORY_PRESSURE),
        ("PIDPressure", "pids", CauseClass.NODE_PID_PRESSURE),
    ],
)
def test_other_pressures(kind: str, word: str, cause: CauseClass) -> None:
    """Transformed: the same node is short of something else."""
    name = "node_disk_pressure"
    text = json.dumps(loaded(name).items()).replace("DiskPressure", kind).replace("ephemeral-storage", word)
    original = loaded(name)
    snapshot = Snapshot(json.loads(text), observed_at=original.observed_at, complete=original.complete)
    assert only(of_case(name, snapshot), cause).facts["explained_count"] == 1


def test_a_pod_over_its_own_limit_is_not_the_nodes_fault() -> None:
    """Transformed: the evicted pod used more than its own limit while the node was short as well."""
    name = "node_disk_pressure"

    def own(item: Object) -> None:
        if item["kind"] == "Pod" and item["status"].get("reason") == "Evicted":
            item["status"]["message"] = "Pod ephemeral local storage usage exceeds the total limit of containers 2Mi. "

    only(of_case(name, changed(name, own)), CauseClass.EVICTED)


def test_a_taint_that_keeps_pods_away_is_explained_by_the_pressure() -> None:
    """Transformed: a pod that no node took, in the scheduler's words for the taint of disk pressure."""
    name = "node_disk_pressure"
    node = truth(name)["object"]["name"]
    taint = "{node.kubernetes.io/disk-pressure: }"
    words = f"0/1 nodes are available: 1 node(s) had taint {taint}, that the pod didn't tolerate."

    def pending(item: Object) -> None:
        if item["kind"] == "Pod" and item["spec"].get("nodeName") == node:
            item["spec"].pop("nodeName")
            unscheduled = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": words}
            item["status"] = {"phase": "Pending", "conditions": [unscheduled]}

    only(of_case(name, changed(name, pending)), CauseClass.NODE_DISK_PRESSURE)


def test_pressure_of_a_node_that_a_pod_may_not_use_does_not_keep_the_pod_waiting() -> None:
    """Transformed as above, and the pod asks for labels that the node in question does not have: the scheduler still
    counts that node's taint."""
    name = "node_disk_pressure"
    node = truth(name)["object"]["name"]
    words = (
        "0/2 nodes are available: 1 node(s) had taint {node.kubernetes.io/disk-pressure: }, that the pod didn't "
        "tolerate, 1 node(s) didn't match Pod's node affinity."
    )

    def pending(item: Object) -> None:
        if item["kind"] == "Pod" and item["spec"].get("nodeName") == node:
            item["spec"].pop("nodeName")
            item["spec"]["nodeSelector"] = {"pool": "elsewhere"}
            unscheduled = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": words}
            item["status"] = {"phase": "Pending", "conditions": [unscheduled]}

    assert CauseClass.NODE_DISK_PRESSURE not in classes(of_case(name, changed(name, pending)))


def proxy(ready: bool, node: str) -> list[Object]:
    """kube-proxy as most clusters run it: a real pod of a case under its name and labels."""
    pod = copy.deepcopy(next(item for item in loaded("service_healthy").all("Pod") if item["spec"].get("nodeName")))
    pod["metadata"] |= {"name": "kube-proxy-x", "namespace": "kube-system", "labels": {"k8s-app": "kube-proxy"}}
    pod["metadata"].pop("ownerReferences")
    pod["spec"]["nodeName"] = node
    status = "True" if ready else "False"
    pod["status"]["conditions"] = [{"type": "Ready", "status": status, "lastTransitionTime": LONG_AGO}]
    return [pod]


def test_kube_proxy_on_a_node_of_the_workload() -> None:
    cause = only(
        of_case("service_healthy", changed("service_healthy", more=proxy(False, "node1"))), CauseClass.KUBE_PROXY_DOWN
    )
    assert cause.facts["node"] == "node1"
    for more in (proxy(True, "node1"), proxy(False, "node-of-others")):
        assert of_case("service_healthy", changed("service_healthy", more=more)).status is DiagnosisStatus.HEALTHY


def test_what_the_clusters_own_pods_say_is_quoted() -> None:
    """Transformed: kube-proxy, and a name server, crash and say why."""
    proxies, space = proxy(False, "node1"), "kube-system"
    pod = proxies[0]
    container = pod["spec"]["containers"][0]["name"]
    for status in pod["status"]["containerStatuses"]:
        status |= {"ready": False, "restartCount": 0}
    logs = {(space, "kube-proxy-x", container, False): "starting\nF1121 error: unable to write /proc/sys/net: denied\n"}
    found = of_case("service_healthy", changed("service_healthy", more=proxies, logs=logs))
    cause = only(found, CauseClass.KUBE_PROXY_DOWN)
    claims = [finding.claim for finding in found.findings if finding.id in cause.finding_ids]
    assert any("«F1121 error: unable to write /proc/sys/net: denied»" in claim for claim in claims)
    name_server = {
        **copy.deepcopy(pod),
        "metadata": {**pod["metadata"], "name": "coredns-x", "labels": {"k8s-app": "d"}},
    }
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "kube-dns", "namespace": space}}
    service["spec"] = {"selector": {"k8s-app": "d"}, "ports": [{"port": 53}]}
    logs = {(space, "coredns-x", container, False): "plugin/loop: Loop detected for zone, FATAL\n"}
    found = of_case("service_healthy", changed("service_healthy", more=[name_server, service], logs=logs))
    cause = only(found, CauseClass.CLUSTER_DNS_DOWN)
    assert any("Loop detected" in finding.claim for finding in found.findings if finding.id in cause.finding_ids)


# control plane


def default_scheduler(item: Object) -> None:
    if item["kind"] == "Pod" and not item["spec"].get("nodeName"):
        item["spec"]["schedulerName"] = "default-scheduler"


def test_pods_that_no_scheduler_speaks_of() -> None:
    """Transformed: the pod asks for the default scheduler."""
    snapshot = changed("scheduler_absent", default_scheduler, later=timedelta(minutes=5))
    cause = only(of_case("scheduler_absent", snapshot), CauseClass.SCHEDULER_DOWN)
    assert (str(cause.object), cause.confidence) == ("Scheduler default-scheduler", 0.75)


def test_the_schedulers_lease_tells() -> None:
    """Transformed: a lease that is not renewed proves it, one that is renewed excludes it."""
    base = loaded("scheduler_absent")
    stale = changed("scheduler_absent", default_scheduler, more=[lease(base, "kube-scheduler", timedelta(minutes=4))])
    cause = only(of_case("scheduler_absent", stale), CauseClass.SCHEDULER_DOWN)
    assert (str(cause.object), cause.confidence) == ("Lease kube-system/kube-scheduler", 0.95)
    fresh = changed("scheduler_absent", default_scheduler, more=[lease(base, "kube-scheduler", timedelta(seconds=3))])
    assert CauseClass.SCHEDULER_DOWN not in classes(of_case("scheduler_absent", fresh))


def test_a_pod_of_a_moment_ago_and_one_behind_a_gate_may_wait() -> None:
    """Transformed: the pod is seen a minute earlier; the pod has a scheduling gate."""
    early = changed("scheduler_absent", later=timedelta(seconds=-60))
    assert CauseClass.SCHEDULER_DOWN not in classes(of_case("scheduler_absent", early))

    def gated(item: Object) -> None:
        if item["kind"] == "Pod":
            item["spec"]["schedulingGates"] = [{"name": "example.com/wait"}]

    assert CauseClass.SCHEDULER_DOWN not in classes(of_case("scheduler_absent", changed("scheduler_absent", gated)))


def ignored(item: Object) -> object:
    """Transformed: a Deployment as it is before any controller saw it: no status, no ReplicaSet, no pod."""
    if item["kind"] == "Deployment":
        item["status"] = {}
    return item["kind"] not in ("ReplicaSet", "Pod", "Event", "Endpoints")


def test_workloads_that_no_controller_has_seen() -> None:
    snapshot = changed("service_healthy", ignored, later=timedelta(minutes=5))
    cause = only(of_case("service_healthy", snapshot), CauseClass.CONTROLLER_MANAGER_DOWN)
    assert str(cause.object) == "ControllerManager kube-controller-manager"
    assert cause.facts["explained_count"] == 5  # three Deployments and two Services


def test_a_workload_of_a_moment_ago_may_be_unseen() -> None:
    created = next(item for item in loaded("service_healthy").all("Deployment"))["metadata"]["creationTimestamp"]

    def young(item: Object) -> object:
        item["metadata"]["creationTimestamp"] = created
        return ignored(item)

    original = loaded("service_healthy")
    snapshot = changed("service_healthy", young)
    since = Snapshot([{"kind": "Namespace", "metadata": {"name": "x", "creationTimestamp": created}}]).observed_at
    soon = changed("service_healthy", young, later=since + timedelta(seconds=20) - original.observed_at)
    assert CauseClass.CONTROLLER_MANAGER_DOWN not in classes(of_case("service_healthy", soon))
    assert snapshot.observed_at == original.observed_at


def test_a_live_controller_managers_lease_excludes_it() -> None:
    base = loaded("service_healthy")
    snapshot = changed("service_healthy", ignored, more=[lease(base, "kube-controller-manager", timedelta(seconds=3))])
    assert CauseClass.CONTROLLER_MANAGER_DOWN not in classes(of_case("service_healthy", snapshot))


def test_a_change_that_is_not_observed_needs_proof() -> None:
    """Transformed: one generation behind; only with a stale lease that is more than a moment."""

    def behind(item: Object) -> None:
        if item["kind"] == "Deployment":
            item["metadata"]["generation"] += 1
            item["metadata"].pop("managedFields", None)

    base = loaded("service_healthy")
    assert CauseClass.CONTROLLER_MANAGER_DOWN not in classes(
        of_case("service_healthy", changed("service_healthy", behind))
    )
    stale = [lease(base, "kube-controller-manager", timedelta(minutes=3))]
    cause = only(of_case("service_healthy", changed("service_healthy", behind, more=stale)),
                 CauseClass.CONTROLLER_MANAGER_DOWN)  # fmt: skip
    assert cause.confidence == 0.95


# network


def counters(base: Snapshot, *, lost: float, sent: float) -> list[Series]:
    start = base.observed_at - timedelta(minutes=10)
    labels = {"instance": "node1:9100", "device": "eth0"}
    return [
        Series("node_network_receive_drop_total", labels, [(start, 5.0), (base.observed_at, 5.0 + lost)], "drop.json"),
        Series("node_network_receive_packets_total", labels, [(start, 0.0), (base.observed_at, sent)], "packets.json"),
    ]


@pytest.mark.parametrize(("lost", "sent", "degraded"), [(600, 10_000, True), (10, 10_000, False), (60, 500, False)])
def test_lost_packets(lost: float, sent: float, degraded: bool) -> None:
    base = loaded("service_healthy")
    found = of_case("service_healthy", changed("service_healthy", series=counters(base, lost=lost, sent=sent)))
    assert (CauseClass.NETWORK_DEGRADED in classes(found)) is degraded
    if degraded:
        assert only(found, CauseClass.NETWORK_DEGRADED).facts["share_dropped_on_receipt"] == 0.06


def test_an_alert_about_the_nodes_network() -> None:
    alert = Alert("NodeNetworkReceiveErrs", {"instance": "node1:9100"})
    found = of_case("service_healthy", changed("service_healthy", alerts=[alert]))
    assert only(found, CauseClass.NETWORK_DEGRADED).object.name == "node1"
    other = Alert("NodeNetworkReceiveErrs", {"instance": "node2:9100"})
    assert of_case("service_healthy", changed("service_healthy", alerts=[other])).status is DiagnosisStatus.HEALTHY


def spread(timed_out: int, nodes: int) -> Snapshot:
    """Transformed: five copies of a real pod as workloads of their own, the first ones with a probe's timeout, those
    on the first node; the rest are well, on the others."""
    base = loaded("service_healthy")
    pod = next(
        item for item in base.all("Pod", truth("service_healthy")["namespace"]) if "readinessProbe" in json.dumps(item)
    )
    node = base.get("Node", None, "node1")
    items: list[Object] = []
    for index in range(5):
        one = copy.deepcopy(pod)
        place = f"n{0 if index < timed_out else 1 + index % (nodes - 1)}" if nodes > 1 else "n0"
        one["metadata"] |= {"name": f"w{index}", "uid": f"u{index}", "ownerReferences": []}
        one["spec"]["nodeName"] = place
        items.append(one)
        if index < timed_out:
            items.append({
                "kind": "Event", "metadata": {"name": f"e{index}", "namespace": one["metadata"]["namespace"]},
                "involvedObject": {"kind": "Pod", "name": f"w{index}", "namespace": one["metadata"]["namespace"]},
                "type": "Warning", "reason": "Unhealthy", "lastTimestamp": base.observed_at.isoformat(),
                "message": 'Readiness probe failed: Get "http://10.244.0.9:8080/alive": context deadline exceeded',
            })  # fmt: skip
    for index in range(nodes):
        other = copy.deepcopy(node) or {}
        other["metadata"] = {"name": f"n{index}"}
        items.append(other)
    return Snapshot(items, observed_at=base.observed_at, complete=base.complete)


@pytest.mark.parametrize(
    ("timed_out", "nodes", "degraded"), [(3, 2, True), (1, 2, False), (5, 1, False), (5, 2, False)]
)
def test_timeouts_point_at_a_node_only_where_others_are_well(timed_out: int, nodes: int, degraded: bool) -> None:
    found = of_case("service_healthy", spread(timed_out, nodes))
    assert (CauseClass.NETWORK_DEGRADED in classes(found)) is degraded
