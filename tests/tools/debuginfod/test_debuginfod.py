"""Missing files from a real server on loopback: what it sends counts only when it is what was asked for."""

from __future__ import annotations

import re
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from settings import GdbSettings
from tests.standins import crashing
from tools.debuginfod import client as debuginfod_client
from tools.debuginfod.client import Debuginfod
from tools.debuginfod.wanted import Wanted
from tools.gdb.analysis import analyze_core

pytestmark = pytest.mark.gdb
ABSENT = Wanted("ab" * 20, "debuginfo")


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.seen: list[str] = []
        self.files: dict[str, bytes] = {}
        self.status = 200


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.seen.append(self.path)
        body = self.server.files.get(self.path)
        if body is None or self.server.status != 200:
            self.send_response(404 if self.server.status == 200 else self.server.status)
            self.send_header("Location", "/elsewhere")
            self.end_headers()
            return
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    crashing.require_tools()
    running = Server()
    thread = threading.Thread(target=running.serve_forever, daemon=True)
    thread.start()
    yield running
    running.shutdown()
    running.server_close()
    thread.join()


def build_id() -> str:
    notes = subprocess.run(["readelf", "-n", str(crashing.program())], check=True, capture_output=True, text=True)
    found = re.search(r"Build ID: ([0-9a-f]+)", notes.stdout)
    assert found
    return found[1]


async def test_the_program_and_its_debug_information_come_from_the_server(server: Server, tmp_path: Path) -> None:
    core = crashing.core("offset", executable=crashing.stripped())
    server.files[f"/buildid/{build_id()}/executable"] = crashing.stripped().read_bytes()
    server.files[f"/buildid/{build_id()}/debuginfo"] = crashing.program().read_bytes()
    cache = tmp_path / "cache"
    for _ in range(2):  # the second time nothing is asked: not even for what the server does not have
        asked = len(server.seen)
        debuginfod = Debuginfod([server.url + "/"], cache, GdbSettings())
        analysis = await analyze_core(
            core, executable=None, settings=GdbSettings(), sysroot=tmp_path, debuginfod=debuginfod
        )
        main = next(module for module in analysis.report.modules if module.filename.endswith("/shop"))
        assert (main.build_id_match, main.symbols, main.debug_source) == ("exact", "dwarf", "debuginfod")
        assert analysis.report.crash_line == f"{crashing.SOURCE}:{crashing.line_of('offset')}"
    assert asked == len(server.seen) > 2
    assert not list(cache.glob("part-*"))


async def test_another_file_than_was_asked_for_is_not_kept(server: Server, tmp_path: Path) -> None:
    wanted = Wanted(build_id(), "executable")
    server.files[f"/buildid/{build_id()}/executable"] = Path("/usr/bin/env").read_bytes()
    debuginfod = Debuginfod([server.url], tmp_path, GdbSettings())
    (error,) = await debuginfod.fetch([wanted])
    assert "is another file: not used" in error
    assert not debuginfod.path(wanted).exists()
    assert not list(tmp_path.glob("part-*"))


async def test_a_file_that_is_too_large_is_not_read_to_its_end(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(debuginfod_client, "MAX_FILE_BYTES", 1000)
    server.files[f"/buildid/{ABSENT.build_id}/debuginfo"] = bytes(1 << 20)
    (error,) = await Debuginfod([server.url], tmp_path, GdbSettings()).fetch([ABSENT])
    assert "larger than 1000 bytes" in error
    assert not list(tmp_path.rglob("*.debug"))


async def test_no_redirect_is_followed(server: Server, tmp_path: Path) -> None:
    server.status = 302
    (error,) = await Debuginfod([server.url], tmp_path, GdbSettings()).fetch([ABSENT])
    assert "answered 302" in error
    assert server.seen == [f"/buildid/{ABSENT.build_id}/debuginfo"]


async def test_a_server_that_is_down_is_asked_once_and_the_next_one_answers(server: Server, tmp_path: Path) -> None:
    wanted = Wanted(build_id(), "executable")
    server.files[f"/buildid/{build_id()}/executable"] = crashing.program().read_bytes()
    debuginfod = Debuginfod(["http://127.0.0.1:1", server.url], tmp_path, GdbSettings())
    (error,) = await debuginfod.fetch([wanted, ABSENT])
    assert "did not answer: ConnectError" in error
    assert debuginfod.path(wanted).is_file()
    await debuginfod.fetch([ABSENT])  # one server could not be asked: it may have it next time
    assert server.seen.count(f"/buildid/{ABSENT.build_id}/debuginfo") == 2


async def test_no_server_is_asked_when_none_is_configured(tmp_path: Path) -> None:
    assert await Debuginfod([], tmp_path, GdbSettings()).fetch([ABSENT]) == []
    assert not list(tmp_path.iterdir())
