"""A prediction becomes a plan that waits for a person, and nothing else."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from errors import Conflict, InvalidInput, Refused, ToolMissing
from graph.scaling import Scaling
from incidents.drafts import Drafts
from incidents.forecast import Prediction
from incidents.models import IncidentStatus
from settings import ForecastService
from tests.graph.conftest import SPACE, Service

SHOP = ForecastService(name="shop", query="sum(x)", namespace=SPACE, workload="Deployment/cart")


def prediction(instances: int, **changes: Any) -> Prediction:
    at = datetime(2026, 1, 5, 12, tzinfo=UTC)
    known: dict[str, Any] = {
        "service": "shop", "instances": instances, "decided_by": "forecast", "reactive_instances": 1,
        "forecast_instances": instances, "per_instance": 100.0, "min_instances": 1, "max_instances": 20,
        "current_qps": 90.0, "timestamp": at, "target_time": at, "horizon": 300.0, "upper_qps": 480.0,
        "quantile": 0.95, "model_version": "ridge", "features": {}, "reasons": [],
    }  # fmt: skip
    return Prediction(**(known | changes))


def scaling(service: Service) -> Scaling:
    return Scaling(service.gate, service.incidents, Drafts(service.database), service.runner)


def replicas(service: Service) -> int:
    return int(service.api.objects["apps/v1", "Deployment", SPACE, "cart"]["spec"]["replicas"])


async def test_a_person_approves_and_the_workload_is_scaled(service: Service) -> None:
    before = replicas(service)
    proposed = await scaling(service).propose(prediction(before + 3), SHOP, "api:robot")
    assert "replicas" in proposed.plan.diff and "up to 480 is forecast" in proposed.plan.reason
    approval = await service.asked(proposed.incident)
    assert replicas(service) == before and not service.writes
    assert approval.requested_by == "api:robot" and approval.plan.incident_id == proposed.incident.id
    assert service.researcher.asked == 0, "nothing was wrong, so nothing was looked for"
    evidence = (await service.incidents.diagnosis(proposed.incident.id)).evidence  # type: ignore[union-attr]
    assert evidence[0].kind.value == "metric" and '"upper_qps": 480.0' in evidence[0].excerpt
    with pytest.raises(Conflict, match=proposed.incident.id):
        await scaling(service).propose(prediction(before + 5), SHOP, "api:robot")
    await service.restart()
    await service.vote(approval)
    ended = await service.until(proposed.incident, IncidentStatus.FIXED)
    assert ended.status is IncidentStatus.FIXED and replicas(service) == before + 3
    assert len(service.writes) == 1


async def test_an_approver_reads_whose_word_the_load_is(service: Service) -> None:
    asked = prediction(replicas(service) + 1, decided_by="reactive", current_qps=5000.0)
    proposed = await scaling(service).propose(asked, SHOP, "api:robot", stated=True)
    assert "the requester says that its present load is 5000" in proposed.plan.reason


async def test_no_incident_for_what_the_gate_refuses(service: Service) -> None:
    with pytest.raises(Refused, match="replicas already"):
        await scaling(service).propose(prediction(replicas(service)), SHOP, "api:robot")
    absent = SHOP.model_copy(update={"workload": "Deployment/absent"})
    with pytest.raises(Refused, match="does not exist"):
        await scaling(service).propose(prediction(3), absent, "api:robot")
    nowhere = ForecastService(name="shop", query="sum(x)")
    with pytest.raises(InvalidInput, match="names no workload"):
        await scaling(service).propose(prediction(3), nowhere, "api:robot")
    nothing = Scaling(None, service.incidents, Drafts(service.database), service.runner)
    with pytest.raises(ToolMissing):
        await nothing.propose(prediction(3), SHOP, "api:robot")
    assert await service.incidents.recent() == [] and not service.writes


async def test_a_person_says_no_and_nothing_happens(service: Service) -> None:
    before = replicas(service)
    proposed = await scaling(service).propose(prediction(before + 1, decided_by="reactive"), SHOP, "api:robot")
    assert "its present load is 90" in proposed.plan.reason
    await service.vote(await service.asked(proposed.incident), "reject")
    ended = await service.until(proposed.incident, IncidentStatus.DECLINED)
    assert ended.status is IncidentStatus.DECLINED and replicas(service) == before and not service.writes
