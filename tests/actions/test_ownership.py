"""What is managed elsewhere, protected, or was never observed is not touched."""

from __future__ import annotations

from typing import Any

import pytest

from actions.ownership import Managed
from errors import Refused
from incidents.models import CauseClass, ObjectRef
from incidents.plan import DeletePod, EvidenceNeed, Restart
from tests.actions.conftest import NAME, NAMESPACE, World, diagnosis, probe_change


def _metadata(**fields: Any) -> dict[str, Any]:
    return fields


@pytest.mark.parametrize(
    ("marks", "manager"),
    [
        (_metadata(annotations={"argocd.argoproj.io/tracking-id": "x:apps/Deployment:a/b"}), "Argo CD"),
        (_metadata(labels={"argocd.argoproj.io/instance": "shop"}), "Argo CD"),
        (_metadata(labels={"kustomize.toolkit.fluxcd.io/name": "shop"}), "Flux"),
        (_metadata(managedFields=[{"manager": "argocd-controller", "operation": "Apply"}]), "Argo CD"),
        (_metadata(annotations={"meta.helm.sh/release-name": "shop"}), f"helm release {NAMESPACE}/shop"),
        (
            _metadata(
                ownerReferences=[
                    {"apiVersion": "example.io/v1", "kind": "Shop", "name": "s", "uid": "u", "controller": True}
                ]
            ),
            "Shop s",
        ),
    ],
)
@pytest.mark.parametrize("action", [probe_change(), Restart(target=probe_change().target)], ids=["probe", "restart"])
async def test_a_managed_object_gets_a_proposal(world: World, marks: dict[str, Any], manager: str, action: Any) -> None:
    world.api.edit("Deployment", NAMESPACE, NAME, lambda item: item["metadata"].update(marks))
    with pytest.raises(Managed) as refused:
        await world.plan(action)
    assert refused.value.manager == manager
    proposal = refused.value.proposal("because")
    assert manager in proposal.title
    assert proposal.change and proposal.change.startswith("--- Deployment")
    assert world.api.attempts == []


@pytest.mark.parametrize("namespace", ["kube-system", "flux-system"])
async def test_protected_namespaces_are_not_touched(world: World, namespace: str) -> None:
    target = ObjectRef(kind="Deployment", namespace=namespace, name="x")
    with pytest.raises(Refused, match="protected"):
        await world.plan(probe_change(target=target))


async def test_a_policy_can_allow_some_namespaces_only(world: World) -> None:
    world.new_gate(namespaces=["other"])
    with pytest.raises(Refused, match="policy allows"):
        await world.plan()


async def test_objects_without_a_namespace_are_not_touched(world: World) -> None:
    with pytest.raises(Refused, match="not in a namespace"):
        await world.plan(probe_change(target=ObjectRef(kind="Deployment", name=NAME)))


async def test_an_object_that_was_not_observed_is_not_touched(world: World) -> None:
    other = ObjectRef(kind="Deployment", namespace=NAMESPACE, name="neighbour")
    incident = await world.incident()
    found = diagnosis(world.target, CauseClass.OOM_KILLED)
    options: dict[str, Any] = {"evidence_need": EvidenceNeed.NONE, "evidence_sha256": None}
    with pytest.raises(Refused, match="not observed"):
        await world.gate.plan(incident, probe_change(target=other), found, **options)
    # a model's word alone makes no target; a rule's does
    told = diagnosis(other, CauseClass.OOM_KILLED, source="model")
    with pytest.raises(Refused, match="not observed"):
        await world.gate.plan(incident, probe_change(target=other), told, **options)
    seen = diagnosis(other, CauseClass.OOM_KILLED)
    await world.gate.plan(incident, probe_change(target=other), seen, **options)


async def test_the_controller_of_an_observed_pod_counts_as_observed(world: World) -> None:
    name = next(key[3] for key in world.api.objects if key[1] == "Pod" and key[3].startswith(NAME))
    pod = ObjectRef(kind="Pod", namespace=NAMESPACE, name=name)
    plan = await world.plan(incident=await world.incident(pod))
    assert plan.writes
    stranger = next(key[3] for key in world.api.objects if key[1] == "Pod" and key[3].startswith("neighbour"))
    other = DeletePod(target=ObjectRef(kind="Pod", namespace=NAMESPACE, name=stranger))
    with pytest.raises(Refused, match="not observed"):
        await world.gate.plan(
            await world.incident(),
            other,
            diagnosis(world.target, CauseClass.UNKNOWN),
            evidence_need=EvidenceNeed.NONE,
            evidence_sha256=None,
        )


async def test_what_does_not_exist_is_refused(world: World) -> None:
    target = ObjectRef(kind="Deployment", namespace=NAMESPACE, name="nosuch")
    with pytest.raises(Refused, match="does not exist"):
        await world.plan(probe_change(target=target))
    with pytest.raises(Refused, match="no action changes a Ingress"):
        await world.plan(probe_change(target=target.model_copy(update={"kind": "Ingress"})))
