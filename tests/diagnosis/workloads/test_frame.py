"""The frame around the analyzers: what counts as trouble, one cause for one fault, chains, symptoms, what is over.

Objects are those of real faults (tests/fixtures/snapshots), transformed where a test says so.
"""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from diagnosis.workloads.diagnose import diagnose
from diagnosis.workloads.fields import Object
from diagnosis.workloads.load import load_snapshot
from diagnosis.workloads.snapshot import Snapshot
from diagnosis.workloads.symptom import read_symptom
from incidents.models import Diagnosis, DiagnosisStatus, ObjectRef

SNAPSHOTS = Path(__file__).parents[2] / "fixtures" / "snapshots"
NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
KINDS = ("Pod", "Event", "Node", "Service", "Deployment", "Job", "PersistentVolumeClaim", "Ingress", "StorageClass")


def of(
    name: str, *more: Object, after: timedelta = timedelta(0), change: Callable[[Object], None] | None = None
) -> Snapshot:
    """A captured case with more objects, looked at `after` it was captured, each object after `change`."""
    original = load_snapshot(SNAPSHOTS / name)
    items = copy.deepcopy(original.items())
    for item in items if change else []:
        change(item)  # type: ignore[misc]
    logs = {key: original.log(*key) or "" for key in original.log_keys()}
    at = original.observed_at + after
    return Snapshot([*items, *more], logs=logs, observed_at=at, complete=original.complete)


def space(name: str) -> str:
    return str(json.loads((SNAPSHOTS / f"{name}.truth.json").read_text())["namespace"])


def made(kind: str, version: str, name: str, namespace: str | None, **parts: object) -> Object:
    """An object that exists for an hour."""
    meta: Object = {"name": name, "creationTimestamp": "2026-11-20T00:00:00Z", "uid": f"uid-{kind}-{name}"}
    meta |= {"namespace": namespace} if namespace else {}
    more = parts.pop("metadata", {})
    meta |= more if isinstance(more, dict) else {}
    return {"apiVersion": version, "kind": kind, "metadata": meta, **parts}


def healthy_with(*more: Object) -> Diagnosis:
    return diagnose(of("healthy", *more), namespace=space("healthy"))


NS = space("healthy")
SERVICE = made("Service", "v1", "lonely", NS, spec={"selector": {"app": "nobody"}, "ports": [{"port": 80}]})
CLAIM = made("PersistentVolumeClaim", "v1", "data", NS, spec={}, status={"phase": "Pending"})
INGRESS = made(
    "Ingress", "networking.k8s.io/v1", "front", NS,
    spec={"rules": [{"http": {"paths": [{"path": "/", "backend": {"service": {"name": "nothing"}}}]}}]},
)  # fmt: skip
SCALER = made(
    "HorizontalPodAutoscaler", "autoscaling/v2", "scaler", NS,
    spec={"scaleTargetRef": {"kind": "Deployment", "name": "other"}},
    status={"conditions": [{"type": "ScalingActive", "status": "False", "reason": "FailedGetResourceMetric"}]},
)  # fmt: skip
STUCK = made(
    "Namespace", "v1", NS, None,
    metadata={"deletionTimestamp": "2026-11-20T01:00:00Z"}, spec={"finalizers": ["kubernetes"]},
)  # fmt: skip


@pytest.mark.parametrize(
    ("item", "said"),
    [
        (SERVICE, "Service lonely selects no pod"),
        (CLAIM, "PersistentVolumeClaim data is Pending"),
        (INGRESS, "Ingress front leads to Service nothing, which does not exist"),
        (SCALER, "HorizontalPodAutoscaler scaler cannot scale Deployment other (FailedGetResourceMetric)"),
        (STUCK, "is being deleted since 2026-11-20 01:00:00"),
    ],
    ids=lambda value: value["kind"] if isinstance(value, dict) else "",
)
def test_trouble_that_is_no_pods_is_not_healthy(item: Object, said: str) -> None:
    found = healthy_with(item)
    assert found.status is not DiagnosisStatus.HEALTHY
    assert any(said in finding.claim for finding in found.findings) or found.status is DiagnosisStatus.DIAGNOSED


