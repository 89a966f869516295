"""Admission, scheduling and claims: what the fixtures do not show, on real objects that are transformed here."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from diagnosis.workloads.analyzers.limit_range_violated import parse
from diagnosis.workloads.diagnose import diagnose
from diagnosis.workloads.fields import Object
from diagnosis.workloads.load import load_snapshot
from diagnosis.workloads.node_fit import fits, requests_of
from diagnosis.workloads.scheduling import nodes_in, reasons_in
from diagnosis.workloads.snapshot import Snapshot
from incidents.models import Cause, CauseClass, Diagnosis, DiagnosisStatus

SNAPSHOTS = Path(__file__).parents[2] / "fixtures" / "snapshots"


def transformed(name: str, change: Callable[[Object], Object | None], *more: Object, later: int = 0) -> Diagnosis:
    """The diagnosis of a captured case after `change` of each of its objects (None drops it), with `more` objects."""
    original = load_snapshot(SNAPSHOTS / name)
    items = [kept for item in copy.deepcopy(original.items()) if (kept := change(item)) is not None]
    snapshot = Snapshot([*items, *more], observed_at=original.observed_at + timedelta(seconds=later),
                        complete=original.complete)  # fmt: skip
    namespace = json.loads((SNAPSHOTS / f"{name}.truth.json").read_text())["namespace"]
    return diagnose(snapshot, namespace=namespace)


def refused(old: str, new: str) -> Cause:
    """A real refusal (of a limit range) whose words are exchanged."""

    def change(item: Object) -> Object:
        return json.loads(json.dumps(item).replace(old, new)) if item["kind"] != "Pod" else item  # type: ignore[no-any-return]

    return transformed("limit_range_max", change).causes[0]


LIMIT = "maximum memory usage per Container is 64Mi, but limit is 96Mi"


@pytest.mark.parametrize(
    ("words", "cause"),
    [
        (
            # k8s.io/pod-security-admission, Kubernetes 1.25
            'violates PodSecurity \\"restricted:latest\\": allowPrivilegeEscalation (container \\"x\\")',
            CauseClass.POD_SECURITY_DENIED,
        ),
        (
            "unable to validate against any pod security policy: [privileged]",
            CauseClass.POD_SECURITY_DENIED,
        ),
        ("PodSecurityPolicy: unable to admit pod: []", CauseClass.POD_SECURITY_DENIED),
        ("seccomp may not be set", CauseClass.POD_SECURITY_DENIED),
        ("exceeded quota: q, requested: services=1, used: services=5, limited: services=5", CauseClass.QUOTA_EXCEEDED),
        (
            "exceeded quota: q, requested: limits.memory=1Gi,pods=1, used: limits.memory=4Gi,pods=9, "
            "limited: limits.memory=4Gi,pods=9",
            CauseClass.QUOTA_EXCEEDED,
        ),
        ("failed quota: q: must specify limits.cpu for: app; limits.memory for: app", CauseClass.QUOTA_EXCEEDED),
    ],
)
def test_a_refusal_is_named_by_its_words(words: str, cause: CauseClass) -> None:
    found = refused(LIMIT, words)
    assert found.cause_class is cause
    assert found.confidence >= 0.9


def test_each_resource_of_a_quota_is_named() -> None:
    words = "exceeded quota: q, requested: limits.memory=1Gi,pods=1, used: limits.memory=4Gi,pods=9, limited: "
    assert refused(LIMIT, words + "limits.memory=4Gi,pods=9").facts["resources"] == ["limits.memory", "pods"]


def test_a_refusal_of_another_kind_is_no_known_class() -> None:
    assert refused(LIMIT, "no room in the moon").cause_class is CauseClass.UNKNOWN


@pytest.mark.parametrize(
    ("said", "bound", "observed"),
    [
        ("minimum cpu usage per Pod is 100m, but request is 50m", "minimum", "50m"),
        ("maximum memory usage per Container is 1Gi.  No limit is specified", "maximum", None),
        ("[maximum storage usage per PersistentVolumeClaim is 1Gi, but request is 2Gi, x]", "maximum", "2Gi"),
        ("cpu max limit to request ratio per Container is 2, but provided ratio is 10.000000", "ratio", "10.000000"),
    ],
)
def test_bounds_of_limit_ranges(said: str, bound: str, observed: str | None) -> None:
    facts = parse(said)
    assert facts is not None and (facts["bound"], facts["observed"]) == (bound, observed)


def test_another_accounts_denial_is_not_its_own() -> None:
    original = load_snapshot(SNAPSHOTS / "rbac_denied")
    truth = json.loads((SNAPSHOTS / "rbac_denied.truth.json").read_text())
    account = truth["facts"]["service_account"]
    logs = {key: (original.log(*key) or "").replace(account, "somebody-else") for key in original.log_keys()}
    snapshot = Snapshot(original.items(), logs=logs, observed_at=original.observed_at, complete=original.complete)
    found = diagnose(snapshot, namespace=truth["namespace"])
    assert CauseClass.RBAC_DENIED not in {cause.cause_class for cause in found.causes}


def test_an_answered_refusal_is_history() -> None:
    def ready(item: Object) -> Object:
        if item["kind"] in ("Deployment", "ReplicaSet"):
            item["status"] = {"replicas": 1, "readyReplicas": 1, "updatedReplicas": 1, "availableReplicas": 1}
        return item

    assert transformed("quota_cpu", ready).status is DiagnosisStatus.HEALTHY


# scheduling


def test_a_message_is_taken_apart() -> None:
    found = reasons_in(
        "0/9 nodes are available: 1 Too many pods, 2 Insufficient nvidia.com/gpu, 3 node(s) had untolerated taint "
        "{dedicated: batch}, 1 node(s) had taint {a: }, that the pod didn't tolerate, 1 node(s) didn't find available "
        "persistent volumes to bind, 1 node(s) were unschedulable. preemption: 0/9 nodes: 9 No preemption."
    )
    assert [(reason.kind, reason.count, reason.what) for reason in found] == [
        ("resource", 1, "pods"),
        ("resource", 2, "nvidia.com/gpu"),
        ("taint", 3, "dedicated"),
        ("taint", 1, "a"),
        ("claim", 1, ""),
        ("cordon", 1, ""),
    ]
    assert nodes_in("0/9 nodes are available: x") == 9


def without_nodes(item: Object) -> Object | None:
    return None if item["kind"] == "Node" else item


@pytest.mark.parametrize("name", ["sched_memory", "sched_spread", "sched_host_port", "sched_anti_affinity"])
def test_without_nodes_the_scheduler_is_believed(name: str) -> None:
    truth = json.loads((SNAPSHOTS / f"{name}.truth.json").read_text())
    cause = transformed(name, without_nodes).causes[0]
    assert cause.cause_class.value == truth["class"]
    assert "nearest_node" not in cause.facts


def test_a_taint_of_the_control_plane_alone_is_not_the_cause() -> None:
    message = "0/3 nodes are available: 2 node(s) had taint {node-role.kubernetes.io/master: }, that the pod didn't "
    message += "tolerate, 1 Insufficient cpu."

    def change(item: Object) -> Object | None:
        for entry in item.get("status", {}).get("conditions") or [] if item["kind"] == "Pod" else []:
            if entry["type"] == "PodScheduled":
                entry["message"] = message
        return without_nodes(item)

    assert transformed("sched_taint", change).causes[0].cause_class is CauseClass.INSUFFICIENT_RESOURCES


def test_the_value_that_nodes_carry_is_suggested() -> None:
    def change(item: Object) -> Object:
        if item["kind"] == "Pod":
            item["spec"]["nodeSelector"] = {"kubernetes.io/arch": "arm64"}
        return item

    cause = transformed("unschedulable_selector", change).causes[0]
    assert cause.facts["node_selector"] == ["kubernetes.io/arch=arm64"]
    assert cause.facts["suggested_node_selector"] == ["kubernetes.io/arch=amd64"]


def test_a_node_is_compared_with_a_pod() -> None:
    node: Object = {
        "kind": "Node",
        "metadata": {"name": "n", "labels": {"zone": "a", "size": "7"}},
        "spec": {"unschedulable": True, "taints": [{"key": "k", "value": "v", "effect": "NoExecute"}]},
        "status": {"allocatable": {"cpu": "2", "memory": "1Gi", "pods": "10"}},
    }
    running: Object = {"kind": "Pod", "metadata": {"name": "a", "namespace": "x"}, "status": {"phase": "Running"}}
    running["spec"] = {"nodeName": "n", "containers": [{"resources": {"requests": {"cpu": "1500m"}}}]}
    term = {"matchExpressions": [{"key": "size", "operator": "Gt", "values": ["8"]}]}
    pod: Object = {"kind": "Pod", "metadata": {"name": "b", "namespace": "x"}}
    pod["spec"] = {
        "nodeSelector": {"zone": "a"},
        "tolerations": [{"key": "k", "operator": "Equal", "value": "v"}],
        "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}},
        "containers": [{"resources": {"limits": {"cpu": "600m"}}}],
        "initContainers": [{"resources": {"requests": {"cpu": "400m", "memory": "512Mi"}}}],
    }
    assert requests_of(pod) == {"cpu": 0.6, "memory": 512.0 * 2**20, "pods": 1.0}
    (fit,) = fits(Snapshot([node, running, pod]), pod)
    assert [(lack.kind, lack.what) for lack in fit.lacks] == [("affinity", ""), ("cordon", ""), ("resource", "cpu")]


# claims


def test_a_smaller_volume_does_not_fit() -> None:
    def change(item: Object) -> Object:
        if item["kind"] == "PersistentVolume":
            item["metadata"]["labels"] = {"tier": "fast"}
            item["spec"]["capacity"] = {"storage": "1Mi"}
        return item

    cause = transformed("claim_selector", change).causes[0]
    assert (cause.cause_class, cause.facts["differs"]) == (CauseClass.VOLUME_MISMATCH, "capacity")


def test_what_the_provisioner_says_is_told() -> None:
    said = "failed to provision volume with StorageClass: rpc error: code = ResourceExhausted desc = no space in pool"

    def change(item: Object) -> Object:
        if item["kind"] == "Event" and item["reason"] == "ExternalProvisioning":
            item.update(reason="ProvisioningFailed", type="Warning", message=said)
        return item

    cause = transformed("claim_not_provisioned", change).causes[0]
    assert cause.cause_class is CauseClass.VOLUME_NOT_PROVISIONED
    assert "no space in pool" in cause.summary


def test_claims_that_nobody_read_are_not_called_missing() -> None:
    original = load_snapshot(SNAPSHOTS / "claim_missing")
    complete = {pair for pair in original.complete if pair[0] != "PersistentVolumeClaim"}
    found = diagnose(Snapshot(original.items(), observed_at=original.observed_at, complete=complete))
    assert found.causes[0].cause_class is CauseClass.UNSCHEDULABLE


def test_storage_classes_that_nobody_read_are_not_called_missing() -> None:
    original = load_snapshot(SNAPSHOTS / "claim_not_provisioned")
    items = [item for item in original.items() if item["kind"] != "StorageClass"]
    complete = {pair for pair in original.complete if pair[0] != "StorageClass"}
    found = diagnose(Snapshot(items, observed_at=original.observed_at, complete=complete))
    assert CauseClass.MISSING_STORAGE_CLASS not in {cause.cause_class for cause in found.causes}


def test_a_claim_that_waits_for_its_pod_is_not_what_the_pod_waits_for() -> None:
    """A real claim that waits for its first consumer, put under a real pod that a taint keeps from its node."""
    namespace = json.loads((SNAPSHOTS / "sched_taint.truth.json").read_text())["namespace"]
    others = copy.deepcopy(load_snapshot(SNAPSHOTS / "healthy_claim_waits").items())
    more = [item for item in others if item["kind"] in ("PersistentVolumeClaim", "StorageClass")]
    claim = next(item for item in more if item["kind"] == "PersistentVolumeClaim")
    claim["metadata"]["namespace"] = namespace
    volume = {"name": "data", "persistentVolumeClaim": {"claimName": claim["metadata"]["name"]}}

    def change(item: Object) -> Object:
        if item["kind"] == "Pod":
            item["spec"]["volumes"] = [volume]
        return item

    found = transformed("sched_taint", change, *more)
    assert [cause.cause_class for cause in found.causes] == [CauseClass.UNTOLERATED_TAINT]
