"""Fetching by URL against a real server on loopback: what is allowed comes through, nothing else is ever asked."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from errors import Forbidden, InputTooLarge, InvalidInput, ParamedicError, ToolFailed
from settings import CoreSettings
from tools.cores.fetch import fetch

BODY = b"\x7fELF" + bytes(range(256)) * 40


class Server(ThreadingHTTPServer):
    """Remembers every request."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.seen: list[tuple[str, str]] = []

    @property
    def port(self) -> int:
        return self.server_address[1]


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.seen.append((self.path, self.headers["Host"]))
        if self.path == "/redirect":
            self.send_response(302)
            self.send_header("Location", f"http://127.0.0.1:{self.server.port}/core")
            self.end_headers()
            return
        if self.path == "/missing":
            self.send_error(404)
            return
        self.send_response(200)
        if self.path == "/chunked":  # says nothing of its length
            self.end_headers()
            self.wfile.write(BODY)
            return
        self.send_header("Content-Length", str(len(BODY) * (2 if self.path == "/short" else 1)))
        self.end_headers()
        self.wfile.write(BODY)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield server
    server.shutdown()
    thread.join(5)
    server.server_close()


def allowed(server: Server, host: str = "127.0.0.1", **more: object) -> CoreSettings:
    return CoreSettings(url_hosts=[f"{host}:{server.port}"], url_schemes=["http", "https"], **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
@pytest.mark.parametrize("path", ["/core", "/chunked"])
async def test_an_allowed_file_is_saved(server: Server, tmp_path: Path, host: str, path: str) -> None:
    await fetch(f"http://{host}:{server.port}{path}", tmp_path / "core", allowed(server, host))
    assert (tmp_path / "core").read_bytes() == BODY
    assert server.seen == [(path, f"{host}:{server.port}")]


@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("http://127.0.0.1:{port}/core", Forbidden),  # an address that is not the one listed
        ("http://localhost:{other}/core", Forbidden),
        ("http://LOCALHOST.:{port}/core", Forbidden),
        ("http://localhost:{port}@127.0.0.1:{port}/core", ParamedicError),
        ("http://user:secret@localhost:{port}/core", InvalidInput),
        ("http://0x7f000001:{port}/core", Forbidden),
        ("http://2130706433:{port}/core", Forbidden),
        ("http://[::ffff:127.0.0.1]:{port}/core", Forbidden),
        ("http://169.254.169.254/latest/meta-data", Forbidden),
        ("file:///etc/passwd", Forbidden),
        ("ftp://localhost:{port}/core", Forbidden),
        ("gopher://localhost:{port}/core", Forbidden),
        ("http:///core", ParamedicError),
        ("http://localhost:{port}:80/core", ParamedicError),
        ("http://localhost:99999999/core", ParamedicError),
        ("http://local\nhost:{port}/", ParamedicError),
        ("", ParamedicError),
    ],
)
async def test_no_other_place_is_asked(server: Server, tmp_path: Path, url: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        await fetch(
            url.format(port=server.port, other=server.port + 1), tmp_path / "core", allowed(server, "localhost")
        )
    assert server.seen == []
    assert not (tmp_path / "core").exists()


async def test_plain_http_only_where_it_is_allowed(server: Server, tmp_path: Path) -> None:
    with pytest.raises(Forbidden, match="https only"):
        settings = CoreSettings(url_hosts=[f"127.0.0.1:{server.port}"])
        await fetch(f"http://127.0.0.1:{server.port}/core", tmp_path / "core", settings)
    assert server.seen == []


@pytest.mark.parametrize("address", ["127.0.0.1", "169.254.169.254", "0.0.0.0", "::1", "::ffff:127.0.0.1", "fe80::1"])
async def test_a_listed_name_that_leads_to_this_machine_is_refused(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    """The name is allowed, but whoever holds its DNS points it at us: the resolver is the only thing replaced."""
    import asyncio

    async def resolve(host: str, *args: object, **more: object) -> list[object]:
        return [(2, 1, 6, "", (address, 0))]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolve, raising=False)
    with pytest.raises(Forbidden, match="never fetched from by name"):
        url = f"http://cores.example.com:{server.port}/core"
        await fetch(url, tmp_path / "core", allowed(server, "cores.example.com"))
    assert server.seen == []


async def test_redirects_are_not_followed(server: Server, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="redirect"):
        await fetch(f"http://127.0.0.1:{server.port}/redirect", tmp_path / "core", allowed(server))
    assert [path for path, _ in server.seen] == ["/redirect"]


async def test_a_proxy_of_the_environment_is_not_used(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    await fetch(f"http://127.0.0.1:{server.port}/core", tmp_path / "core", allowed(server))
    assert (tmp_path / "core").read_bytes() == BODY


@pytest.mark.parametrize("path", ["/core", "/chunked"])
async def test_too_large_is_refused_while_it_streams(server: Server, tmp_path: Path, path: str) -> None:
    with pytest.raises(InputTooLarge, match=r"core\.max_bytes"):
        await fetch(f"http://127.0.0.1:{server.port}{path}", tmp_path / "core", allowed(server, max_bytes=100))


@pytest.mark.parametrize(("path", "error"), [("/missing", InvalidInput), ("/short", ToolFailed)])
async def test_a_server_that_does_not_deliver(
    server: Server, tmp_path: Path, path: str, error: type[Exception]
) -> None:
    with pytest.raises(error):
        await fetch(f"http://127.0.0.1:{server.port}{path}", tmp_path / "core", allowed(server))


async def test_a_host_that_is_not_there(tmp_path: Path) -> None:
    settings = CoreSettings(url_hosts=["127.0.0.1:1"], url_schemes=["http"])
    with pytest.raises(ToolFailed, match="ConnectError"):
        await fetch("http://127.0.0.1:1/core", tmp_path / "core", settings)
