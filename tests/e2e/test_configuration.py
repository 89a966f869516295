"""Faults of configuration: the right cause in the right container, and the right plan, proposal or refusal."""

from __future__ import annotations

import json

import pytest

from tests.e2e.audit import AuditLog
from tests.e2e.kube import Kube, terminated
from tests.e2e.scenarios import Workload
from tests.e2e.service import Answer, Service
from tests.e2e.stage import Stage


def first_cause(found: Answer, made: Workload, cause_class: str) -> Answer:
    """The first-ranked cause, which must be this one and lie in the faulty container."""
    cause: Answer = found["diagnosis"]["causes"][0]
    target = cause["object"]
    assert cause["class"] == cause_class, cause
    assert (target["kind"], target["name"], target["container"]) == (made.kind, made.name, made.container)
    return cause


def fixed_by_one_write(service: Service, audit: AuditLog, made: Workload, mark: int, incident: str) -> Answer:
    """Approve the pending plan and see it through: one write, of the approved bytes, verified. Returns the plan."""
    approval = service.wait_plan(incident)
    assert audit.writes_to(made.namespace, mark) == []
    service.approve(approval)
    ended = service.wait_end(incident)
    assert ended["incident"]["status"] == "fixed", service.story(incident)
    (write,) = audit.writes_to(made.namespace, mark)
    (planned,) = approval["plan"]["writes"]
    assert write.body == json.loads(planned["body"])
    assert (write.name, write.code) == (made.name, 200)
    plan: Answer = approval["plan"]
    return plan


def container_of(kube: Kube, made: Workload) -> Answer:
    spec = kube.get(made.kind, made.namespace, made.name)["spec"]["template"]["spec"]
    return next(item for item in spec["containers"] if item["name"] == made.container)


@pytest.mark.scenario("liveness_port")
def test_a_wrong_liveness_port_is_found_and_corrected(
    stage: Stage, service: Service, audit: AuditLog, kube: Kube
) -> None:
    made = stage.take("liveness_port")
    mark = audit.mark()
    incident = service.report(made.namespace, made.name, "restarts")
    plan = fixed_by_one_write(service, audit, made, mark, incident)
    first_cause(service.incident(incident), made, "wrong_liveness_probe")
    assert (plan["action"]["type"], plan["action"]["port"]) == ("change_probe", 8080)
    assert container_of(kube, made)["livenessProbe"]["httpGet"]["port"] == 8080


@pytest.mark.scenario("readiness_path")
def test_a_wrong_readiness_path_is_found_and_corrected(
    stage: Stage, service: Service, audit: AuditLog, kube: Kube
) -> None:
    made = stage.take("readiness_path")
    mark = audit.mark()
    incident = service.report(made.namespace, made.name, "gets no traffic")
    plan = fixed_by_one_write(service, audit, made, mark, incident)
    first_cause(service.incident(incident), made, "wrong_readiness_probe")
    assert (plan["action"]["type"], plan["action"]["path"]) == ("change_probe", "/health")
    assert container_of(kube, made)["readinessProbe"]["httpGet"]["path"] == "/health"
    assert container_of(kube, made)["livenessProbe"]["httpGet"]["path"] == "/health"  # untouched


@pytest.mark.scenario("memory_too_small")
def test_a_memory_limit_that_is_too_low_is_raised(stage: Stage, service: Service, audit: AuditLog, kube: Kube) -> None:
    made = stage.take("memory_too_small")
    mark = audit.mark()
    incident = service.report(made.namespace, made.name)
    plan = fixed_by_one_write(service, audit, made, mark, incident)
    first_cause(service.incident(incident), made, "oom_killed")
    assert plan["action"]["type"] == "change_resources"
    kube.wait_ready("Deployment", made.namespace, made.name)
    assert all(not terminated(item) for item in kube.statuses(made.namespace, made.container))


@pytest.mark.parametrize(
    ("scenario", "cause_class"),
    [
        pytest.param("image_tag", "bad_image", marks=pytest.mark.scenario("image_tag")),
        pytest.param("config_key", "missing_config_key", marks=pytest.mark.scenario("config_key")),
        pytest.param("command", "bad_command", marks=pytest.mark.scenario("command")),
    ],
)
def test_what_nothing_observed_can_correct_is_asked_for(
    scenario: str, cause_class: str, stage: Stage, service: Service, audit: AuditLog
) -> None:
    made = stage.take(scenario)
    mark = audit.mark()
    incident = service.report(made.namespace, made.name)
    found = service.wait_end(incident)
    assert found["incident"]["status"] == "diagnosed"
    cause = first_cause(found, made, cause_class)
    assert all(str(value) in cause["summary"] for value in made.more.values())
    assert found["approvals"] == []  # no image, key or program is ever invented
    assert len(found["proposals"]) == 1
    assert audit.writes_to(made.namespace, mark) == []
