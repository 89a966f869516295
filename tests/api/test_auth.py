"""Who is answered: keys and scopes, and without keys only this machine."""

from __future__ import annotations

import asyncio
import hashlib
import re
import socket
from pathlib import Path

import httpx
import pytest

from api.auth import OPEN, Authentication
from tests.standins.parts import Served, open_parts, served

KEYS = {"reader": ["read"], "fixer": ["read", "autofix"], "physician": ["read", "approve"], "blind": ["autofix"]}


def key_of(name: str) -> str:
    return f"pmk_{name}_secret"


@pytest.fixture
async def keyed(tmp_path: Path):
    keys = [
        {"name": name, "sha256": hashlib.sha256(key_of(name).encode()).hexdigest(), "scopes": scopes}
        for name, scopes in KEYS.items()
    ]
    async with open_parts(tmp_path, keys=keys) as parts, served(parts) as running:
        yield running


CALLS = [
    ("GET", "/api/v1/incidents", None, "read"),
    ("GET", "/api/v1/approvals", None, "read"),
    ("GET", "/api/v1/health", None, "read"),
    ("GET", "/api/v1/autofix/health", None, "read"),
    ("GET", "/metrics", None, "read"),
    ("POST", "/diagnose", {"message": "help"}, "read"),
    ("POST", "/api/v1/diagnose", {"message": "help"}, "read"),
    ("POST", "/api/v1/autofix", {"deployment": "a", "event": "x"}, "autofix"),
    ("POST", "/api/v1/autofix/workflow", {"problem_description": "x"}, "autofix"),
    ("POST", "/api/v1/autofix/notify", {"type": "human_help", "message": "x"}, "autofix"),
    ("POST", "/api/v1/approvals/apr_1/decision", {"verdict": "approve", "digest": "0" * 64}, "approve"),
]


async def test_each_route_wants_its_scope(keyed: Served):
    for method, path, body, scope in CALLS:
        for name, scopes in KEYS.items():
            headers = {"Authorization": f"Bearer {key_of(name)}"}
            answer = await keyed.client.request(method, path, json=body, headers=headers)
            if scope in scopes:
                assert answer.status_code not in (401, 403), (path, name, answer.text)
            else:
                assert answer.status_code == 403, (path, name)
                assert answer.headers["content-type"] == "application/problem+json"
                assert scope in answer.json()["detail"]


async def test_both_headers_carry_a_key_and_nothing_else_does(keyed: Served):
    good = key_of("reader")
    for headers in ({"Authorization": f"Bearer {good}"}, {"authorization": f"bearer  {good}"}, {"X-API-Key": good}):
        assert (await keyed.client.get("/api/v1/incidents", headers=headers)).status_code == 200, headers
    for headers in (
        {},
        {"Authorization": "Bearer"},
        {"Authorization": f"Basic {good}"},
        {"Authorization": good},
        {"Authorization": f"Bearer {good}x"},
        {"Authorization": f"Bearer {good[:-1]}"},
        {"Authorization": f"Bearer {good.upper()}"},
        {"Authorization": b"Bearer \xff\xfe\xfd"},
        {"Authorization": f"Bearer {hashlib.sha256(good.encode()).hexdigest()}"},
        {"Authorization": "Bearer wrong", "X-API-Key": good},
        {"Cookie": f"key={good}"},
    ):
        answer = await keyed.client.get("/api/v1/incidents", headers=headers)
        assert answer.status_code == 401, headers
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert answer.json()["title"] == "Unauthenticated"
    assert (await keyed.client.get(f"/api/v1/incidents?key={good}")).status_code == 401


async def test_the_caller_is_who_the_key_says_not_what_the_body_says(keyed: Served):
    headers = {"Authorization": f"Bearer {key_of('fixer')}"}
    answer = await keyed.client.post("/api/v1/autofix", json={"deployment": "a", "event": "x"}, headers=headers)
    assert answer.json()["incident"]["requested_by"] == "api:fixer"


