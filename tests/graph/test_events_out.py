"""Other systems are told of an incident from its opening to its end: once, also when a sink is away for a while."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from agents.publisher import DIAGNOSED, ENDED, OPENED, REQUESTED
from errors import InvalidInput
from incidents.deliveries import Deliveries
from incidents.models import Diagnosis, IncidentStatus
from settings import EventsSettings
from terminal.deliveries import _run as deliveries
from tests.graph.conftest import SPACE, Service, wrong_port
from tests.standins.event_sink import event_sink

LINK = "https://bucket.example.com/core?X-Amz-Signature=canary-link"
SECRET = "password=canary-word"


async def configure(service: Service, *sinks: dict[str, Any]) -> None:
    service.events = EventsSettings.model_validate({"sinks": list(sinks)})
    await service.restart()


def leaky() -> Diagnosis:
    found = wrong_port()
    cause = found.causes[0].model_copy(update={"summary": f"it said {SECRET} and {LINK}\nrun `rm`"})
    return found.model_copy(update={"causes": [cause]})


async def test_opened_diagnosed_requested_and_ended_each_once(service: Service) -> None:
    async with event_sink(key="k1") as all_of_it, event_sink() as ends:
        await configure(
            service,
            {"name": "all", "url": all_of_it.url, "key": "k1", "mode": "binary"},
            {"name": "ends", "url": ends.url, "types": [ENDED], "namespaces": ["shop-*"]},
            {"name": "others", "url": ends.url, "namespaces": ["else"]},
        )
        service.researcher.diagnosis = leaky()
        incident = await service.report()
        approval = await service.asked(incident)
        await service.notifier.deliver_due()
        assert sorted(event.type for event in all_of_it.events) == sorted([OPENED, DIAGNOSED, REQUESTED])
        all_of_it.status = 503  # away: what comes now is told later
        await service.restart()
        await service.vote(approval)
        ended = await service.until(incident)
        await service.notifier.deliver_due()
        assert len(all_of_it.events) == 3
        all_of_it.status = 202
        service.ahead += timedelta(minutes=1)
        await service.notifier.deliver_due()
        await service.notifier.deliver_due()
    told = {event.type: event for event in all_of_it.events}
    assert len(all_of_it.events) == len(told) == len({event.id for event in told.values()}) == 4
    for event in told.values():
        assert event.source == "/paramedic" and event.subject == f"{SPACE}/Deployment/cart"
        assert event.data["incident"] == incident.id
        assert event.data["target"] == {"kind": "Deployment", "namespace": SPACE, "name": "cart", "container": None}
    assert told[OPENED].data["status"] == "received" and told[OPENED].time == incident.created_at
    [cause] = told[DIAGNOSED].data["causes"]
    assert (cause["class"], cause["object"]["container"]) == ("wrong_liveness_probe", "main")
    assert cause["summary"] == "it said password=[redacted] and [link] run `rm`"
    asked = told[REQUESTED].data["approval"]
    assert asked["id"] == approval.id and asked["digest"] == approval.digest and asked["state"] == "pending"
    assert ended.status is IncidentStatus.FIXED
    assert told[ENDED].data["status"] == "fixed" and told[ENDED].data["approval"]["state"] == "done"
    assert ends.events == [told[ENDED]]
    raw = " ".join([*all_of_it.raw, *ends.raw])
    for word in ("canary", "k1", "api:ann", "api:robot", "8080"):
        assert word not in raw, word


async def test_what_a_sink_refuses_is_a_dead_letter_and_can_be_sent_anew(
    service: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    async with event_sink(400) as server:
        await configure(service, {"name": "strict", "url": f"{server.url}?token=canary", "types": [OPENED]})
        incident = await service.report()
        await service.asked(incident)
        await service.notifier.deliver_due()
        url = f"sqlite+aiosqlite:///{service.folder / 'paramedic.db'}"
        await deliveries(url, None, True)
        [dead] = json.loads(capsys.readouterr().out.splitlines()[-1])  # logs come before it
        assert (dead["channel"], dead["kind"], dead["incident_id"]) == ("events:strict", "event", incident.id)
        assert dead["error"] == "127.0.0.1 refuses the event with status 400"
        await service.notifier.deliver_due()
        assert len(server.raw) == 1
        server.status = 200
        await deliveries(url, dead["id"], False)
        await service.notifier.deliver_due()
        assert [event.type for event in server.events] == [OPENED]
        assert await Deliveries(service.database).dead() == []


async def test_an_incident_that_fails_is_told_to_have_ended(service: Service) -> None:
    async with event_sink() as server:
        await configure(service, {"name": "all", "url": server.url, "types": [ENDED]})
        service.researcher.trouble = [TypeError("a bug")] * 9
        ended = await service.until(await service.report())
        for _ in range(1000):
            if server.events:
                break
            await service.notifier.deliver_due()
            service.ahead += timedelta(minutes=1)  # what did not get through is due again
            await asyncio.sleep(0.02)
        assert ended.status is IncidentStatus.FAILED
        assert [event.data["status"] for event in server.events] == ["failed"]


async def test_no_sink_no_event(service: Service) -> None:
    await service.asked(await service.report())
    assert await Deliveries(service.database).claim() is None


def test_wrong_settings_are_said_without_the_address() -> None:
    one = {"name": "a", "url": "https://h/x"}
    for wrong in ({"url": "https://u:canary@h/"}, {"url": "ftp://h/canary"}, {"types": ["x"]}, {"name": "A b"}):
        with pytest.raises(ValidationError) as error:
            EventsSettings.model_validate({"sinks": [one | wrong]})
        assert "canary" not in error.value.errors()[0]["msg"]  # which is what load_settings says
    with pytest.raises(ValidationError, match="same name"):
        EventsSettings.model_validate({"sinks": [one, one]})


async def test_a_key_that_cannot_be_read_stops_the_start(service: Service) -> None:
    sink = {"name": "a", "url": "https://h/x", "key_file": str(service.folder / "none")}
    with pytest.raises(InvalidInput, match="key_file of sink a"):
        await configure(service, sink)
