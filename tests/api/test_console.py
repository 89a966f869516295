"""The console page in a real browser: it shows an incident, and what an incident says stays text."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from incidents.database import utcnow
from incidents.models import (
    Cause,
    CauseClass,
    Diagnosis,
    DiagnosisStatus,
    Evidence,
    EvidenceKind,
    Finding,
    Hypothesis,
    IncidentStatus,
    ModelStatements,
    ObjectRef,
    Via,
)
from incidents.plan import Proposal
from tests.standins.browser import CHROMIUM, Page, browse
from tests.standins.parts import Served, make_approval

needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="chromium is missing: apt-get install chromium")
NASTY = "<img src=x onerror=\"document.title='pwned';fetch('/pwned')\"><script>fetch('/pwned')</script>"


@needs_browser
async def test_hostile_text_of_an_incident_is_shown_and_never_executed(service: Served, tmp_path: Path):
    store = service.parts.incidents
    target = ObjectRef(kind="Deployment", namespace="shop", name=NASTY)
    incident = await store.create(target, NASTY, requested_by=NASTY, via=Via.API)
    evidence = Evidence.of(EvidenceKind.LOG, NASTY, NASTY, utcnow())
    finding = Finding.of("r", f"claim {NASTY}", [evidence])
    cause = Cause(
        cause_class=CauseClass.UNKNOWN,
        object=target,
        confidence=0.5,
        summary=f"cause {NASTY}",
        finding_ids=[finding.id],
    )
    diagnosis = Diagnosis(
        status=DiagnosisStatus.DIAGNOSED,
        causes=[cause],
        findings=[finding],
        evidence=[evidence],
        unseen=[NASTY],
        ruled_out=[f"ruled out {number}" for number in range(9)],
        next_steps=[NASTY],
        explanation=NASTY,
        hypotheses=[
            Hypothesis(
                cause_class=CauseClass.EVICTED,
                object=target,
                confirms=NASTY,
                verdict="refuted",
                because=f"because {NASTY}",
                evidence_ids=[evidence.id],
            )
        ],
        model_statements=ModelStatements(kept=1, total=3),
        closure=0.6,
    )
    await store.add_step(incident.id, "hop", f"step {NASTY}", agent=NASTY)
    proposal = Proposal(title=f"proposal {NASTY}", reason=NASTY, steps=[NASTY], change=NASTY)
    await store.update(
        incident.id, diagnosis=diagnosis, status=IncidentStatus.DIAGNOSED, summary=NASTY, proposals=[proposal]
    )
    approval = make_approval(incident, diff=f"+ {NASTY}")
    service.parts.approvals.items[approval.id] = approval

    async with browse(f"{service.url}/#{incident.id}", tmp_path / "profile") as page:
        for words in ("cause ", "claim ", "step ", "proposal ", "+ ", "because ", "Confirms: "):
            await page.until(f"document.querySelector('article').textContent.includes({json.dumps(words + NASTY)})")
        closure = "The evidence bears 60% of what was stated; of 3 statements of a model, 1"
        assert await page.evaluate(f"document.querySelector('article').textContent.includes('{closure}')")
        assert await page.evaluate("document.querySelector('details summary').textContent") == "Ruled out (9)"
        assert not await page.evaluate("document.querySelector('details').open")
        await page.evaluate("document.querySelector('.chip').click()")
        await page.until(f"document.querySelector('#evidence-source').textContent === {json.dumps(NASTY)}")
        await page.evaluate("document.querySelector('#evidence').close()")
        await ask(page, NASTY)
        await page.until(f"document.querySelector('#talk .me').textContent === {json.dumps(NASTY)}")
        await ask(page, "what happened?")
        await page.until("document.querySelector('#talk').textContent.includes('cause <img')")
        assert await page.evaluate("document.title") == "Paramedic"
        assert await page.evaluate("document.querySelectorAll('img, main script').length") == 0
    assert 'route="unmatched"' not in (await service.client.get("/metrics")).text  # nothing fetched /pwned


@needs_browser
async def test_approving_from_the_page_wants_the_digest_and_uses_the_api(service: Served, tmp_path: Path):
    service.parts.gate = object()
    target = ObjectRef(kind="Deployment", namespace="shop", name="api")
    incident = await service.parts.incidents.create(target, "x", requested_by="api:pager", via=Via.API)
    approval = make_approval(incident)
    service.parts.approvals.items[approval.id] = approval
    async with browse(f"{service.url}/#{incident.id}", tmp_path / "profile") as page:
        await page.until("document.querySelector('.card.ask button')")
        await page.evaluate("document.querySelector('.card.ask button').click()")
        assert await page.evaluate("document.querySelector('#confirm-yes').disabled")
        waives = "getComputedStyle(document.querySelector('#confirm-waive-row')).display"
        assert await page.evaluate(waives) == "none"  # no core is missing: nothing to go on without
        assert await page.evaluate("document.querySelector('#confirm-digest').textContent") == approval.digest
        await type_digest(page, "00000000")
        assert await page.evaluate("document.querySelector('#confirm-yes').disabled")
        await type_digest(page, approval.digest[:8])
        await page.evaluate("document.querySelector('#confirm-yes').click()")
        await page.until("document.querySelector('article').textContent.includes('local: approve')")
    vote = service.parts.approvals.items[approval.id].votes[0]
    assert (vote.identity, vote.verdict, vote.digest) == ("local", "approve", approval.digest)


async def ask(page: Page, message: str) -> None:
    await page.until("!document.querySelector('#ask button').disabled")
    await page.evaluate(f"document.querySelector('#message').value = {json.dumps(message)}")
    await page.evaluate("document.querySelector('#ask').requestSubmit()")


async def type_digest(page: Page, text: str) -> None:
    typed = "document.querySelector('#confirm-typed')"
    await page.evaluate(f"{typed}.value = {json.dumps(text)}, {typed}.dispatchEvent(new Event('input')), 0")


async def test_the_page_loads_nothing_from_elsewhere_and_nothing_inline(service: Served):
    answer = await service.client.get("/")
    policy = answer.headers["content-security-policy"]
    assert answer.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy
    assert "<style" not in answer.text and " style=" not in answer.text and " onclick=" not in answer.text
    for name in ("style.css", "main.js", "api.js", "chat.js", "incident.js", "view.js", "icon.svg"):
        asset = await service.client.get(f"/console/{name}")
        assert asset.status_code == 200, name
        for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "https://"):
            assert word not in asset.text, (name, word)
    for name in ("index.html", "..%2fapp.py", "%2e%2e/app.py", "style.css%00", "nothing.js"):
        assert (await service.client.get(f"/console/{name}")).status_code == 404, name


async def test_chat_over_http_as_a_stream_and_as_one_answer(service: Served):
    stream = await service.client.post("/diagnose", json={"message": "help"})
    assert stream.headers["content-type"].startswith("text/event-stream")
    assert "event: token" in stream.text and "event: done" in stream.text
    whole = await service.client.post("/diagnose", json={"message": "help"}, headers={"Accept": "application/json"})
    assert whole.headers["content-type"] == "application/json"
    answer = whole.json()
    assert answer["intent"] == "help" and answer["by"] == "rules" and answer["citations"] == []
    again = {"message": "why?", "conversation_id": answer["conversation_id"]}
    assert (await service.client.post("/api/v1/diagnose", json=again)).status_code == 200
    for wrong, status in (
        ({"message": ""}, 422),
        ({"message": "x" * 4001}, 422),
        ({"message": "\0"}, 422),
        ({"message": 7}, 422),
        ({}, 422),
        ({"message": "x", "tool": "approve"}, 422),
        ({"message": "x", "conversation_id": "cnv_" + "0" * 32}, 404),
        ({"message": "x", "incident_id": "../x"}, 404),
    ):
        answer = await service.client.post("/diagnose", json=wrong)
        assert answer.status_code == status, (wrong, answer.text)
        assert answer.headers["content-type"] == "application/problem+json"
    lone = await service.client.post(
        "/diagnose", content=json.dumps({"message": "\ud800"}).encode(), headers={"Content-Type": "application/json"}
    )
    assert lone.status_code == 422
