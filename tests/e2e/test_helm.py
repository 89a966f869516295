"""Crash-looping helm releases, with the real helm: back to the revision that ran, or uninstalled by two people."""

from __future__ import annotations

import json
import sqlite3

import pytest

from tests.e2e.audit import AuditLog, Written
from tests.e2e.helm_scenarios import helm
from tests.e2e.kube import Kube
from tests.e2e.scenarios import Workload
from tests.e2e.service import FIRST, REQUESTER, SECOND, Answer, Service
from tests.e2e.stage import Stage


def history(stage: Stage, made: Workload) -> list[Answer]:
    found: list[Answer] = json.loads(
        helm(stage.ground, "history", made.more["release"], "-n", made.namespace, "-o", "json")
    )
    return found


def to_the_workload(writes: list[Written]) -> list[Written]:
    """Without helm's own storage: it keeps a Secret a revision."""
    return [item for item in writes if item.resource != "secrets"]


@pytest.mark.scenario("release_upgraded")
def test_a_crashing_upgrade_is_rolled_back(stage: Stage, service: Service, audit: AuditLog, kube: Kube) -> None:
    made = stage.take("release_upgraded")
    mark = audit.mark()
    incident = service.report(made.namespace, made.name)
    approval = service.wait_plan(incident)
    action = approval["plan"]["action"]
    assert (action["type"], action["target"]["name"], action["revision"]) == ("helm_rollback", made.more["release"], 1)
    assert approval["quorum"] == 1
    assert audit.writes_to(made.namespace, mark) == []
    service.approve(approval)
    ended = service.wait_end(incident)
    assert ended["incident"]["status"] == "fixed", service.story(incident)
    assert [item["status"] for item in history(stage, made)] == ["superseded", "superseded", "deployed"]
    writes = to_the_workload(audit.writes_to(made.namespace, mark))
    assert [item.name for item in writes if item.resource == "deployments"] == [made.name]
    kube.wait_ready("Deployment", made.namespace, made.name)


@pytest.mark.scenario("release_upgraded")
def test_a_release_that_somebody_moved_meanwhile_is_left_alone(
    stage: Stage, service: Service, audit: AuditLog, kube: Kube
) -> None:
    made = stage.take("release_upgraded")
    incident = service.report(made.namespace, made.name)
    approval = service.wait_plan(incident)
    helm(stage.ground, "upgrade", made.more["release"], made.more["chart"], "-n", made.namespace, "--reuse-values")
    mark = audit.mark()
    service.decide(approval, FIRST)
    assert service.wait_end(incident)["incident"]["status"] == "stale", service.story(incident)
    assert audit.writes_to(made.namespace, mark) == []
    assert [item["revision"] for item in history(stage, made)] == [1, 2, 3]


@pytest.mark.scenario("release_new")
def test_uninstalling_needs_two_people_and_keeps_what_undo_needs(
    stage: Stage, service: Service, audit: AuditLog, kube: Kube
) -> None:
    made = stage.take("release_new")
    release = made.more["release"]
    values = helm(stage.ground, "get", "values", release, "-n", made.namespace, "-o", "json")
    manifest = helm(stage.ground, "get", "manifest", release, "-n", made.namespace)
    mark = audit.mark()
    incident = service.report(made.namespace, made.name)
    approval = service.wait_plan(incident)
    assert approval["plan"]["action"]["type"] == "helm_uninstall"
    assert approval["quorum"] == 2
    assert not approval["evidence_missing"]  # the core is captured, so nobody has to waive it

    assert service.decide(approval, REQUESTER).status_code == 403  # who asked does not decide
    assert service.approve(approval, FIRST)["state"] == "pending"
    assert service.decide(approval, FIRST).status_code in (200, 409)  # one person stays one person
    assert service.approval(approval["id"])["state"] == "pending"
    assert audit.writes_to(made.namespace, mark) == []

    service.approve(approval, SECOND)
    ended = service.wait_end(incident)
    assert ended["incident"]["status"] == "fixed", service.story(incident)
    assert kube.find("Deployment", made.namespace, made.name) is None
    assert [item["status"] for item in history(stage, made)] == ["uninstalled"]
    (write,) = approval["plan"]["writes"]
    assert (write["release"], write["revision"]) == (release, 1)
    record = undo_record(service, approval["id"])
    assert json.loads(record["values"]) == json.loads(values)
    assert record["manifest"].strip() == manifest.strip()
    assert helm(stage.ground, "get", "manifest", release, "-n", made.namespace, "--revision", "1") == manifest


@pytest.mark.scenario("release_new_without_core")
def test_without_a_core_uninstalling_needs_an_explicit_waiver(
    stage: Stage, service: Service, audit: AuditLog, kube: Kube
) -> None:
    made = stage.take("release_new_without_core")
    mark = audit.mark()
    incident = service.report(made.namespace, made.name)
    approval = service.wait_plan(incident)
    assert (approval["quorum"], approval["evidence_missing"]) == (2, True)
    assert service.approve(approval, FIRST)["state"] == "pending"
    assert service.decide(approval, SECOND).status_code == 409  # nobody has waived the core
    assert service.approval(approval["id"])["state"] == "pending"
    assert audit.writes_to(made.namespace, mark) == []
    assert service.approve(approval, SECOND, waive=True)["state"] == "approved"
    ended = service.wait_end(incident)
    assert ended["incident"]["status"] == "fixed", service.story(incident)
    assert kube.find("Deployment", made.namespace, made.name) is None
    assert [item["status"] for item in history(stage, made)] == ["uninstalled"]


def undo_record(service: Service, approval_id: str) -> Answer:
    """What the journal kept of the release before it was touched."""
    with sqlite3.connect(f"file:{service.database}?mode=ro", uri=True) as database:
        (detail,) = database.execute("SELECT detail FROM executions WHERE approval_id = ?", (approval_id,)).fetchone()
    record: Answer = json.loads(json.loads(detail)["release"])
    return record
