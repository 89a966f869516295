"""Where a log line says that a program could not connect: host, port, and how it failed."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

_HOST = r"(?P<host>\[[0-9a-fA-F:]+\]|[A-Za-z0-9](?:[\w.-]{0,100}[A-Za-z0-9])?)"
_PORT = r"(?P<port>\d{1,5})"

_UNRESOLVED = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"lookup {_HOST}(?: on \S+)?: (?:no such host|server misbehaving|.*i/o timeout|temporary failure)",  # Go
        rf"getaddrinfo (?:ENOTFOUND|EAI_AGAIN) {_HOST}(?::{_PORT})?",  # Node
        rf"bad address '{_HOST}(?::{_PORT})?'",  # busybox
        rf"could not (?:resolve|translate) host(?: ?name)?:? \"?{_HOST}\"?",  # curl, libpq
        rf"UnknownHostException:? {_HOST}",  # Java
        rf"unknown (?:\w+ )?(?:server )?host:? '?{_HOST}'?",  # MySQL, Rust, Redis
        rf"(?:failed|unable) to resolve(?: host(?:name)?| address| name)?:? ['\"]?{_HOST}['\"]?",
        rf"host='{_HOST}', port={_PORT}.*(?:name or service not known|name resolution|nodename nor servname)",  # Python
        rf"{_HOST}:{_PORT}\b.*(?:name or service not known|name resolution|no such host|nodename nor servname)",
        rf"(?:name or service not known|no such host|name resolution).*?\b{_HOST}:{_PORT}\b",
        rf"\b{_HOST}: (?:name or service not known|temporary failure in name resolution|name does not resolve)",
    )
)
_UNRESOLVED_MARKS = (
    "lookup", "getaddrinfo", "bad address", "could not", "unknown", "resol", "not known", "no such host", "servname",
)  # fmt: skip
"""Without one of these no pattern above matches: most lines are done after this look."""
_REFUSED_WORDS = re.compile(
    r"connection refused|ECONNREFUSED|connect(?:ion)? timed out|i/o timeout|ETIMEDOUT|no route to host|EHOSTUNREACH"
    r"|network is unreachable|connection reset|can'?t connect|cannot connect|could not connect|failed to connect"
    r"|unable to connect|no servers available|连接被拒绝|无法连接",
    re.IGNORECASE,
)
_PLACES = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"host='{_HOST}', port={_PORT}",  # Python requests, urllib3
        rf"server (?:running )?(?:on host|at) \"{_HOST}\"(?: \([^)]*\))?(?:,| and accepting TCP/IP connections on)?"
        rf" port {_PORT}",  # libpq
        rf"\b(?:dial tcp|connect(?:ing|ion)?(?: to)?|ECONNREFUSED|ETIMEDOUT|EHOSTUNREACH) {_HOST}:{_PORT}\b",
        rf"[a-z][a-z0-9+.-]*://(?:[^\s/@]*@)?{_HOST}(?::{_PORT})?",
        rf"['\"(@]{_HOST}:{_PORT}\b",
        rf"\bon ['\"]{_HOST}(?::{_PORT})?['\"]",
        rf"(?<![\w.:/-]){_HOST}:{_PORT}\b",
        rf"{_HOST}/[0-9.]+:{_PORT}\b",  # Java's InetSocketAddress
        rf"(?:remote )?host \(?{_HOST}\)?",  # busybox
    )
)
_SOURCE_FILE = re.compile(r"\.(?:go|py|js|ts|java|rb|rs|c|cc|cpp|h|php|kt|cs|ex)$", re.IGNORECASE)


@dataclass(frozen=True)
class Failure:
    """A failed connection. `how` is `unresolved` or `refused` (refused, timed out, unreachable)."""

    host: str
    port: int | None
    how: str

    @property
    def local(self) -> bool:
        """Whether the host is the pod itself."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host.strip("[]")).is_loopback
        except ValueError:
            return False


def failure_in(line: str) -> Failure | None:
    """The failed connection that a log line tells of, or None. Only the first 600 characters are looked at."""
    line = line[:600]
    folded = line.casefold()
    for pattern in _UNRESOLVED if any(mark in folded for mark in _UNRESOLVED_MARKS) else ():
        if match := pattern.search(line):
            return _failure(match, "unresolved")
    if not _REFUSED_WORDS.search(line):
        return None
    for pattern in _PLACES:
        for match in pattern.finditer(line):
            if _plausible(match["host"]):
                return _failure(match, "refused")
    return None


def _failure(match: re.Match[str], how: str) -> Failure:
    port = match.groupdict().get("port")
    value = int(port) if port and 0 < int(port) < 65536 else None
    return Failure(match["host"].rstrip(".").lower(), value, how)


def _plausible(host: str) -> bool:
    """Not a source file with a line number, a time of day, or an English word before a colon."""
    return not (_SOURCE_FILE.search(host) or host.isdecimal() or host.lower() in _WORDS)


_WORDS = {"line", "error", "port", "at", "code", "errno", "status", "attempt", "retry", "thread", "pid", "unreachable"}
