"""Whatever is sent, the answer is one clear problem and the service goes on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

import pytest
import structlog

from api import limits
from tests.standins.parts import Served

JSON = {"Content-Type": "application/json"}


async def test_bodies_that_are_not_json(service: Served):
    for content, headers, status in (
        (b"{", JSON, 400),
        (b"", JSON, 422),
        (b"null", JSON, 422),
        (b"[]", JSON, 422),
        (b'"text"', JSON, 422),
        (b"\xff\xfe\x00", JSON, 400),
        (b'{"deployment": "\xff"}', JSON, 400),
        (b"[" * 50_000, JSON, 400),
        (b'{"deployment": ' + b"9" * 5000 + b"}", JSON, 400),
        (b'{"deployment": NaN, "event": "x"}', JSON, 422),
        (b"deployment=api&event=x", {"Content-Type": "application/x-www-form-urlencoded"}, 415),
        (b'{"deployment": "a", "event": "x"}', {"Content-Type": "text/plain"}, 415),
        (b'{"deployment": "a", "event": "x"}', {}, 415),
        (b"<a/>", {"Content-Type": "application/xml"}, 415),
        (b"{}", {"Content-Type": b"application/json; charset=\xff"}, 422),
    ):
        answer = await service.client.post("/api/v1/autofix", content=content, headers=headers)
        assert answer.status_code == status, (content[:60], headers, answer.text[:300])
        assert answer.headers["content-type"] == "application/problem+json"
        problem = answer.json()
        assert problem["status"] == status and problem["detail"] and problem["title"]
        assert problem["type"].startswith("urn:paramedic:problem:")
        assert problem["instance"] == "/api/v1/autofix"
    assert service.parts.runner.submitted == []


async def test_a_secret_in_a_wrong_field_is_not_echoed(service: Served):
    answer = await service.client.post("/api/v1/autofix", json={"deployment": {"password": "hunter22"}, "event": "x"})
    assert answer.status_code == 422 and "hunter22" not in answer.text


async def test_unknown_paths_methods_and_ids(service: Served):
    for method, path, status in (
        ("GET", "/nothing", 404),
        ("GET", "/api/v1/incidents/inc_" + "0" * 32, 404),
        ("GET", "/api/v1/incidents/..%2f..%2fetc%2fpasswd", 404),
        ("GET", "/api/v1/incidents/%00", 404),
        ("GET", "/api/v1/incidents/%ff%fe", 404),
        ("GET", "/api/v1/incidents/' OR 1=1 --", 404),
        ("GET", "/api/v1/incidents/" + "a" * 79, 404),
        ("GET", "/api/v1/incidents/" + "a" * 5000, 422),
        ("GET", "/api/v1/incidents/inc_1/evidence/..%2f..%2ftest.db", 404),
        ("GET", "/api/v1/approvals/../../etc", 404),
        ("GET", "/api/v1/approvals/apr_1", 404),
        ("DELETE", "/api/v1/incidents", 405),
        ("PUT", "/api/v1/autofix", 405),
        ("HEAD", "/api/v1/incidents", 405),
        ("OPTIONS", "/api/v1/autofix", 405),
        ("PROPFIND", "/api/v1/incidents", 405),
        ("GET", "/api/v1/incidents?limit=0", 422),
        ("GET", "/api/v1/incidents?limit=1e9", 422),
        ("GET", "/api/v1/incidents?limit=" + "9" * 400, 422),
        ("GET", "/api/v1/incidents?status=great", 422),
        ("GET", "/api/v1/incidents?namespace=../x", 422),
        ("GET", "/api/v1/incidents?before=inc_00", 422),
        ("GET", "/api/v1/incidents?open=perhaps", 422),
        ("GET", "/api/v1/approvals?state=maybe", 422),
    ):
        answer = await service.client.request(method, path)
        assert answer.status_code == status, (method, path, answer.text[:200])
        assert answer.headers["content-type"] == "application/problem+json", path
        if method != "HEAD":
            assert answer.json()["status"] == status
        if status == 405:
            assert answer.headers["allow"]


@pytest.fixture
def plain_log() -> Iterator[None]:
    """The service's own kind of log: the default one draws every variable of a traceback, which takes half a minute."""
    structlog.configure(processors=[structlog.processors.format_exc_info, structlog.processors.JSONRenderer()])
    yield
    structlog.reset_defaults()


@pytest.mark.usefixtures("plain_log")
async def test_an_unexpected_error_tells_nothing_and_the_service_goes_on(service: Served):
    async def broken(*_args: object, **_more: object) -> None:
        raise RuntimeError("the password is hunter22")

    service.parts.incidents.recent, whole = broken, service.parts.incidents.recent
    answer = await service.client.get("/api/v1/incidents")
    assert answer.status_code == 500 and answer.json()["title"] == "Internal error"
    assert "hunter22" not in answer.text
    service.parts.incidents.recent = whole
    assert (await service.client.get("/api/v1/incidents")).status_code == 200


async def test_bodies_over_the_limit_are_refused_by_length_and_by_count(service: Served):
    limit = service.parts.settings.api.max_body_bytes
    body = json.dumps({"deployment": "a", "event": "x", "pad": "y" * limit}).encode()
    answer = await service.client.post("/api/v1/autofix", content=body, headers=JSON)
    assert answer.status_code == 413 and answer.headers["content-type"] == "application/problem+json"
    assert str(limit) in answer.json()["detail"]

    async def chunks():
        for _ in range(limit // 1000 + 2):
            yield b" " * 1000

    answer = await service.client.post("/api/v1/autofix", content=chunks(), headers=JSON)
    assert answer.status_code == 413 and answer.headers["content-type"] == "application/problem+json"


async def test_a_declared_ten_gigabytes_is_refused_before_a_byte_is_read(service: Served, monkeypatch):
    monkeypatch.setattr(limits, "LINGER_SECONDS", 0.1)
    reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
    head = "POST /api/v1/autofix HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10737418240\r\n\r\n"
    writer.write(head.encode())
    first = await asyncio.wait_for(reader.readline(), 60)
    assert b" 413 " in first
    assert b"connection: close" in (await asyncio.wait_for(reader.read(), 60)).lower()
    writer.close()


async def test_answers_carry_careful_headers(service: Served):
    for path in ("/livez", "/api/v1/incidents", "/nothing"):
        answer = await service.client.get(path)
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["cache-control"] == "no-store"
        assert len(answer.headers["x-request-id"]) == 16
