"""Reading incidents: pages, evidence, the timeline as a stream that can be taken up again."""

from __future__ import annotations

import asyncio
import json

import httpx

from incidents.database import utcnow
from incidents.models import Diagnosis, DiagnosisStatus, Evidence, EvidenceKind, IncidentStatus, ObjectRef, Via
from incidents.plan import Proposal
from tests.standins.parts import Served, make_approval


async def make(service: Served, name: str = "api", namespace: str | None = "shop"):
    target = ObjectRef(kind="Deployment", namespace=namespace, name=name)
    return await service.parts.incidents.create(target, "x", requested_by="local", via=Via.API)


async def events_of(answer: httpx.Response) -> list[tuple[str, str | None, dict]]:
    """All events of a stream: name, id, data."""
    found, name, number = [], "message", None
    async for line in answer.aiter_lines():
        if line.startswith("event: "):
            name = line[7:]
        elif line.startswith("id: "):
            number = line[4:]
        elif line.startswith("data: "):
            found.append([name, None, json.loads(line[6:])])
        elif not line and found and found[-1][1] is None:
            found[-1][1], number = number, None
    return [tuple(item) for item in found]


async def test_pages_walk_all_incidents_once_newest_first(service: Served):
    made = [(await make(service, f"w{number}")).id for number in range(7)]
    seen, before = [], None
    for _ in range(10):
        query = {"limit": 3} | ({"before": before} if before else {})
        page = (await service.client.get("/api/v1/incidents", params=query)).json()
        seen += [item["id"] for item in page["incidents"]]
        before = page["next"]
        if before is None:
            break
    assert seen == made[::-1]


async def test_filters(service: Served):
    first, _ = await make(service, "a", "shop"), await make(service, "b", "bank")
    await service.parts.incidents.update(first.id, status=IncidentStatus.FIXED)
    for query, names in (
        ({"namespace": "bank"}, ["b"]),
        ({"status": "fixed"}, ["a"]),
        ({"open": "true"}, ["b"]),
        ({"namespace": "none"}, []),
    ):
        page = (await service.client.get("/api/v1/incidents", params=query)).json()
        assert [item["target"]["name"] for item in page["incidents"]] == names, query


async def test_one_incident_holds_everything_on_record(service: Served):
    incident = await make(service)
    text = "line\n" * 2000 + "\ud800 end"
    evidence = Evidence.of(EvidenceKind.LOG, "log a", text, utcnow())
    store = service.parts.incidents
    await store.save_evidence(incident.id, [evidence], {evidence.id: text})
    await store.update(
        incident.id,
        diagnosis=Diagnosis(status=DiagnosisStatus.UNKNOWN, unseen=["logs"]),
        proposals=[Proposal(title="t", reason="r")],
    )
    approval = make_approval(incident)
    service.parts.approvals.items[approval.id] = approval
    detail = (await service.client.get(f"/api/v1/incidents/{incident.id}")).json()
    assert detail["incident"]["id"] == incident.id and detail["diagnosis"]["unseen"] == ["logs"]
    assert detail["proposals"][0]["title"] == "t" and detail["approvals"][0]["digest"] == approval.digest
    assert "secret-nonce" not in json.dumps(detail)
    answer = await service.client.get(detail["evidence"][0]["href"])
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.text == text.encode("utf-8", "backslashreplace").decode()
    assert answer.headers["etag"] == f'"{evidence.sha256}"'


async def test_the_stream_has_all_steps_then_new_ones_then_the_end(service: Served):
    incident = await make(service)
    store = service.parts.incidents
    await store.add_step(incident.id, "run.started", "one\nevent: forged\ndata: {}")

    async def later() -> None:
        await asyncio.sleep(0.05)
        await store.add_step(incident.id, "hop", "two")
        await store.update(incident.id, status=IncidentStatus.HEALTHY, summary="fine")

    task = asyncio.create_task(later())
    async with service.client.stream("GET", f"/api/v1/incidents/{incident.id}/events") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        events = await events_of(answer)
    await task
    assert [(name, number) for name, number, _ in events] == [("run.started", "1"), ("hop", "2"), ("end", None)]
    assert events[0][2]["text"].startswith("one\nevent: forged")
    assert events[-1][2] == {"status": "healthy", "summary": "fine"}


