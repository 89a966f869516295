"""Who is calling: API keys with scopes, or, with no keys configured, programs on this machine only.

The check runs before a body is read and before routing. Every path needs a caller unless it is listed in `OPEN`, so a
new route is closed until someone decides otherwise.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from api.problems import problem_of
from errors import Forbidden, ParamedicError, Unauthenticated
from settings import ApiKey
from settings import Scope as Permission

ALL: frozenset[Permission] = frozenset({"read", "autofix", "approve"})
OPEN = frozenset({"/", "/livez", "/readyz", "/openapi.json", "/api/v1/feishu/callback"})
"""Paths without a caller: the page's shell, probes, the API's description, and Feishu's signed callback."""
OPEN_FOLDERS = ("/console/",)
_FORWARDED = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via")


@dataclass(frozen=True)
class Caller:
    """Identity as incidents, votes and the audit log carry it: `local` or `api:<key name>`."""

    identity: str
    scopes: frozenset[Permission]


class Authentication:
    """ASGI middleware that finds the caller, or answers 401 or 403."""

    def __init__(self, app: ASGIApp, keys: Sequence[ApiKey]) -> None:
        self.app = app
        self._keys = [(key, key.sha256.encode()) for key in keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] not in OPEN and not scope["path"].startswith(OPEN_FOLDERS):
            try:
                headers = Headers(scope=scope)
                caller = self._by_key(headers) if self._keys else _local(headers, scope)
            except ParamedicError as error:
                await problem_of(error, scope["path"])(scope, receive, send)
                return
            scope.setdefault("state", {})["caller"] = caller
        await self.app(scope, receive, send)

    def _by_key(self, headers: Headers) -> Caller:
        authorization = headers.get("authorization")
        if authorization is not None:
            scheme, _, presented = authorization.partition(" ")
            if scheme.lower() != "bearer":
                raise Unauthenticated("send the API key as `Authorization: Bearer KEY` or `X-API-Key: KEY`")
        else:
            presented = headers.get("x-api-key", "")
        if not presented.strip():
            raise Unauthenticated("an API key is needed: `Authorization: Bearer KEY` or `X-API-Key: KEY`")
        # headers arrive as latin-1: this gives back the bytes that were sent
        digest = hashlib.sha256(presented.strip().encode("latin-1")).hexdigest().encode()
        found: ApiKey | None = None
        for key, expected in self._keys:  # no early exit: the time must not tell which key was nearly right
            if hmac.compare_digest(digest, expected):
                found = key
        if found is None:
            raise Unauthenticated("this API key is not known")
        return Caller(f"api:{found.name}", frozenset(found.scopes))


def _local(headers: Headers, scope: Scope) -> Caller:
    """A program on this machine. A browser page of another origin, or a proxy in between, is not."""
    client = scope.get("client")
    if client is None or not _is_loopback(str(client[0])):
        raise Forbidden("no API keys are configured, so only callers on this machine are answered; set api.keys")
    if any(name in headers for name in _FORWARDED):
        raise Forbidden("no API keys are configured, so requests through a proxy are refused; set api.keys")
    # a page that re-binds its own name to 127.0.0.1 still sends its own name here
    host = headers.get("host", "")
    if not _is_loopback(_host_name(host)):
        raise Forbidden("no API keys are configured, so the Host header must name this machine (localhost, 127.0.0.1)")
    origin = headers.get("origin")
    if origin is not None and origin != f"{scope.get('scheme', 'http')}://{host}":
        raise Forbidden("no API keys are configured, so requests from pages of another origin are refused")
    if headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
        raise Forbidden("no API keys are configured, so requests from pages of another site are refused")
    return Caller("local", ALL)


def _host_name(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def _is_loopback(name: str) -> bool:
    if name.lower() == "localhost":
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)


def needs(permission: Permission) -> Callable[[Request], Awaitable[Caller]]:
    """A dependency that gives the caller when it has `permission`, else raises Forbidden."""

    async def check(request: Request) -> Caller:
        caller: Caller | None = getattr(request.state, "caller", None)
        if caller is None:  # a route on an open path must not ask for a caller
            raise Unauthenticated("this request carries no identity")
        if permission not in caller.scopes:
            raise Forbidden(f"{caller.identity} lacks the scope `{permission}`")
        return caller

    return check


Reader = Annotated[Caller, Depends(needs("read"))]
Fixer = Annotated[Caller, Depends(needs("autofix"))]
Approver = Annotated[Caller, Depends(needs("approve"))]
