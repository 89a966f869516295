"""Something changed between what was shown and what would be done: no write, whoever approved."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.audit import AuditLog
from tests.e2e.conftest import Services
from tests.e2e.dying import DIES
from tests.e2e.harness import until
from tests.e2e.kube import Kube
from tests.e2e.scenarios import Workload
from tests.e2e.service import FIRST, Answer, Service
from tests.e2e.stage import Stage

Change = Callable[[Kube, Workload], object]


def edit_spec(kube: Kube, made: Workload) -> None:
    """Somebody else's change of something the plan does not touch."""
    kube.patch("Deployment", made.namespace, made.name, {"spec": {"replicas": 2}})


def edit_same_field(kube: Kube, made: Workload) -> None:
    """Somebody was quicker, and set another path."""
    pod = kube.get("Deployment", made.namespace, made.name)["spec"]["template"]
    item = next(item for item in pod["spec"]["containers"] if item["name"] == made.container)
    item["readinessProbe"]["httpGet"]["path"] = "/other"
    kube.replace_template("Deployment", made.namespace, made.name, pod)


def recreate(kube: Kube, made: Workload) -> None:
    """Deleted, and made again under the same name with the same content."""
    found = kube.get("Deployment", made.namespace, made.name)
    kube.delete("Deployment", made.namespace, made.name)
    until(lambda: kube.find("Deployment", made.namespace, made.name) is None, 30, "the deployment is gone")
    again = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": made.name}, "spec": found["spec"]}
    kube.create(made.namespace, again)


def edit_config_map(kube: Kube, made: Workload) -> None:
    """The ConfigMap that the pods take their environment from."""
    kube.patch("ConfigMap", made.namespace, made.more["config_map"], {"data": {"mode": "careful"}})


def delete(kube: Kube, made: Workload) -> None:
    kube.delete("Deployment", made.namespace, made.name)


CHANGES = [edit_spec, edit_same_field, recreate, edit_config_map, delete]


@pytest.mark.parametrize(
    "change", [pytest.param(item, id=item.__name__, marks=pytest.mark.scenario("configured")) for item in CHANGES]
)
def test_a_change_after_the_plan_was_shown(
    change: Change, stage: Stage, service: Service, audit: AuditLog, kube: Kube
) -> None:
    made = stage.take("configured")
    mark = audit.mark()
    incident = service.report(made.namespace, made.name)
    approval = service.wait_plan(incident)
    change(kube, made)
    service.decide(approval, FIRST)
    assert service.wait_end(incident)["incident"]["status"] == "stale", service.story(incident)
    assert audit.writes_to(made.namespace, mark) == []


@pytest.mark.parametrize(
    "change", [pytest.param(item, id=item.__name__, marks=pytest.mark.scenario("configured")) for item in CHANGES[1:4]]
)
def test_a_change_between_approval_and_execution(
    change: Change, stage: Stage, services: Services, audit: AuditLog, kube: Kube
) -> None:
    """The service dies in the moment of the decision; the change happens before it is back."""
    made = stage.take("configured")
    service = services(program=DIES).start(E2E_DIE_AT="decided")
    mark = audit.mark()
    incident = service.report(made.namespace, made.name)
    approval = service.wait_plan(incident)
    service.press(service.card(approval), "approve")
    service.wait_death()
    change(kube, made)
    service.start()
    assert service.wait_end(incident)["incident"]["status"] == "stale", service.story(incident)
    assert audit.writes_to(made.namespace, mark) == []
    service.stop()


@pytest.mark.scenario("configured")
def test_a_plan_that_was_edited_in_the_database(stage: Stage, services: Services, audit: AuditLog) -> None:
    made = stage.take("configured")
    service = services().start()
    mark = audit.mark()
    incident = service.report(made.namespace, made.name)
    approval = service.wait_plan(incident)
    edit_plan(service.database, approval["id"])
    answer = service.decide(approval, FIRST)
    pressed = service.press(service.card(approval), "approve")
    assert answer.status_code >= 400 or service.wait_end(incident)["incident"]["status"] == "stale"
    assert pressed.client_code != 0 or pressed.toast["type"] in ("error", "warning")
    assert audit.writes_to(made.namespace, mark) == []
    service.stop()