async def test_a_stream_is_taken_up_after_the_last_event(service: Served):
    incident = await make(service)
    store = service.parts.incidents
    for number in range(5):
        await store.add_step(incident.id, "hop", f"step {number}")
    await store.update(incident.id, status=IncidentStatus.HEALTHY)
    url = f"/api/v1/incidents/{incident.id}/events"
    for last, expected in (
        ("3", ["4", "5", None]),
        ("5", [None]),
        ("999", [None]),
        ("0", ["1", "2", "3", "4", "5", None]),
    ):
        async with service.client.stream("GET", url, headers={"Last-Event-ID": last}) as answer:
            assert [number for _, number, _ in await events_of(answer)] == expected, last
    for wrong in ("-1", "x", "1.5", "9" * 50, "1e3"):
        answer = await service.client.get(url, headers={"Last-Event-ID": wrong})
        assert answer.status_code == 400, wrong


async def test_quiet_streams_have_heartbeats_and_end_when_the_service_drains(service: Served, monkeypatch):
    monkeypatch.setattr("api.sse.HEARTBEAT_SECONDS", 0.02)
    incident = await make(service)
    async with service.client.stream("GET", f"/api/v1/incidents/{incident.id}/events") as answer:
        lines = answer.aiter_lines()
        async for line in lines:
            if line == ": still here":
                break
        service.app.state.draining.set()
        assert [line async for line in lines if line.startswith("event")] == []
    assert (await service.client.get("/readyz")).status_code == 503
    assert (await service.client.get("/livez")).status_code == 200


async def test_a_client_that_leaves_stops_the_following(service: Served):
    incident = await make(service)
    store, followed, over = service.parts.incidents, asyncio.Event(), asyncio.Event()
    whole = store.follow

    async def follow(*args, **more):
        followed.set()
        try:
            async for step in whole(*args, **more):
                yield step
        finally:
            over.set()

    store.follow = follow
    async with service.client.stream("GET", f"/api/v1/incidents/{incident.id}/events") as answer:
        async for _ in answer.aiter_lines():
            break
        await asyncio.wait_for(followed.wait(), 60)
    await asyncio.wait_for(over.wait(), 60)


async def test_decisions_go_to_the_runner_with_who_the_server_says(service: Served):
    incident = await make(service)
    approval = make_approval(incident)
    service.parts.approvals.items[approval.id] = approval
    url = f"/api/v1/approvals/{approval.id}"
    good = {"verdict": "approve", "digest": approval.digest}
    assert (await service.client.post(f"{url}/decision", json=good)).status_code == 503  # no cluster, no gate
    service.parts.gate = object()
    for wrong in (
        {},
        {"verdict": "approve"},
        {"digest": approval.digest},
        {**good, "verdict": "maybe"},
        {**good, "digest": approval.digest[:-1]},
        {**good, "digest": approval.digest.upper()},
        {**good, "identity": "api:physician"},
        {**good, "waive_evidence": "true"},
        {**good, "reason": "x" * 1001},
    ):
        assert (await service.client.post(f"{url}/decision", json=wrong)).status_code == 422, wrong
    assert (await service.client.post(f"{url}/decision", json={**good, "digest": "0" * 64})).status_code == 409
    answer = await service.client.post(f"{url}/decision", json={**good, "reason": "seen"})
    assert answer.status_code == 200 and answer.json()["state"] == "approved"
    vote = answer.json()["votes"][0]
    assert (vote["identity"], vote["channel"], vote["reason"]) == ("local", "api", "seen")
    assert (await service.client.post(f"{url}/decision", json=good)).status_code == 409
    shown = (await service.client.get(url)).json()
    assert shown["plan"]["diff"] == approval.plan.diff and "nonce" not in shown
    page = (await service.client.get("/api/v1/approvals", params={"state": "approved"})).json()
    assert [item["id"] for item in page["approvals"]] == [approval.id]
