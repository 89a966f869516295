"""GET and POST of JSON from a monitoring server: bounded in time and size, without redirects and proxies."""

from __future__ import annotations

import asyncio
import json
import ssl
from pathlib import Path
from typing import Any

import httpx

from diagnosis.redaction import redact
from errors import InvalidInput, ToolFailed, ToolMissing, ToolTimeout
from tools.trust import trusted

_MAX_TOKEN = 64 * 1024
_ANSWERS_WITH_JSON = (400, 422, 503)
"""Statuses with which Prometheus says in JSON what is wrong (https://prometheus.io/docs/prometheus/latest/querying/api/)."""


class MonitoringServer:
    """One server below `url`. `name` is how errors call it. Close it with `close()`.

    Raises InvalidInput for a certificate file that cannot be used.
    """

    def __init__(
        self,
        name: str,
        url: str,
        *,
        timeout: float,
        max_bytes: int,
        bearer_token_file: Path | None = None,
        ca: Path | None = None,
    ) -> None:
        self._name, self._url, self._token_file = name, url.rstrip("/"), bearer_token_file
        self._seconds, self._max_bytes = timeout, max_bytes
        verify = trusted()
        if ca is not None:
            try:
                verify = ssl.create_default_context(cafile=str(ca))
            except (OSError, ssl.SSLError) as error:
                raise InvalidInput(f"the certificates of {name} in {ca} cannot be used: {error}") from None
        self._client = httpx.AsyncClient(timeout=timeout, verify=verify, follow_redirects=False, trust_env=False)

    async def close(self) -> None:
        await self._client.aclose()

    async def ask(self, method: str, path: str, fields: list[tuple[str, str]]) -> Any:
        """The JSON that the server answers; of an error status too, where it may be one that explains itself.

        Raises ToolTimeout, ToolMissing (a token file that is not there) and ToolFailed, all naming the server and
        never its answer's text beyond what it says itself.
        """
        headers = {"Accept": "application/json", **await self._authorization()}
        sent: dict[str, Any] = {"params": fields} if method == "GET" else {"data": dict(fields)}
        try:
            async with (
                asyncio.timeout(self._seconds),
                self._client.stream(method, self._url + path, headers=headers, **sent) as response,
            ):
                body = await self._body(response)
        except (TimeoutError, httpx.TimeoutException):
            raise ToolTimeout(f"{self._name} did not answer within {self._seconds:g} s") from None
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            raise ToolFailed(f"{self._name} could not be asked: {type(error).__name__}") from None
        status = response.status_code
        if status in (401, 403):
            raise ToolFailed(f"{self._name} refused the credentials ({status})")
        if status != 200 and status not in _ANSWERS_WITH_JSON:
            raise ToolFailed(f"{self._name} answered {status}")
        try:
            return await asyncio.to_thread(json.loads, body)  # megabytes take seconds
        except (ValueError, RecursionError):
            said = f" ({status})" if status != 200 else ""
            raise ToolFailed(f"{self._name} did not answer with JSON{said}: is its URL right?") from None

    async def _body(self, response: httpx.Response) -> bytes:
        parts, size = [], 0
        async for part in response.aiter_bytes():
            size += len(part)
            if size > self._max_bytes:
                raise ToolFailed(f"{self._name} answered with more than {self._max_bytes} bytes")
            parts.append(part)
        return b"".join(parts)

    async def _authorization(self) -> dict[str, str]:
        """Read at each request: tokens that are mounted into pods are renewed."""
        if self._token_file is None:
            return {}
        try:
            with_end = await asyncio.to_thread(_read_token, self._token_file)
        except OSError as error:
            raise ToolMissing(f"the token of {self._name} could not be read: {error.strerror}") from None
        token = with_end.strip()
        if not token or not token.isascii() or not token.isprintable():
            raise ToolMissing(f"the token file of {self._name} holds no token")
        return {"Authorization": f"Bearer {token}"}


def _read_token(file: Path) -> str:
    with file.open(encoding="utf-8", errors="replace") as opened:
        return opened.read(_MAX_TOKEN)


def said_by(document: Any) -> str:
    """What an error answer says, cut and without secrets."""
    said = document.get("error") if isinstance(document, dict) else None
    return redact(said[:300]) if isinstance(said, str) else "no reason given"
