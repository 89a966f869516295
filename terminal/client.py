"""The service as the command line reaches it: `PARAMEDIC_URL` and `PARAMEDIC_API_KEY`, over HTTP."""

from __future__ import annotations

import os
from typing import Any

from errors import InvalidInput, ParamedicError, ToolFailed

DEFAULT_URL = "http://127.0.0.1:8080"


class ServiceError(ParamedicError):
    """The service refused; the message is its own `detail`."""

    exit_code = 2


def call(method: str, path: str, body: dict[str, Any] | None = None, **query: str | int | None) -> Any:
    """Send one request and return the JSON answer. Raises ServiceError with the problem's detail, or ToolFailed."""
    import httpx  # half of what `--help` would cost

    url = os.environ.get("PARAMEDIC_URL", DEFAULT_URL).rstrip("/")
    key = os.environ.get("PARAMEDIC_API_KEY")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    params = {name: value for name, value in query.items() if value is not None}
    try:
        answer = httpx.request(method, f"{url}{path}", json=body, params=params, headers=headers, timeout=70)
    except httpx.InvalidURL as error:
        raise InvalidInput(f"PARAMEDIC_URL is not a URL: {error}") from None
    except httpx.HTTPError as error:
        raise ToolFailed(f"no service answers at {url} ({error}); start one with `paramedic serve`") from None
    try:
        document = answer.json()
    except ValueError:
        raise ToolFailed(f"{url}{path} did not answer with JSON; is it a Paramedic service?") from None
    if answer.status_code >= 400:
        raise ServiceError(f"{document.get('title', answer.status_code)}: {document.get('detail', '')}")
    return document