@pytest.mark.scenario("configured")
def test_a_plan_that_was_edited_after_its_approval(stage: Stage, services: Services, audit: AuditLog) -> None:
    made = stage.take("configured")
    service = services(program=DIES).start(E2E_DIE_AT="decided")
    mark = audit.mark()
    incident = service.report(made.namespace, made.name)
    approval = service.wait_plan(incident)
    service.press(service.card(approval), "approve")
    service.wait_death()
    edit_plan(service.database, approval["id"])
    service.start()
    ended = service.wait_end(incident)["incident"]["status"]
    assert ended in ("stale", "failed", "escalated"), service.story(incident)
    assert audit.writes_to(made.namespace, mark) == []
    service.stop()


def edit_plan(database: Path, approval_id: str) -> None:
    """What somebody with the file could do: another path in the bytes to be sent."""
    with sqlite3.connect(database, timeout=10) as connection:
        (text,) = connection.execute("SELECT plan FROM approvals WHERE id = ?", (approval_id,)).fetchone()
        plan: Answer = json.loads(text)
        write = plan["writes"][0]
        assert "/health" in write["body"]
        write["body"] = write["body"].replace("/health", "/anything")
        connection.execute("UPDATE approvals SET plan = ? WHERE id = ?", (json.dumps(plan), approval_id))


@pytest.mark.scenario("configured")
def test_a_newer_plan_on_the_same_object_takes_the_older_ones_place(
    stage: Stage, service: Service, audit: AuditLog
) -> None:
    made = stage.take("configured")
    mark = audit.mark()
    older = service.report(made.namespace, made.name)
    first = service.wait_plan(older)
    newer = service.report(made.namespace, made.name, force=True)
    assert newer != older
    second = service.wait_plan(newer)
    assert service.decide(first, FIRST).status_code == 409
    assert service.wait_end(older)["incident"]["status"] == "stale"
    assert audit.writes_to(made.namespace, mark) == []
    service.approve(second)
    assert service.wait_end(newer)["incident"]["status"] == "fixed", service.story(newer)
    assert len(audit.writes_to(made.namespace, mark)) == 1


@pytest.mark.scenario("configured")
def test_without_the_database_nothing_is_done(stage: Stage, services: Services, audit: AuditLog) -> None:
    made = stage.take("configured")
    service = services().start()
    mark = audit.mark()
    incident = service.report(made.namespace, made.name)
    approval = service.wait_plan(incident)
    card = service.card(approval)
    # another process holds the database: nothing can be recorded, so nothing may be done
    holder = sqlite3.connect(service.database, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    pressed = service.press(card, "approve")
    assert pressed.client_code != 0 or pressed.toast["type"] != "success"
    assert audit.writes_to(made.namespace, mark) == []
    service.kill()  # before the press could be recorded after all
    holder.close()
    service.start()
    assert service.approval(approval["id"])["state"] == "pending"
    service.stop()
    # and one that is no database any more
    for file in (service.database, service.database.with_name("paramedic.db-wal")):
        if file.exists():
            file.write_bytes(b"no database" * 1000)
    with pytest.raises(AssertionError, match="the service ended"):
        service.start()
    assert audit.writes_to(made.namespace, mark) == []


@pytest.mark.scenario("configured")
def test_a_database_that_breaks_while_the_service_runs(stage: Stage, services: Services, audit: AuditLog) -> None:
    made = stage.take("configured")
    service = services().start()
    mark = audit.mark()
    incident = service.report(made.namespace, made.name)
    approval = service.wait_plan(incident)
    card = service.card(approval)
    for file in (service.database, service.database.with_name("paramedic.db-wal")):
        with file.open("r+b") as opened:
            opened.write(b"no database" * (max(file.stat().st_size, 4096) // 11))
    assert service.decide(approval, FIRST).status_code >= 500
    pressed = service.press(card, "approve")
    assert pressed.client_code != 0 or pressed.toast["type"] != "success"
    assert audit.writes_to(made.namespace, mark) == []
    service.kill()


@pytest.mark.scenario("configured")
def test_the_kill_switch_stops_what_was_approved(stage: Stage, services: Services, audit: AuditLog) -> None:
    made = stage.take("configured")
    service = services(program=DIES).start(E2E_DIE_AT="decided")
    mark = audit.mark()
    incident = service.report(made.namespace, made.name)
    approval = service.wait_plan(incident)
    service.press(service.card(approval), "approve")
    service.wait_death()
    service.start(PARAMEDIC_GATE__KILL_SWITCH="true")
    ended = service.wait_end(incident)
    assert ended["incident"]["status"] != "fixed", service.story(incident)
    assert audit.writes_to(made.namespace, mark) == []
    service.stop()
