"""A C++ service that segfaults: its real core, a rollback where there is something to go back to, never a patch."""

from __future__ import annotations

import hashlib
import json
import time

import pytest

from tests.e2e.audit import AuditLog
from tests.e2e.build import crash_line
from tests.e2e.cores import CoreFolder
from tests.e2e.harness import until
from tests.e2e.kube import Kube
from tests.e2e.scenarios import Workload
from tests.e2e.service import Answer, Service
from tests.e2e.stage import Stage
from tests.standins.feishu_schema import buttons_of


def assert_real_core(found: Answer, made: Workload, cores: CoreFolder) -> None:
    """The incident's crash is the core that lies on disk: signal, function, file, line."""
    crash = found["diagnosis"]["crash"]
    hashes = {hashlib.sha256(path.read_bytes()).hexdigest() for path in cores.of(made.namespace, made.container)}
    assert crash["core"]["sha256"] in hashes
    assert not crash["core"]["truncated"]
    assert crash["crash_info"]["si_signo"] == 11
    assert crash["executable_match"] == "exact"
    frames = crash["threads"][0]["frames"]
    assert frames[0]["function"] == "Exchange::total_of"
    assert frames[0]["file"].endswith("quotes.cpp")
    assert frames[0]["line"] == crash_line()
    functions = [frame["function"] for frame in frames]
    assert functions[1:5] == ["Exchange::quote", "settle", "work_through", "main"]
    cause = found["diagnosis"]["causes"][0]
    assert cause["class"] == "null_dereference"
    assert (cause["object"]["name"], cause["object"]["container"]) == (made.name, made.container)


@pytest.mark.scenario("crash_after_release")
def test_a_crash_after_a_release_is_rolled_back_by_a_button_press(
    stage: Stage, service: Service, cores: CoreFolder, audit: AuditLog, kube: Kube
) -> None:
    made = stage.take("crash_after_release")
    mark = audit.mark()
    incident = service.report(made.namespace, made.name, "pods restart again and again")
    approval = service.wait_plan(incident)
    found = service.incident(incident)
    assert_real_core(found, made, cores)
    plan = approval["plan"]
    assert [plan["action"]["type"], plan["action"]["revision"]] == ["rollback_revision", 1]
    assert plan["evidence_sha256"] == found["diagnosis"]["crash"]["core"]["sha256"]
    assert len(found["approvals"]) == 1  # nothing else is offered: a change of configuration repairs no code
    assert audit.writes_to(made.namespace, mark) == []

    card = service.card(approval)
    pressed = service.press(card, "approve")
    assert (pressed.client_code, pressed.toast["type"]) == (0, "success")
    ended = service.wait_end(incident)
    assert ended["incident"]["status"] == "fixed", service.story(incident)

    (write,) = audit.writes_to(made.namespace, mark)
    assert (write.verb, write.resource, write.name) == ("patch", "deployments", made.name)
    (planned,) = plan["writes"]
    assert write.body == json.loads(planned["body"])
    assert write.agent.startswith("paramedic")
    kube.wait_ready("Deployment", made.namespace, made.name)
    assert stays_away(kube, cores, made)
    until(lambda: not _buttons(service, card.id), 20, "the card shows the outcome and has no buttons any more")


@pytest.mark.scenario("crash_from_birth")
def test_a_crash_with_nothing_to_go_back_to_is_reported_to_its_owners(
    stage: Stage, service: Service, cores: CoreFolder, audit: AuditLog
) -> None:
    made = stage.take("crash_from_birth")
    mark = audit.mark()
    incident = service.report(made.namespace, made.name)
    found = service.wait_end(incident)
    assert found["incident"]["status"] == "diagnosed"
    assert_real_core(found, made, cores)
    assert found["approvals"] == []
    (proposal,) = found["proposals"]
    assert "owners" in proposal["title"]
    assert f"quotes.cpp:{crash_line()}" in proposal["reason"]
    assert audit.writes_to(made.namespace, mark) == []


def stays_away(kube: Kube, cores: CoreFolder, made: Workload) -> bool:
    """Nothing crashes any more: once the old pods are gone, no pod restarts and no core is added."""

    def old_pods_gone() -> bool:
        pods = kube.all("Pod", made.namespace)
        return len(pods) == len(kube.statuses(made.namespace, made.container)) == 1

    until(old_pods_gone, 60, "the crashing pods are gone", show=lambda: kube.all("Pod", made.namespace))
    before = cores.of(made.namespace, made.container)
    for _ in range(20):  # the crash came within two seconds of a start
        time.sleep(0.2)
    restarts = sum(item["restartCount"] for item in kube.statuses(made.namespace, made.container))
    return restarts == 0 and cores.of(made.namespace, made.container) == before


def _buttons(service: Service, message_id: str) -> bool:
    return bool(buttons_of(service.feishu.messages[message_id].card))
