"""Probes as data: what one asks for, what the kubelet says of its failures, what the program says of its port."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from diagnosis.workloads.events import Event
from diagnosis.workloads.fields import Object, decimal, mapping, number, pick, text

KINDS = ("liveness", "readiness", "startup")


@dataclass(frozen=True)
class Probe:
    """One probe of a container spec, with the API's defaults filled in (seconds)."""

    kind: str
    raw: Object
    handler: str  # httpGet, tcpSocket, grpc, exec or ""
    port: int | str | None
    path: str
    scheme: str
    initial_delay: int
    period: int
    timeout: int
    failure_threshold: int

    @property
    def budget(self) -> int:
        """Seconds from the start of a container that answers nothing to the failure that counts."""
        return self.initial_delay + self.period * self.failure_threshold


def probe_of(spec: Object, kind: str) -> Probe | None:
    """The probe of a kind, or None. Defaults: kubernetes.io/docs/reference/…/pod-v1/#Probe."""
    raw = mapping(spec, f"{kind}Probe")
    if not raw:
        return None
    handler = next((name for name in ("httpGet", "tcpSocket", "grpc", "exec") if isinstance(raw.get(name), dict)), "")
    port = pick(raw, handler, "port") if handler else None
    return Probe(
        kind=kind,
        raw=raw,
        handler=handler,
        port=port if isinstance(port, int | str) and not isinstance(port, bool) else None,
        path=text(raw, "httpGet", "path") or ("/" if handler == "httpGet" else ""),
        scheme=text(raw, "httpGet", "scheme").upper() or "HTTP",
        initial_delay=max(0, number(raw, "initialDelaySeconds") or 0),
        period=max(1, number(raw, "periodSeconds") or 10),
        timeout=max(1, number(raw, "timeoutSeconds") or 1),
        failure_threshold=max(1, number(raw, "failureThreshold") or 3),
    )


def port_number(port: int | str | None, declared: Iterable[tuple[str, int]]) -> int | None:
    """A probe's port as a number; a name is looked up among the container's declared ports."""
    if isinstance(port, int):
        return port
    if (value := decimal(port)) is not None:
        return value
    return next((value for name, value in declared if name and name == port), None)


class Symptom(StrEnum):
    REFUSED = "refused"
    NOT_FOUND = "not found"
    NOT_ALLOWED = "not allowed"
    BAD_REQUEST = "bad request"
    SERVER_ERROR = "server error"
    SPEAKS_HTTP = "speaks HTTP"
    SPEAKS_HTTPS = "speaks HTTPS"
    TIMEOUT = "timeout"
    NO_HEALTH_SERVICE = "no health service"
    UNKNOWN_SERVICE = "unknown service"
    NAMED_PORT = "named port"
    COMMAND_MISSING = "command missing"
    COMMAND_FAILED = "command failed"
    OTHER = "other"


