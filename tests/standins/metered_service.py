"""A small real service that measures itself, and can really be broken: a process of its own on loopback.

`python metered_service.py NAME PORT [DOWNSTREAM_URL]`, with $FAULT as a fault from the start and $ADDRESS to listen on
(loopback by default). GET /work does a little and calls the downstream; GET /metrics tells, of this process as the
kernel counts it and of its requests, and, where $CALLEE names the downstream, of the calls to it; GET /fault/KIND
breaks it: cpu (burns a core), memory (keeps 8 MB more each $PACE seconds, a tenth by default), latency (each request
waits $DELAY seconds, 0.08 by default), errors (each second request fails). Where the file $KEEP is given, the next
process has the fault as well.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

BOUNDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
STARTED = time.time()


class Histogram:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.buckets, self.sum, self.count = [0] * len(BOUNDS), 0.0, 0

    def add(self, seconds: float) -> None:
        with self.lock:
            self.sum, self.count = self.sum + seconds, self.count + 1
            for index, bound in enumerate(BOUNDS):
                self.buckets[index] += seconds <= bound

    def lines(self, name: str, labels: str) -> list[str]:
        with self.lock:
            lines = [f'{name}_bucket{{{labels}le="{b}"}} {n}' for b, n in zip(BOUNDS, self.buckets, strict=True)]
            lines += [f'{name}_bucket{{{labels}le="+Inf"}} {self.count}']
            bare = f"{{{labels.rstrip(',')}}}" if labels else ""
            return [*lines, f"{name}_sum{bare} {self.sum}", f"{name}_count{bare} {self.count}"]


class Service:
    def __init__(self, name: str, downstream: str) -> None:
        self.name, self.downstream, self.fault = name, downstream, os.environ.get("FAULT", "")
        self.served, self.called = Histogram(), Histogram()
        self.codes = {200: 0, 500: 0}
        self.kept: list[bytes] = []

    def work(self) -> int:
        began = time.perf_counter()
        code = 200
        if self.fault == "latency":
            time.sleep(float(os.environ.get("DELAY", "0.08")))
        if self.fault == "errors" and self.served.count % 2:
            code = 500
        sum(range(500))
        if self.downstream:
            called = time.perf_counter()
            try:
                with urlopen(f"{self.downstream}/work", timeout=60) as answer:
                    answer.read()
            except (URLError, OSError):
                code = 500
            self.called.add(time.perf_counter() - called)
        self.served.add(time.perf_counter() - began)
        self.codes[code] += 1
        return code

    def break_it(self, kind: str) -> None:
        self.fault = kind
        if keep := os.environ.get("KEEP"):
            Path(keep).write_text(kind)
        tasks = {"cpu": [self._burn, self._burn], "memory": [self._grow]}.get(kind, [])
        for task in tasks:
            threading.Thread(target=task, daemon=True).start()

    def _burn(self) -> None:
        data = bytes(4 << 20)
        while self.fault == "cpu":
            hashlib.sha256(data)  # outside of the interpreter's lock: the process can still tell its measurements

    def _grow(self) -> None:
        while self.fault == "memory" and len(self.kept) < 40:
            self.kept.append(os.urandom(4 << 20) * 2)
            time.sleep(float(os.environ.get("PACE", "0.1")))

    def metrics(self) -> str:
        used = os.times()
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        lines = [
            f"process_cpu_seconds_total {used.user + used.system}",
            f"process_resident_memory_bytes {pages * os.sysconf('SC_PAGE_SIZE')}",
            f"process_open_fds {len(os.listdir('/proc/self/fd'))}",
            f"process_start_time_seconds {STARTED}",
            *(f'http_requests_total{{code="{code}"}} {count}' for code, count in self.codes.items()),
            *self.served.lines("http_request_duration_seconds", ""),
        ]
        if callee := os.environ.get("CALLEE"):
            labels = f'client="{self.name}",server="{callee}",'
            lines += self.called.lines("traces_service_graph_request_client_seconds", labels)
            lines.append(f"traces_service_graph_request_total{{{labels[:-1]}}} {self.called.count}")
        return "\n".join(lines) + "\n"


def main() -> None:
    service = Service(sys.argv[1], sys.argv[3] if len(sys.argv) > 3 else "")

    keep = Path(os.environ.get("KEEP") or os.devnull)
    if keep.exists() and (kind := keep.read_text()):
        service.break_it(kind)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            code, body = 200, "ok\n"
            if self.path == "/metrics":
                body = service.metrics()
            elif self.path.startswith("/fault/"):
                service.break_it(self.path.removeprefix("/fault/"))
            else:
                code = service.work()
            self.send_response(code)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write(body.encode())

        def handle(self) -> None:
            with contextlib.suppress(ConnectionError):
                super().handle()

        def log_message(self, *_: object) -> None:
            pass

    ThreadingHTTPServer((os.environ.get("ADDRESS", "127.0.0.1"), int(sys.argv[2])), Handler).serve_forever()


if __name__ == "__main__":
    main()
