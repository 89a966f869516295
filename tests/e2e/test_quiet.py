"""Where nothing is wrong, or nothing is known, nothing is done, and the answer says which."""

from __future__ import annotations

import pytest

from tests.e2e.audit import AuditLog
from tests.e2e.service import Service
from tests.e2e.stage import Stage


@pytest.mark.scenario("healthy")
def test_a_healthy_workload_gets_no_action(stage: Stage, service: Service, audit: AuditLog) -> None:
    made = stage.take("healthy")
    mark = audit.mark()
    found = service.wait_end(service.report(made.namespace, made.name, "somebody says it is down"))
    assert found["incident"]["status"] == "healthy"
    assert (found["approvals"], found["proposals"]) == ([], [])
    assert audit.writes_to(made.namespace, mark) == []


@pytest.mark.scenario("unexplained")
def test_a_failure_that_says_nothing_is_not_explained(stage: Stage, service: Service, audit: AuditLog) -> None:
    made = stage.take("unexplained")
    mark = audit.mark()
    found = service.wait_end(service.report(made.namespace, made.name))
    assert found["incident"]["status"] == "unknown", service.story(found["incident"]["id"])
    assert found["approvals"] == []
    assert audit.writes_to(made.namespace, mark) == []
