"""Whether an earlier fix would do anything now: every kind of action, against objects as they are."""

from __future__ import annotations

import copy
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from diagnosis.workloads.earlier_fix import still_fits
from diagnosis.workloads.snapshot import Snapshot
from incidents.actions import (
    Action,
    AddPullSecret,
    ChangeConfigReference,
    ChangeProbe,
    ChangeResources,
    ChangeScheduling,
    ChangeService,
    ChangeVariable,
    Combined,
    HelmRollbackAction,
    ProbeKind,
    Restart,
    RevertImage,
    RollbackRevision,
    Scale,
    Toleration,
)
from incidents.models import ObjectRef
from incidents.plan import PatchWrite, Plan, Risk
from tests.standins.rollout import deployment

AT = datetime(2026, 1, 1, tzinfo=UTC)
CART = ObjectRef(kind="Deployment", namespace="shop", name="cart")
WEB = ObjectRef(kind="Service", namespace="shop", name="web")
Object = dict[str, Any]


def cart() -> Object:
    made = deployment("cart", "shop")
    made["metadata"]["uid"] = "u1"
    spec = made["spec"]["template"]["spec"]
    spec["containers"][1]["env"].append({"name": "DB", "value": "http://db-old:5432/x"})
    spec["nodeSelector"] = {"disk": "ssd"}
    spec["tolerations"] = [{"key": "gpu", "effect": "NoSchedule"}]
    spec["imagePullSecrets"] = [{"name": "pull-a"}]
    return made


def named(kind: str, name: str, **more: Any) -> Object:
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "namespace": "shop"}, **more}


SERVICE = named("Service", "web", spec={"selector": {"app": "cart"}, "ports": [{"port": 80, "targetPort": 8080}]})
AROUND = [named("ConfigMap", "real", data={"level": "x"}), named("Secret", "pull-b"), SERVICE]
COMPLETE = [("ConfigMap", "shop"), ("Deployment", "shop")]


def plan(action: Action, body: object = (), preimage: object = None) -> Plan:
    write = PatchWrite(
        api_version="apps/v1", kind="Deployment", namespace="shop", name="cart", uid="u1", resource_version="1",
        generation=1, fingerprint="f", body=body if isinstance(body, str) else json.dumps(body),
    )  # fmt: skip
    return Plan(
        id="pln_1", incident_id="inc_1", action=action, title="t", reason="r", writes=[write], reversible=True,
        risk=Risk.LOW, blast_radius="b", quorum=1, diff="", preimage=json.dumps(preimage or {}), deps_digest="d",
        evidence_digest="e", policy_version="p", cluster_id="c", requested_by="local", created_at=AT,
    )  # fmt: skip


PROBE: dict[str, Any] = {"target": CART, "container": "main", "probe": ProbeKind.LIVENESS}
REFERENCE: dict[str, Any] = {"target": CART, "kind": "ConfigMap", "name": "cart-config"}
VARIABLE: dict[str, Any] = {"target": CART, "container": "main", "variable": "DB", "host": "db"}
MEMORY: dict[str, Any] = {"target": CART, "container": "main"}
GPU = Toleration(key="gpu", effect="NoSchedule")


