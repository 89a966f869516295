"""A fix that does not help is taken back by itself, and the incident says so."""

from __future__ import annotations

import pytest

from tests.e2e.audit import AuditLog
from tests.e2e.harness import until
from tests.e2e.kube import Kube
from tests.e2e.manifests import normalised
from tests.e2e.service import Service
from tests.e2e.stage import Stage


@pytest.mark.scenario("memory_never_enough")
def test_a_fix_that_does_not_help_is_undone(stage: Stage, service: Service, audit: AuditLog, kube: Kube) -> None:
    made = stage.take("memory_never_enough")
    before = normalised(kube.get("Deployment", made.namespace, made.name))
    mark = audit.mark()
    incident = service.report(made.namespace, made.name, "killed again and again")
    approval = service.wait_plan(incident)
    service.approve(approval)
    ended = service.wait_end(incident, timeout=240)
    assert ended["incident"]["status"] == "not_fixed", service.story(incident)
    assert normalised(kube.get("Deployment", made.namespace, made.name)) == before
    done, undone = audit.writes_to(made.namespace, mark)
    assert done.body != undone.body
    assert (done.code, undone.code) == (200, 200)
    (approval,) = service.incident(incident)["approvals"]
    assert approval["state"] == "undone"
    types = [step["type"] for step in service.steps(incident)]
    assert types.index("executed") < types.index("verified") < types.index("undone") < types.index("done")


@pytest.mark.scenario("memory_never_enough")
def test_an_undo_leaves_somebody_elses_change_alone(
    stage: Stage, service: Service, audit: AuditLog, kube: Kube
) -> None:
    """A person edits the object while the fix is being watched: nothing is put back over their work."""
    made = stage.take("memory_never_enough")
    mark = audit.mark()
    incident = service.report(made.namespace, made.name)
    service.approve(service.wait_plan(incident))
    until(lambda: audit.writes_to(made.namespace, mark), 60, "the write")
    kube.patch("Deployment", made.namespace, made.name, {"spec": {"minReadySeconds": 3}})
    ended = service.wait_end(incident, timeout=240)
    assert ended["incident"]["status"] == "escalated", service.story(incident)
    assert len(audit.writes_to(made.namespace, mark)) == 1
    assert kube.get("Deployment", made.namespace, made.name)["spec"]["minReadySeconds"] == 3