@pytest.mark.parametrize(
    "items",
    [
        [made("Service", "v1", "outside", NS, spec={"type": "ExternalName", "externalName": "a.example"})],
        [made("Service", "v1", "elsewhere", "another", spec={"selector": {"app": "nobody"}})],
        [
            {**CLAIM, "spec": {"storageClassName": "w"}},
            made("StorageClass", "storage.k8s.io/v1", "w", None, volumeBindingMode="WaitForFirstConsumer"),
        ],
        [
            made(
                "HorizontalPodAutoscaler", "autoscaling/v2", "off", NS,
                spec={"scaleTargetRef": {"kind": "Deployment", "name": "other"}},
                status={"conditions": [{"type": "ScalingActive", "status": "False", "reason": "ScalingDisabled"}]},
            )
        ],
        [made("Namespace", "v1", "another", None, metadata={"deletionTimestamp": "2026-11-20T01:00:00Z"})],
    ],
    ids=["external name", "other namespace", "claim without a consumer", "disabled autoscaler", "other deletion"],
)  # fmt: skip
def test_what_is_as_it_is_meant_is_healthy(items: list[Object]) -> None:
    assert healthy_with(*items).status is DiagnosisStatus.HEALTHY


def in_front_of(name: str, service: str = "cart", ingress: str = "front") -> tuple[Object, Object]:
    """A Service before the pods of a captured case's Deployment, and an Ingress before that."""
    truth = json.loads((SNAPSHOTS / f"{name}.truth.json").read_text())
    snapshot = load_snapshot(SNAPSHOTS / name)
    workload = snapshot.get(truth["object"]["kind"], truth["namespace"], truth["object"]["name"])
    assert workload
    labels = workload["spec"]["template"]["metadata"]["labels"]
    backend = {"service": {"name": service, "port": {"number": 80}}}
    return (
        made("Service", "v1", service, truth["namespace"], spec={"selector": labels, "ports": [{"port": 80}]}),
        made("Ingress", "networking.k8s.io/v1", ingress, truth["namespace"], spec={"defaultBackend": backend}),
    )


def test_a_service_and_its_ingress_fail_only_because_of_the_pods() -> None:
    found = diagnose(of("oom_killed", *in_front_of("oom_killed")), namespace=space("oom_killed"))
    assert [cause.cause_class.value for cause in found.causes] == ["oom_killed"], "ten findings with one cause are one"


@pytest.mark.parametrize("symptom", ["service cart 访问不通", "Service cart is unreachable", "cart 服务打不开"])
def test_the_chain_goes_from_what_was_named_to_the_cause(symptom: str) -> None:
    snapshot = of("oom_killed", *in_front_of("oom_killed"))
    cause = diagnose(snapshot, namespace=space("oom_killed"), symptom=symptom).causes[0]
    assert cause.chain[0].startswith("Service cart ")
    assert cause.chain[-1] in cause.summary
    assert len(cause.chain) == len(set(cause.chain)) >= 2


def test_the_chain_begins_at_the_outermost_where_nothing_was_named() -> None:
    snapshot = of("missing_config_key", *in_front_of("missing_config_key"))
    cause = diagnose(snapshot, namespace=space("missing_config_key")).causes[0]
    assert cause.chain[0].startswith("Ingress front leads to Service cart"), cause.chain
    assert cause.chain[1].startswith("Service cart has no ready endpoint")


def both() -> Snapshot:
    """Two faults in two namespaces, as one snapshot of a cluster."""
    first, second = load_snapshot(SNAPSHOTS / "oom_killed"), load_snapshot(SNAPSHOTS / "application_error")
    logs = {key: one.log(*key) or "" for one in (first, second) for key in one.log_keys()}
    return Snapshot([*first.items(), *second.items()], logs=logs, observed_at=first.observed_at)


def test_words_order_the_causes_and_change_nothing_else() -> None:
    snapshot = both()
    plain = diagnose(snapshot)
    assert len(plain.causes) == 2
    for cause in plain.causes:
        pods = cause.facts["pods"]
        assert isinstance(pods, list)
        gone = f"{pods[0][:-5]}zzzzz"  # a pod that its controller has replaced since
        for symptom in (
            f"{cause.object.name} 一直重启",
            f"pod {pods[0]} restarts",
            f"{gone} crashed",
            f"{cause.object.name}.",
        ):
            told = diagnose(snapshot, symptom=symptom)
            assert told.causes[0].object == cause.object, symptom
            assert sorted(str(c.confidence) for c in told.causes) == sorted(str(c.confidence) for c in plain.causes)


