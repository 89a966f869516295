"""What is decided about crashes and their cores: who is told, what is asked, and what is kept, spent and handed out."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.e2e import manifests as make
from tests.e2e.build import Images
from tests.e2e.collecting import jobs_of, opt_in
from tests.e2e.conftest import Services
from tests.e2e.cores import CoreFolder
from tests.e2e.harness import until
from tests.e2e.kube import Kube
from tests.e2e.policy_site import CALLS, LABEL, MOST_PODS, Site, crashing_site
from tests.e2e.service import FIRST, REQUESTER
from tests.e2e.stage import Stage
from tests.standins import s3

Object = dict[str, Any]


@pytest.fixture(scope="module")
def site(
    kube: Kube,
    images: Images,
    stage: Stage,
    cores: CoreFolder,
    services: Services,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Site]:
    if (reason := s3.missing()) is not None:
        pytest.skip(reason)
    with crashing_site(kube, images, stage, cores, services, tmp_path_factory.mktemp("policy")) as found:
        yield found


def test_a_storm_is_one_incident_and_each_chat_is_told_once(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    (found,) = until(lambda: site.incidents(site.vectors), 60, "an incident", show=site.agent.log)
    assert (found["target"]["kind"], found["target"]["name"]) == ("Deployment", site.storm)
    ended = site.service.wait_end(found["id"])
    assert ended["diagnosis"]["causes"][0]["class"] == "null_dereference", site.service.story(found["id"])
    until(lambda: site.incidents(site.vectors)[0]["count"] > 3, 60, "a storm", show=site.agent.log)
    until(lambda: len(site.said()) >= 3, 20, "three chats", show=site.said)
    assert (len(site.chats.slack), len(site.chats.wecom), len(site.service.feishu.notices)) == (1, 1, 1)
    assert all(site.storm.replace("-", "") in re.sub(r"&#45;|-", "", said) for said in site.said())
    first = min(job["core"]["dumped_at"] for job in jobs_of(site.service, site.vectors))
    waited = datetime.fromisoformat(found["created_at"]) - datetime.fromisoformat(first)
    with capsys.disabled():  # a figure: what else runs on the machine is in it
        print(f"\nfrom a pod's dump to its incident: {waited.total_seconds():.1f} s")
    shown = site.paramedic("incidents", found["id"])[0]
    assert "#0 Exchange::total_of" in shown and f"Deployment {site.vectors}/{site.storm}" in shown


def test_the_teams_program_gets_each_core_once(site: Site) -> None:
    def all_of() -> list[list[str]]:
        lines = site.handled.read_text().splitlines() if site.handled.exists() else []
        return [line.split() for line in lines]

    told = until(lambda: lines if len(lines := all_of()) > 3 else None, 60, "handled cores", show=site.agent.log)
    for namespace, executable, announced, read, _, url in told:
        assert (namespace, executable, read) == (site.vectors, "/app/quotes", announced)
        assert url.startswith(f"s3://cores/paramedic/{site.vectors}/{site.storm}/") and "X-Amz" not in url
    assert len({line[2] for line in told}) == len(told)


def test_a_namespace_that_is_full_gets_its_pods_without_the_folder(site: Site) -> None:
    namespace = site.stage.namespace()
    opt_in(site.kube, namespace, LABEL)
    template = make.template(make.labels(), make.companions(1))
    template["metadata"]["annotations"] = {"paramedic.io/inject": "true"}
    site.kube.create(namespace, make.deployment("team", template, replicas=MOST_PODS + 1))
    site.kube.wait_ready("Deployment", namespace, "team")
    given = ["paramedic-cores" in json.dumps(pod["spec"]) for pod in site.kube.all("Pod", namespace)]
    assert sorted(given) == [False] + [True] * MOST_PODS
    assert re.search(rf"no folder.*{namespace}|{namespace}.*no folder", site.webhook.log())


def test_coredogs_event_about_a_pod_becomes_its_workloads_incident(site: Site) -> None:
    namespace, name, path = site.lone
    data, key = path.read_bytes(), "coredog/core.quotes"
    (site.server.folder / s3.BUCKET / "coredog").mkdir()
    (site.server.folder / s3.BUCKET / key).write_bytes(data)
    link = site.paramedic("store", "link", key, PARAMEDIC_STORE__PREFIX="coredog")[0].strip()
    told = {
        "file_url": link,
        "file_name": path.name,
        "executable_path": "/app/quotes",
        "file_size": len(data),
        "md5": hashlib.md5(data).hexdigest(),
        "pod_name": path.parent.parent.name.partition("_")[0],
        "pod_namespace": namespace,
        "node_ip": "10.0.0.7",
    }
    event = {"specversion": "1.0", "source": "coredog-agent", "type": "coredog.coredump.uploaded", "data": told}
    (taken,) = post(site, {**event, "id": "coredog-1"})["events"]
    assert not taken["duplicate"]
    done = until(
        lambda: (
            job
            if (job := site.service.ask("GET", taken["job"]["links"]["self"]))["phase"] in ("Completed", "Failed")
            else None
        ),
        60,
        "the job's end",
        show=site.service.log,
    )
    assert (done["phase"], done["status"]) == ("Completed", "diagnosed"), done
    (incident,) = site.incidents(namespace)
    assert incident["target"] == {"kind": "Deployment", "namespace": namespace, "name": name, "container": None}
    assert "Exchange::total_of" in done["signature"]
    assert post(site, {**event, "id": "coredog-2"})["events"][0]["duplicate"]
    secret = link.partition("X-Amz-Signature=")[2]
    assert secret and secret not in json.dumps([done, site.service.incident(incident["id"]), site.said()])
    # the group is known from the storm: no debugger and no model reads this core
    steps = site.service.steps(incident["id"])
    assert [step["text"] for step in steps if step["type"] == "crash.known"]
    assert not [step for step in steps if step["type"] == "tool.called" and step["agent"] == "gdb_analyst"]


def post(site: Site, event: Object) -> Object:
    headers = {
        "Content-Type": "application/cloudevents+json",
        "Authorization": f"Bearer {site.service.keys[REQUESTER]}",
    }
    answer = httpx.post(f"{site.service.url}/api/v1/events", content=json.dumps(event), headers=headers)
    assert answer.status_code == 202, answer.text
    return dict(answer.json())


def test_off_counts_nothing_and_a_dry_run_only_says_what_it_would_ask(site: Site) -> None:
    (known,) = site.incidents(site.vectors)
    assert "crashes are not counted" in site.paramedic("instances", "-n", site.vectors)[0]
    assert not [step for step in site.service.steps(known["id"]) if step["type"] == "storm"]
    site.restart("dry-run")
    said = until(
        lambda: [step["text"] for step in site.service.steps(known["id"]) if step["type"] == "storm"],
        30,
        "a dry run",
        show=site.service.log,
    )
    assert said[0].startswith("dry run: crash storm: ") and "scale it to zero" in said[0]
    assert re.search(r"the same crash \d+ times on 1 node: SIGSEGV \| Exchange::total_of \|", said[0])
    assert re.search(rf"{site.vectors}/shop .* \d+ crashes", site.paramedic("instances", "-n", site.vectors)[0])
    everywhere = [site.vectors, *(namespace for namespace, _ in site.releases.values())]
    assert not [one for namespace in everywhere for one in site.incidents(namespace, "policy")]
    assert "Nothing waits" in site.paramedic("approvals")[0]


def test_people_are_asked_to_stop_what_keeps_crashing(site: Site) -> None:
    site.restart("propose")
    for action, (namespace, release) in site.releases.items():
        approval = site.service.wait_plan(site.asked(namespace)["id"])
        asked = approval["plan"]["action"]
        assert (asked["type"], asked["target"]["name"]) == (action, release)
        assert approval["quorum"] == (2 if action == "helm_uninstall" else 1)
        assert approval["plan"]["evidence_need"] == "none", "a program that ends with an error leaves no core"
    approval = site.service.wait_plan(site.asked(site.vectors)["id"])
    plan = approval["plan"]
    assert (plan["action"]["type"], plan["action"]["replicas"], plan["requested_by"]) == ("scale", 0, "policy:storms")
    assert plan["evidence_need"] == "core" and plan["evidence_sha256"] and not approval["evidence_missing"]
    assert "crashes of" in plan["reason"] and "null pointer" in plan["reason"]
    assert site.kube.get("Deployment", site.vectors, site.storm)["spec"]["replicas"] == 2
    asking = until(lambda: [said for said in site.said() if approval["id"] in said], 20, "a chat that asks")
    assert all(f"paramedic approve {approval['id']}" in said and plan["title"] in said for said in asking[:1])


def test_the_store_keeps_to_its_limits_but_never_loses_an_open_incidents_only_core(site: Site) -> None:
    def kept() -> dict[str, Object]:
        listed = json.loads(site.paramedic("store", "list", "-n", site.vectors, "--json")[0])
        return {one["id"]: one for one in listed}

    def pruned(limit: str, value: str, *how: str) -> set[str]:
        said = site.paramedic("store", "prune", *how, **{f"PARAMEDIC_RETENTION__{limit}": value})[0]
        return set(re.findall(r"^core_\w+", said, re.MULTILINE))

    would = pruned("KEEP_PER_SIGNATURE", "4", "--dry-run")
    left = kept()
    assert would and would < left.keys(), "a dry run deletes nothing"
    for limit, value in (("KEEP_PER_SIGNATURE", "4"), ("MAX_BYTES", "200000"), ("MAX_AGE_DAYS", "0.00001")):
        before, gone = left, pruned(limit, value)
        left = kept()
        assert gone and not gone & left.keys(), limit
        for id in gone & before.keys():
            assert not any((site.server.folder / s3.BUCKET / key).exists() for key in before[id]["objects"])
    assert left, "the incident about the storm is open"
    assert all((site.server.folder / s3.BUCKET / key).exists() for one in left.values() for key in one["objects"])


def test_a_link_to_a_core_is_short_lived_and_on_record(site: Site) -> None:
    one = json.loads(site.paramedic("store", "list", "-n", site.vectors, "--json")[0])[0]
    link = site.paramedic("store", "link", one["id"], "--seconds", "30")[0].strip()
    assert "X-Amz-Expires=30" in link
    key = urlsplit(link).path.removeprefix(f"/{s3.BUCKET}/")
    answer = httpx.get(link)
    assert answer.status_code == 200 and key in one["objects"]
    assert answer.content == (site.server.folder / s3.BUCKET / key).read_bytes()
    assert httpx.get(link.partition("?")[0]).status_code == 403
    entries, said = site.paramedic("audit")
    (made,) = [entry for line in entries.splitlines() if (entry := json.loads(line))["data"].get("seconds") == 30]
    assert made["action"] == "store.link" and made["data"]["key"] == key and made["data"]["user"]
    assert "chain intact" in said and "X-Amz" not in entries and "X-Amz" not in site.service.log()


def test_who_approves_stops_the_storm_and_its_evidence_stays(site: Site) -> None:
    incident = site.asked(site.vectors)["id"]
    site.service.approve(site.service.wait_plan(incident), FIRST)
    ended = site.service.wait_end(incident)
    assert ended["incident"]["status"] == "fixed", site.service.story(incident)
    assert "is scaled to zero" in ended["approvals"][0]["outcome"]
    assert site.kube.get("Deployment", site.vectors, site.storm)["spec"]["replicas"] == 0
    until(lambda: not site.kube.all("Pod", site.vectors), 60, "no pods")
    listed = site.paramedic("instances")[0]
    assert re.search(rf"{site.vectors}/shop  milvus-helm  (?!version unknown)\S+  no pods", listed), listed
    until(lambda: [said for said in site.said() if "Fixed and verified" in said], 20, "the outcome", show=site.said)
    assert list((site.server.folder / s3.BUCKET).glob(f"paramedic/{site.vectors}/*/*/*.core.zst"))


def test_what_the_model_costs_is_bounded_over_restarts(site: Site) -> None:
    assert len(site.model.requests) == CALLS
    (incident,) = site.incidents(site.lone[0])
    unseen = site.service.incident(incident["id"])["diagnosis"]["unseen"]
    assert any(f"budget of {CALLS} calls is used up" in what for what in unseen), "and says so"
    assert len(jobs_of(site.service, site.vectors)) > 4
