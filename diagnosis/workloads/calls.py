"""Failed connections as the logs tell of them, whoever wrote the log: what a broken Service is known by."""

from __future__ import annotations

import re
from dataclasses import dataclass

from diagnosis.workloads.fields import Object, condition
from diagnosis.workloads.hosts import Failure, failure_in
from diagnosis.workloads.logs import Log, LogLine
from diagnosis.workloads.snapshot import Snapshot
from incidents.models import Evidence, ObjectRef

_LAST_LINES = 60
_LAST_LINES_OF_READY = 20  # a program that serves got over what stands further up
_MAX_LOGS = 120

_TIMED_OUT = re.compile(r"timed? ?out|ETIMEDOUT|deadline exceeded|unreachable|no route to host|EHOSTUNREACH", re.I)
_TALKS_TLS = re.compile(
    r"malformed HTTP response \"\\x15|sent an HTTP request to an HTTPS server|plain HTTP request was sent to HTTPS"
    r"|Received HTTP/0\.9 when not allowed",
    re.IGNORECASE,
)
_TALKS_PLAIN = re.compile(
    r"gave HTTP response to HTTPS client|wrong version number|does not look like a TLS handshake"
    r"|packet length too long|unrecognized SSL message|EPROTO",
    re.IGNORECASE,
)
_URL = re.compile(
    r"(?P<scheme>https?)://(?:[^\s/@]*@)?(?P<host>[A-Za-z0-9](?:[\w.-]{0,200}\w)?)(?::(?P<port>\d{1,5}))?"
)


@dataclass(frozen=True)
class Call:
    """One failed connection: in whose log, where to, and the line that tells."""

    pod: Object
    workload: ObjectRef
    log: Log
    line: LogLine
    failure: Failure

    @property
    def namespace(self) -> str:
        return self.log.namespace

    @property
    def timed_out(self) -> bool:
        """Nothing answered, which a filter on the way does too; a refusal is an answer."""
        return self.failure.how != "unresolved" and bool(_TIMED_OUT.search(self.line.text))

    def evidence(self, snapshot: Snapshot) -> Evidence:
        return self.log.evidence(self.line, snapshot.observed_at)


def calls_in(snapshot: Snapshot) -> list[Call]:
    """The last failed connection of each log, by pod; of many logs, those of pods that are not ready."""
    keys = snapshot.log_keys()
    crowded = len(keys) > _MAX_LOGS
    found = []
    for namespace, name, container, previous in keys:
        pod = snapshot.get("Pod", namespace, name)
        ready = condition(pod, "Ready").get("status") == "True"
        if pod is None or (crowded and ready):
            continue
        log = Log.of(namespace, name, container, previous, snapshot.log(namespace, name, container, previous) or "")
        told = last_failure(log, _LAST_LINES_OF_READY if ready else _LAST_LINES)
        if told is not None:
            found.append(Call(pod, snapshot.workload_of(pod), log, *told))
    return found


def last_failure(log: Log, lines: int = _LAST_LINES) -> tuple[LogLine, Failure] | None:
    """The last failed connection near the end: one that the program got over stands further up."""
    filled = [(index, line) for index, line in enumerate(log.lines) if line.strip()][-lines:]
    for index, line in reversed(filled):
        failure = failure_in(line) or _wrong_tongue(line[:600])
        if failure is not None:
            return LogLine(line.strip()[:400], index + 1, 2), failure
    return None


def _wrong_tongue(line: str) -> Failure | None:
    """A connection that was made and not understood: plain HTTP to TLS (`tls`), or TLS to what has none (`plain`)."""
    how = "tls" if _TALKS_TLS.search(line) else "plain" if _TALKS_PLAIN.search(line) else ""
    match = _URL.search(line) if how else None
    if match is None:
        return None
    port = int(match["port"]) if match["port"] else (443 if match["scheme"] == "https" else 80)
    return Failure(match["host"].lower(), port if 0 < port < 65536 else None, how)