def test_an_events_own_text_names_its_object() -> None:
    snapshot = both()
    for event in snapshot.events():
        if event.warning and event.kind == "Pod" and len(event.message) > 40:
            assert event.name in {ref.name for ref in read_symptom(f"告警: {event.message}", snapshot, None).refs}


def test_words_that_name_nothing_name_nothing() -> None:
    assert read_symptom("pods pending, service 访问不通; nothing works", both(), None).refs == []
    assert read_symptom("", both(), None).refs == []


def recovering(item: Object) -> None:
    """Every container runs and is ready, a minute after the capture."""
    if item["kind"] == "Pod":
        status = item["status"]
        status["phase"] = "Running"
        status["conditions"] = [
            {"type": kind, "status": "True"} for kind in ("Ready", "ContainersReady", "PodScheduled")
        ]
        for container in status["containerStatuses"]:
            ended = container["state"].get("terminated") or container["lastState"].get("terminated")
            container["ready"] = container["started"] = True
            if ended:
                container["lastState"] = {"terminated": ended}
                container["state"] = {"running": {"startedAt": ended["finishedAt"]}}
    elif item["kind"] in ("Deployment", "ReplicaSet"):
        item["status"] |= {"readyReplicas": item["spec"]["replicas"], "availableReplicas": item["spec"]["replicas"]}
        item["status"]["unavailableReplicas"] = 0
        item["status"]["updatedReplicas"] = item["spec"]["replicas"]
        for entry in item["status"].get("conditions", []):
            entry["status"] = "True"


@pytest.mark.parametrize(("minutes", "over"), [(5, False), (25, True), (90, True)])
def test_what_is_over_is_healthy_and_says_so(minutes: int, over: bool) -> None:
    snapshot = of("oom_killed", after=timedelta(minutes=minutes), change=recovering)
    found = diagnose(snapshot, namespace=space("oom_killed"))
    assert (found.status is DiagnosisStatus.HEALTHY) is over
    claims = [finding.claim for finding in found.findings if finding.rule == "recovered"]
    assert any("it runs since" in claim for claim in claims) is (minutes == 25)
    if claims:
        assert "is over" in found.next_steps[0]


def test_a_crash_of_native_code_is_not_over_within_the_hour() -> None:
    snapshot = of("native_crash", after=timedelta(minutes=25), change=recovering)
    assert diagnose(snapshot, namespace=space("native_crash")).causes[0].cause_class.value == "native_crash"


def test_the_namespace_that_was_captured_is_what_is_diagnosed() -> None:
    snapshot = both()
    snapshot.focus = space("oom_killed")
    assert [cause.object.namespace for cause in diagnose(snapshot).causes] == [snapshot.focus]


def test_a_target_of_any_kind_leads_to_its_pods() -> None:
    service, ingress = in_front_of("oom_killed")
    snapshot = of("oom_killed", service, ingress)
    target = ObjectRef(kind="Ingress", namespace=space("oom_killed"), name="front")
    assert diagnose(snapshot, target=target).causes[0].cause_class.value == "oom_killed"


@pytest.mark.parametrize("seed", range(12))
def test_damaged_surroundings_never_raise(seed: int) -> None:
    """Services, routes, claims, autoscalers and namespaces with something removed, nulled or replaced in each."""
    chosen = random.Random(seed)
    junk: tuple[object, ...] = (None, "", "x", -1, True, [], {}, [None], {"a": None}, "9" * 40)
    items = [SERVICE, CLAIM, INGRESS, SCALER, STUCK, *in_front_of("oom_killed")]
    damaged = [copy.deepcopy(item) for item in items for _ in range(4)]
    for item in damaged:
        for _ in range(chosen.randint(1, 3)):
            node: object = item
            while isinstance(node, dict | list) and node:
                keys = sorted(node) if isinstance(node, dict) else list(range(len(node)))
                key = chosen.choice(keys)
                if not isinstance(node[key], dict | list) or chosen.random() < 0.3:
                    node[key] = chosen.choice(junk)
                    break
                node = node[key]
    snapshot = of("oom_killed", *damaged)
    for symptom in ("", "service cart 访问不通, Ingress front and pvc data pending"):
        diagnose(snapshot, symptom=symptom).model_dump_json()
    for kind, name in (("Ingress", "front"), ("Service", "cart"), ("PersistentVolumeClaim", "data")):
        target = ObjectRef(kind=kind, namespace=space("oom_killed"), name=name)
        if snapshot.get(kind, target.namespace, name):
            diagnose(snapshot, target=target).model_dump_json()
