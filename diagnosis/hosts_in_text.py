"""Hosts and ports in a text: URLs and `host:port` pairs, and what may be kept of a configuration value: these alone."""

from __future__ import annotations

import re
from collections.abc import Iterator

_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_NAME = rf"{_LABEL}(?:\.{_LABEL}){{0,8}}\.?"
_URL = re.compile(
    rf"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]{{0,30}})://(?:[^\s/@]{{0,400}}@)?(?P<host>{_NAME})(?::(?P<port>\d{{1,5}}))?(?![\w:.-])"
)
_PAIR = re.compile(rf"(?:^|[=,;@(\s])(?P<host>{_NAME}):(?P<port>\d{{2,5}})(?=$|[/,;)?\s])")
BARE = re.compile(rf"^(?P<host>{_NAME})$")
HOST_NAMES = re.compile(r"(?:^|[_.-])(?:HOST|HOSTNAME|ADDR|ADDRESS|SERVER|ENDPOINT)$", re.IGNORECASE)
_PLACE = re.compile(
    r"HOST|ADDR|SERVER|ENDPOINT|UR[IL]|BROKER|BOOTSTRAP|UPSTREAM|BACKEND|SERVICE|TARGET|PROXY|NODES$", re.IGNORECASE
)
_DEFAULT_PORTS = {"http": 80, "https": 443}
_READ = 64 * 1024
_KEPT = 40


def hosts_in(value: str) -> Iterator[tuple[str, str, int | None, bool]]:
    """(scheme or "", host, port, whether the text itself has the port); pairs only where there is no URL."""
    urls = list(_URL.finditer(value))
    for match in urls:
        scheme = match["scheme"].lower().split(":")[-1]
        yield (
            scheme,
            match["host"].rstrip("."),
            port_of(match["port"]) or _DEFAULT_PORTS.get(scheme),
            bool(match["port"]),
        )
    if urls:
        return
    for match in _PAIR.finditer(value):
        if not match["host"].replace(".", "").isdecimal():
            yield "", match["host"].rstrip("."), port_of(match["port"]), True


def port_of(value: str | None) -> int | None:
    return int(value) if value and value.isdecimal() and len(value) < 6 and 0 < int(value) < 65536 else None


def only_hosts(key: str, value: str) -> str:
    """What is kept of a configuration value: schemes, hosts and ports, without users, passwords, paths and queries.

    A pair or a bare name is only taken for a host where the key says that it is one: `user:12345` is none. Applying it
    twice changes nothing more.
    """
    text = value[:_READ].strip()
    kept = [
        f"{match['scheme']}://{match['host']}{':' + match['port'] if match['port'] else ''}"
        for match in _URL.finditer(text)
    ]
    if not kept and "\n" not in text and _PLACE.search(key):
        kept = [f"{match['host']}:{match['port']}" for match in _PAIR.finditer(text)]
        if not kept and HOST_NAMES.search(key) and BARE.match(text):
            kept = [text]
    return " ".join(list(dict.fromkeys(kept))[:_KEPT])