@pytest.mark.parametrize(
    ("action", "ok", "said"),
    [
        (ChangeResources(**MEMORY, memory_limit="256Mi"), True, "64Mi, below 256Mi"),
        (ChangeResources(**MEMORY, memory_limit="64Mi"), False, "64Mi, not below 64Mi"),
        (ChangeResources(**MEMORY, cpu_limit="1"), False, "not set"),
        (ChangeResources(target=CART, container="gone", memory_limit="1Gi"), False, "no container gone"),
        (ChangeProbe(**PROBE, port=8080), True, "not as it was set"),
        (ChangeProbe(**PROBE, port=8081, path="/healthz", failure_threshold=3), False, "already"),
        (ChangeProbe(target=CART, container="main", probe=ProbeKind.STARTUP, port=1), False, "no startup probe"),
        (ChangeConfigReference(**REFERENCE, to_name="real"), True, "real exists"),
        (ChangeConfigReference(**REFERENCE, to_name="gone"), False, "gone does not exist now"),
        (ChangeConfigReference(**REFERENCE, key="level", to_name="real", to_key="no"), False, "no key no"),
        (ChangeConfigReference(**REFERENCE | {"name": "other"}, to_name="real"), False, "not referred to"),
        (ChangeConfigReference(**REFERENCE | {"kind": "Secret"}, to_name="x"), False, "not referred to"),
        (ChangeVariable(**VARIABLE, old="db-old", new="db-new"), True, "says again what was replaced"),
        (ChangeVariable(**VARIABLE, old="db-older", new="db"), False, "does not say"),
        (AddPullSecret(target=CART, secret="pull-a"), False, "already"),
        (AddPullSecret(target=CART, secret="pull-b"), True, "exists"),
        (AddPullSecret(target=CART, secret="pull-c"), None, "was not read"),
        (RevertImage(target=CART, container="main", image="example.test/app:2"), False, "already"),
        (RevertImage(target=CART, container="main", image="example.test/app:1"), None, "another image"),
        (ChangeScheduling(target=CART, toleration=GPU), False, "tolerated already"),
        (ChangeScheduling(target=CART, toleration=Toleration(key="x", effect="NoExecute")), True, "not tolerated"),
        (ChangeScheduling(target=CART, node_selector={"disk": "ssd"}), False, "already"),
        (ChangeScheduling(target=CART, node_selector={"disk": "hdd"}), True, "not as it was"),
        (ChangeService(target=WEB, selector={"app": "cart"}), False, "already"),
        (ChangeService(target=WEB, port=80, target_port=9090), True, "not as it was"),
        (ChangeService(target=WEB, port=81, target_port=9090), False, "no port 81"),
        (Scale(target=CART, replicas=3), True, "2 replicas now, fewer than the 3"),
        (Scale(target=CART, replicas=1), False, "not fewer"),
        (Restart(target=CART), None, "nothing"),
        (Restart(target=CART.model_copy(update={"name": "gone"})), False, "not there any more"),
        (Restart(target=WEB.model_copy(update={"name": "gone"})), None, "was not read"),
        (HelmRollbackAction(target=CART.model_copy(update={"kind": "HelmRelease"}), revision=1), None, "release"),
        (
            Combined(target=CART, parts=[ChangeProbe(**PROBE, port=1), ChangeResources(**MEMORY, memory_limit="1Mi")]),
            False,
            "not below 1Mi",
        ),
    ],
)  # fmt: skip
def test_an_action_is_checked_by_what_it_changed(action: Action, ok: bool | None, said: str) -> None:
    fit = still_fits(plan(action), Snapshot([cart(), *AROUND], complete=COMPLETE))
    assert (fit.ok, said.lower() in fit.why.lower()) == (ok, True), fit


def revision(number: int, image: str) -> Object:
    """A ReplicaSet as the controller keeps it."""
    template = copy.deepcopy(cart()["spec"]["template"])
    template["spec"]["containers"][1]["image"] = image
    template["metadata"]["labels"]["pod-template-hash"] = f"h{number}"
    owner = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "cart", "uid": "u1", "controller": True}
    meta = {
        "name": f"cart-h{number}", "namespace": "shop", "uid": f"r{number}", "ownerReferences": [owner],
        "annotations": {"deployment.kubernetes.io/revision": str(number)},
    }  # fmt: skip
    return {"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": meta, "spec": {"template": template}}


def of_image(image: str) -> Object:
    made = cart()
    made["spec"]["template"]["spec"]["containers"][1]["image"] = image
    return made


@pytest.mark.parametrize(
    ("now", "kept", "ok", "said"),
    [
        ("app:5", [(6, "app:4"), (7, "app:5")], True, "kept as revision 6"),
        ("app:6", [(6, "app:4"), (7, "app:6")], None, "not what was taken back then"),
        ("app:5", [(3, "app:3"), (7, "app:5")], False, "no longer kept"),
        ("app:4", [(6, "app:4")], False, "is what runs now"),
    ],
)
def test_a_revision_is_recognised_by_its_template(
    now: str, kept: list[tuple[int, str]], ok: bool | None, said: str
) -> None:
    """From app:5 back to app:4, which was revision 4 then; a password in it is compared as redacted."""
    goal = of_image("app:4")["spec"]["template"]
    body = [{"op": "replace", "path": "/spec/template", "value": goal}]
    earlier = plan(RollbackRevision(target=CART, revision=4), body, of_image("app:5"))
    fit = still_fits(earlier, Snapshot([of_image(now), *(revision(*item) for item in kept)]))
    assert (fit.ok, said in fit.why) == (ok, True), fit


@pytest.mark.parametrize("body", ["", "null", "[7]", '[{"op":"replace","path":"/spec/template","value":7}]', "{}"])
def test_a_plan_that_cannot_be_read_proves_nothing(body: str) -> None:
    fit = still_fits(plan(RollbackRevision(target=CART, revision=4), body), Snapshot([cart()]))
    assert fit.ok is None
