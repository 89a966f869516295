"""Notices to Slack, WeCom and further groups of Feishu, over HTTP against strict stand-ins."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from pydantic import ValidationError
from sqlalchemy import text

from agents.notifier import Notifier
from errors import InvalidInput
from incidents.collected import CollectedCore, Completeness, Origin, StoredObject
from incidents.core_jobs import CoreJobStore, ToldCore
from incidents.database import Database, utcnow
from incidents.models import Diagnosis, DiagnosisStatus, Incident, IncidentStatus, ObjectRef, Via
from incidents.plan import ApprovalState
from incidents.tables import CoreJobRow
from settings import NotifyChannel, NotifySettings, Settings
from tests.feishu_samples import approval, diagnosis, incident, proposal, record
from tests.standins.feishu import FeishuStandIn
from tests.standins.feishu_fixtures import feishu, feishu_server
from tests.standins.notices import SLACK_PATH, WECOM_KEY, NoticeServers

__all__ = ["feishu", "feishu_server"]
Make = Callable[..., Notifier]


class Clock:
    def __init__(self) -> None:
        self.offset = timedelta()

    def __call__(self) -> datetime:
        return utcnow() + self.offset


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def servers() -> AsyncIterator[NoticeServers]:
    made = NoticeServers()
    runner = web.AppRunner(made.app())
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield made
    await runner.cleanup()


@pytest.fixture
async def make(database: Database, servers: NoticeServers, clock: Clock) -> AsyncIterator[Make]:
    made: list[Notifier] = []

    def build(*channels: dict[str, Any], **changes: Any) -> Notifier:
        told = [NotifyChannel(**channel) for channel in channels or (slack(servers), wecom(servers))]
        made.append(Notifier(Settings(notify=NotifySettings(channels=told), **changes), database, now=clock))
        return made[-1]

    yield build
    for notifier in made:
        await notifier.close()


def slack(servers: NoticeServers, **changes: Any) -> dict[str, Any]:
    return {"name": "ops", "kind": "slack", "webhook_url": servers.url + SLACK_PATH} | changes


def wecom(servers: NoticeServers, **changes: Any) -> dict[str, Any]:
    url = f"{servers.url}/cgi-bin/webhook/send?key={WECOM_KEY}"
    return {"name": "dba", "kind": "wecom", "webhook_url": url} | changes


async def told(notifier: Notifier, found: Incident | None = None, about: Diagnosis | None = None) -> str:
    said = await notifier.diagnosis(found or incident(), about or diagnosis(), [proposal()])
    await notifier.deliver_due()
    return said


def shown(body: dict[str, Any]) -> str:
    if "markdown" in body:
        return str(body["markdown"]["content"])
    return "\n".join(str(block["text"]["text"]) for block in body["blocks"])


async def collect(database: Database, nodes: list[str], incident_id: str) -> None:
    """Cores of one crash, as node agents told of them."""
    for number, node in enumerate(nodes):
        core = CollectedCore(
            id=f"core_{number}",
            completeness=Completeness.COMPLETE,
            dumped_at=utcnow(),
            collected_at=utcnow(),
            node=node,
            origin=Origin(namespace="shop", pod="api-7d9f-x2", pod_uid="0f0e0d0c", container="server"),
            executable="/srv/server",
            stored=[StoredObject(kind="minimal", key="paramedic/shop/api/x.core.zst", size=1, sha256="0" * 64)],
        )
        event = ("io.paramedic.core.collected", f"/nodes/{node}", core.id)
        await CoreJobStore(database).add([ToldCore(core.id, *event, core.model_dump(mode="json"))], "api:agent")
    async with database.write() as session:
        await session.execute(CoreJobRow.__table__.update().values(incident_id=incident_id))  # type: ignore[attr-defined]


async def test_a_diagnosis_reaches_both_once(make: Make, servers: NoticeServers, database: Database) -> None:
    await record(database, approval(), incident())
    notifier = make(api={"public_url": "https://paramedic.example.com"})
    assert await told(notifier) == "queued for slack:ops, wecom:dba"
    assert await told(notifier) == "told before"
    assert len(servers.slack) == len(servers.wecom) == 1
    for body in (servers.slack[0], servers.wecom[0]):
        said = shown(body)
        assert "Crash diagnosed" in said and "probe port 9999 is closed" in said and "shop" in said
        assert f"https://paramedic.example.com/incidents/{incident().id}" in said or incident().id in said
    assert servers.slack[0]["blocks"][1]["text"]["type"] == "plain_text"


async def test_a_storm_is_one_notice_with_its_count(make: Make, servers: NoticeServers, database: Database) -> None:
    await record(database, approval(), incident())
    await collect(database, [f"node-{number % 5}" for number in range(37)], incident().id)
    notifier = make()
    for _ in range(3):
        await told(notifier)
    assert len(servers.slack) == len(servers.wecom) == 1
    assert "same crash 37 times on 5 nodes" in shown(servers.slack[0])
    assert "same crash 37 times on 5 nodes" in shown(servers.wecom[0])


async def test_templates_name_what_crashed_and_give_no_link_to_the_core(
    make: Make, servers: NoticeServers, database: Database
) -> None:
    await record(database, approval(), incident())
    await collect(database, ["node-1"], incident().id)
    line = "*{pod.namespace}/{pod.name}* ({pod.uid}) on {pod.node} {host.ip}: {corefile.filename} <{corefile.url}>"
    notifier = make(
        slack(servers, template=line.replace("<", "").replace(">", "")), wecom(servers, template=line + " {count}")
    )
    await told(notifier)
    expected = "shop/api-7d9f-x2* (0f0e0d0c) on node-1 -: x.core.zst "
    assert expected in shown(servers.slack[0]) and expected in shown(servers.wecom[0])
    for body in (servers.slack[0], servers.wecom[0]):
        assert "paramedic/shop/api/x.core.zst" in shown(body) and "paramedic store link" in shown(body)
        assert "X-Amz" not in json.dumps(body) and "http" not in shown(body)


async def test_each_channel_hears_what_it_wants(make: Make, servers: NoticeServers, database: Database) -> None:
    await record(database, approval(), incident())
    names = ("namespace", "owner", "severity", "keyword", "none")
    filters: list[dict[str, Any]] = [
        {"namespaces": ["sh*"]},
        {"owners": ["Deployment/ap?"]},
        {"min_severity": "error"},
        {"keyword": "KEEPS restarting"},
        {},
    ]
    pairs = zip(names, filters, strict=True)
    notifier = make(*(slack(servers, name=name, **one) for name, one in pairs))
    said = await notifier.diagnosis(incident(), diagnosis(), [])
    assert set(said.removeprefix("queued for ").split(", ")) >= {
        f"slack:{name}" for name in names if name != "severity"
    }
    other = incident(
        target=ObjectRef(kind="StatefulSet", namespace="pay", name="ledger"), event="x", id="inc_" + "2" * 32
    )
    healthy = diagnosis(status=DiagnosisStatus.HEALTHY, causes=[], findings=[], evidence=[], crash=None, next_steps=[])
    said = await notifier.diagnosis(other, healthy, [])
    assert said == "queued for slack:none"


async def test_the_end_goes_to_those_who_heard_of_it(make: Make, servers: NoticeServers, database: Database) -> None:
    await record(database, approval(), incident())
    notifier = make(slack(servers), wecom(servers, namespaces=["elsewhere"]))
    await told(notifier)
    await notifier.request(incident(), approval())
    fixed = incident(status=IncidentStatus.FIXED, summary="the probe asks port 8080 now")
    assert await notifier.outcome(fixed, approval()) == "queued for slack:ops"
    await notifier.deliver_due()
    assert [shown(body).split("\n")[0] for body in servers.slack] == [
        *("Crash diagnosed", "Approval needed", "Incident ended: fixed")
    ]
    assert servers.wecom == []
    assert await make(wecom(servers, namespaces=["elsewhere"])).outcome(fixed, None) == "no channel wants this"


async def test_who_is_asked_reads_what_to_decide_and_how(
    make: Make, servers: NoticeServers, database: Database
) -> None:
    await record(database, approval(), incident())
    notifier = make(slack(servers))
    await told(notifier)
    await notifier.request(incident(), approval())
    # it ends after people are told of the approval
    done = approval(state=ApprovalState.DONE, outcome="2 pods are ready")
    assert await notifier.outcome(incident(status=IncidentStatus.EXECUTING), done) == "queued for slack:ops"
    await notifier.deliver_due()
    asked, ended = (shown(body) for body in servers.slack[1:])
    plan = approval().plan
    assert plan.title in asked and plan.reason in asked and plan.blast_radius in asked
    assert f"paramedic approve {approval().id} |" in asked and "0 of 1" in asked
    assert ended.startswith("Fixed and verified") and plan.title in ended and "2 pods are ready" in ended


async def test_a_storm_is_called_one_and_says_how_much(make: Make, servers: NoticeServers, database: Database) -> None:
    await record(database, approval(), incident())
    event = "crash storm: 12 crashes of shop in 2 pods"
    await told(make(slack(servers)), incident(via=Via.POLICY, event=event))
    assert shown(servers.slack[0]).startswith("Crash storm") and event in shown(servers.slack[0])


async def test_a_call_for_help_reaches_who_asked_for_no_namespace(
    make: Make, servers: NoticeServers, database: Database
) -> None:
    notifier = make(slack(servers), wecom(servers), wecom(servers, name="shop", namespaces=["shop"]))
    assert await notifier.notice("Disk full", "node-1 has <!here> no room", "high")
    assert not await notifier.notice("Disk full", "node-1 has <!here> no room", "high")
    await notifier.deliver_due()
    assert len(servers.slack) == len(servers.wecom) == 1
    assert "Disk full" in shown(servers.slack[0]) and "no room" in shown(servers.wecom[0])
    assert not await make(slack(servers, name="two", min_severity="critical")).notice("Disk", "full", "high")


HOSTILE = (
    "<!channel> <@U123> <@all> & <https://evil.example|click> [click](http://evil.example) *b* `c` "
    "</font> \u202egnp\x00 \n> quote\n# head password=hunter2canary"
)


async def test_what_is_told_stays_text(make: Make, servers: NoticeServers, database: Database) -> None:
    await record(database, approval(), incident())
    template = "{title}: {cause}"
    notifier = make(slack(servers), slack(servers, name="two", template=template), wecom(servers))
    await told(notifier, incident(event=HOSTILE, summary=HOSTILE), diagnosis(HOSTILE))
    assert len(servers.slack) == 2 and len(servers.wecom) == 1
    for body in (*servers.slack, *servers.wecom):
        sent = json.dumps(body, ensure_ascii=False)
        assert "<!channel>" not in sent and "<@" not in sent and "<https://evil" not in sent
        assert "hunter2canary" not in sent and "\u202e" not in sent
    assert "](http" not in shown(servers.wecom[0])  # Slack knows no such links
    assert "\n# head" not in shown(servers.wecom[0]) and "`" not in shown(servers.wecom[0])


async def test_the_vendors_sizes_are_kept(make: Make, servers: NoticeServers, database: Database) -> None:
    await record(database, approval(), incident())
    long = "因为" * 3000
    notifier = make(slack(servers), slack(servers, name="two", template="{cause} " * 200), wecom(servers))
    await told(notifier, incident(summary=long), diagnosis(long))
    notifier = make(wecom(servers, name="three", template="{cause} " * 200))
    await told(notifier, incident(summary=long), diagnosis(long))
    assert len(servers.slack) == 2 and len(servers.wecom) == 2


async def test_a_vendor_that_is_busy_is_asked_again_and_one_that_refuses_is_not(
    make: Make, servers: NoticeServers, database: Database, clock: Clock
) -> None:
    await record(database, approval(), incident())
    servers.refuse = [(429, "rate_limited", {"Retry-After": "30"})]
    notifier = make(slack(servers))
    await told(notifier)
    assert servers.slack == [] and servers.tries == 1
    clock.offset += timedelta(seconds=20)
    await notifier.deliver_due()
    assert servers.tries == 1  # it asked for 30 seconds
    clock.offset += timedelta(seconds=11)
    await notifier.deliver_due()
    assert len(servers.slack) == 1
    servers.refuse = [45009]
    other = make(wecom(servers))
    await told(other)
    assert servers.wecom == []
    clock.offset += timedelta(seconds=61)
    await other.deliver_due()
    assert len(servers.wecom) == 1
    gone = make(wecom(servers, name="gone", webhook_url=f"{servers.url}/cgi-bin/webhook/send?key=wrong"))
    await told(gone)
    before = servers.tries
    clock.offset += timedelta(hours=1)
    await gone.deliver_due()
    assert servers.tries == before
    async with database.read() as session:
        rows = (await session.execute(text("SELECT channel, state, last_error FROM deliveries"))).all()
    states = {row[0]: (row[1], row[2]) for row in rows}
    assert states["wecom:gone"][0] == "dead" and "93000" in states["wecom:gone"][1]


async def test_addresses_are_in_no_log_and_no_row(
    make: Make, servers: NoticeServers, database: Database, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    await record(database, approval(), incident())
    caplog.set_level(logging.DEBUG, "httpx")
    file = tmp_path / "address"
    file.write_text(f"{servers.url}{SLACK_PATH}\n")
    servers.refuse = [(500, "oops", {})]
    notifier = make(slack(servers, webhook_url=None, webhook_url_file=file), wecom(servers))
    await told(notifier)
    dead = make(slack(servers, name="dead", webhook_url="http://127.0.0.1:1" + SLACK_PATH))
    await told(dead)
    async with database.read() as session:
        rows = (await session.execute(text("SELECT * FROM deliveries"))).all()
    said = caplog.text + str(rows)
    assert "s3cretSlackCanary" not in said and WECOM_KEY not in said


async def test_a_further_group_of_feishu(make: Make, database: Database, feishu: FeishuStandIn) -> None:
    await record(database, approval(), incident())
    bot = {"name": "two", "kind": "feishu", "webhook_url": feishu.webhook_url, "webhook_secret": feishu.webhook_secret}
    assert await told(make(bot)) == "queued for feishu:two"
    async with database.read() as session:
        assert (await session.execute(text("SELECT state FROM deliveries"))).scalars().all() == ["sent"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"webhook_url": None},
        {"webhook_url_file": "/x"},
        {"kind": "teams"},
        {"name": "Ops Team"},
        {"min_severity": "fatal"},
        {"template": ""},
    ],
)
def test_channels_that_mean_nothing_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        NotifyChannel(**({"name": "ops", "kind": "slack", "webhook_url": "https://x"} | wrong))


def test_a_template_with_an_unknown_variable_is_refused(make: Make, servers: NoticeServers) -> None:
    with pytest.raises(InvalidInput, match=r"corefile\.link"):
        make(slack(servers, template="{corefile.link}"))
    with pytest.raises(InvalidInput, match="cannot be read"):
        make(slack(servers, webhook_url=None, webhook_url_file=Path("/nonexistent")))