async def test_a_stranger_is_refused_before_the_body_is_read(keyed: Served):
    head = "POST /api/v1/autofix HTTP/1.1\r\nHost: localhost\r\nContent-Length: 500\r\n\r\n"
    with socket.create_connection(("127.0.0.1", keyed.port)) as raw:
        raw.settimeout(10)
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, raw.sendall, head.encode())
        assert b" 401 " in await loop.run_in_executor(None, raw.recv, 4096)


async def test_every_route_outside_the_open_list_asks_for_a_caller(keyed: Served):
    document = keyed.app.openapi()
    assert len(document["paths"]) >= 18
    for path, operations in document["paths"].items():
        for method in operations:
            answer = await keyed.client.request(method.upper(), re.sub(r"\{\w+\}", "x_1", path))
            assert (answer.status_code != 401) == (path in OPEN), path
    for path in ("/nothing", "/api/v1/../metrics", "/api/v1/incidents/", "//api/v1/incidents", "/LIVEZ"):
        assert (await keyed.client.get(path)).status_code == 401, path


async def test_probes_need_no_key(keyed: Served):
    assert (await keyed.client.get("/livez")).json() == {"status": "ok"}
    assert (await keyed.client.get("/readyz")).status_code == 200


async def test_without_keys_this_machine_is_local_with_all_scopes(service: Served):
    answer = await service.client.post("/api/v1/autofix", json={"deployment": "a", "event": "x"})
    assert answer.json()["incident"]["requested_by"] == "local"
    assert (await service.client.get(f"http://localhost:{service.port}/api/v1/incidents")).status_code == 200
    same = {"Origin": service.url, "Sec-Fetch-Site": "same-origin"}
    assert (await service.client.get("/api/v1/incidents", headers=same)).status_code == 200


async def test_without_keys_proxies_other_names_and_other_pages_are_refused(service: Served):
    for headers in (
        {"X-Forwarded-For": "10.0.0.1"},
        {"X-Forwarded-For": "127.0.0.1"},
        {"Forwarded": "for=127.0.0.1"},
        {"X-Real-IP": "127.0.0.1"},
        {"Via": "1.1 proxy"},
        {"Host": "evil.example"},
        {"Host": f"evil.example:{service.port}"},
        {"Host": "127.0.0.1.evil.example"},
        {"Host": "localhost.evil.example"},
        {"Host": "[fe80::1]"},
        {"Host": "10.1.2.3"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:1"},
        {"Origin": f"https://127.0.0.1:{service.port}"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ):
        answer = await service.client.post("/api/v1/autofix", json={"deployment": "a", "event": "x"}, headers=headers)
        assert answer.status_code == 403, headers
        assert "no API keys are configured" in answer.json()["detail"]
    assert service.parts.runner.submitted == []


async def test_without_keys_other_machines_are_refused(service: Served):
    for peer, host in (
        ("10.0.0.9", "localhost"),
        ("::ffff:10.0.0.9", "localhost"),
        ("169.254.1.1", "127.0.0.1"),
        ("", "localhost"),
        ("testclient", "localhost"),
    ):
        transport = httpx.ASGITransport(service.app, client=(peer, 1))
        async with httpx.AsyncClient(transport=transport, base_url=f"http://{host}") as client:
            assert (await client.get("/api/v1/incidents")).status_code == 403, peer
    for peer in ("127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"):
        transport = httpx.ASGITransport(service.app, client=(peer, 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            assert (await client.get("/api/v1/incidents")).status_code == 200, peer


def test_all_keys_are_compared_whichever_matches(monkeypatch: pytest.MonkeyPatch):
    import api.auth as auth
    from settings import ApiKey

    seen = []
    real = auth.hmac.compare_digest
    monkeypatch.setattr(auth.hmac, "compare_digest", lambda a, b: seen.append(b) or real(a, b))
    keys = [ApiKey(name=name, sha256=hashlib.sha256(key_of(name).encode()).hexdigest()) for name in KEYS]
    middleware = Authentication(lambda *_: None, keys)
    assert middleware._by_key(httpx.Headers({"x-api-key": key_of("reader")})).identity == "api:reader"
    assert len(seen) == len(keys)