# the kubelet's words: pkg/probe/{http,tcp,exec}, net/http and net's own errors below them; first match wins
_WORDS: tuple[tuple[Symptom, re.Pattern[str]], ...] = (
    # pkg/probe/grpc and google.golang.org/grpc
    (Symptom.NO_HEALTH_SERVICE, re.compile(r"does not implement the grpc health protocol", re.I)),
    (
        Symptom.UNKNOWN_SERVICE,
        re.compile(r"health rpc probe failed: .{0,60}code = NotFound|desc = unknown service", re.I),
    ),
    (Symptom.SERVER_ERROR, re.compile(r"service unhealthy \(responded with", re.I)),
    (Symptom.SPEAKS_HTTP, re.compile(r"frame header looked like an HTTP/1\.1 header", re.I)),
    (Symptom.SPEAKS_HTTP, re.compile(r"gave http response to https client|does not look like a tls handshake", re.I)),
    (Symptom.SPEAKS_HTTPS, re.compile(r'malformed http response "\\x15', re.I)),
    (Symptom.NAMED_PORT, re.compile(r"strconv\.Atoi: parsing|couldn't find port|invalid port", re.I)),
    (Symptom.NOT_FOUND, re.compile(r"statuscode: (?:404|405|410)")),
    (Symptom.NOT_ALLOWED, re.compile(r"statuscode: (?:401|403)")),
    (Symptom.BAD_REQUEST, re.compile(r"statuscode: 4\d\d")),
    (Symptom.SERVER_ERROR, re.compile(r"statuscode: 5\d\d")),
    (Symptom.REFUSED, re.compile(r"connection refused|connect: connection reset", re.I)),
    (Symptom.COMMAND_MISSING, re.compile(r"executable file not found|exec: .*no such file|: not found\b", re.I)),
    (Symptom.TIMEOUT, re.compile(r"deadline exceeded|timed? ?out|i/o timeout", re.I)),
)
_STRENGTH = {
    symptom: index
    for index, symptom in enumerate(
        (
            Symptom.OTHER,
            Symptom.COMMAND_FAILED,
            Symptom.REFUSED,
            Symptom.TIMEOUT,
            Symptom.SERVER_ERROR,
            Symptom.BAD_REQUEST,
            Symptom.NOT_ALLOWED,
            Symptom.NOT_FOUND,
            Symptom.UNKNOWN_SERVICE,
            Symptom.NO_HEALTH_SERVICE,
            Symptom.COMMAND_MISSING,
            Symptom.NAMED_PORT,
            Symptom.SPEAKS_HTTPS,
            Symptom.SPEAKS_HTTP,
        )
    )
}
"""An answer of the program says more than no answer, which every start and stop gives too."""


def symptom_of(message: str, handler: str) -> Symptom:
    """What a failed probe's message means."""
    for symptom, pattern in _WORDS:
        if pattern.search(message):
            return symptom
    return Symptom.COMMAND_FAILED if handler == "exec" else Symptom.OTHER


def failures_of(probe: Probe, events: list[Event]) -> list[Event]:
    """The `Unhealthy` events of a probe, among those of its container."""
    start = f"{probe.kind} probe "
    return [event for event in events if event.reason == "Unhealthy" and event.message.lower().startswith(start)]


def telling_failure(probe: Probe, events: list[Event]) -> tuple[Event, Symptom] | None:
    """The failure that says most; among equals the newest."""
    failures = [(event, symptom_of(event.message, probe.handler)) for event in failures_of(probe, events)]
    return max(enumerate(failures), key=lambda pair: (_STRENGTH[pair[1][1]], pair[0]))[1] if failures else None


_LISTENING = re.compile(
    r"(?:listen(?:ing|s)?|serving|served|running|started|bound|accepting connections|ready|启动|监听)[^\n]{0,80}?"
    r"(?:\bport(?:\(s\))?[ =:]{1,3}|端口[ =:：]{0,3}"
    r"|(?P<host>\d{1,3}(?:\.\d{1,3}){3}|\[[0-9a-fA-F:]*\]|\*|localhost|(?<=[\s\"'(=]))[:])"
    r"(?P<port>\d{2,5})(?![\d:.])",
    re.IGNORECASE,
)
_LOOPBACK = ("127.", "localhost", "::1", "[::1]")


@dataclass(frozen=True)
class Listening:
    """A log line in which the program says where it listens."""

    port: int
    line: str
    number: int
    loopback: bool


def listening_in(lines: list[str]) -> list[Listening]:
    """Where the program says that it listens, in the order of its log (the first 2,000 lines)."""
    found = []
    for index, line in enumerate(lines[:2000]):
        match = _LISTENING.search(line[:500])
        if match and 0 < int(match["port"]) < 65536:
            loopback = (match["host"] or "").startswith(_LOOPBACK)
            found.append(Listening(int(match["port"]), line.strip()[:400], index + 1, loopback))
    return found
