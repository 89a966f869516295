"""CloudEvents 1.0 over HTTP: structured, binary and batched content modes, read strictly, written in the first two.

Sources: the CloudEvents specification 1.0.2, its JSON event format and its HTTP protocol binding.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from urllib.parse import quote, unquote

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from errors import InvalidInput

STRUCTURED = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"
MAX_BATCH = 100
_IN_HEADERS = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) not in '"%')
"""What the HTTP binding does not percent-encode in a header's value (§3.1.3.2)."""
_EXTENSION = re.compile(r"[a-z0-9]{1,20}")


class CloudEvent(BaseModel):
    """One event. `data` is JSON, text or null; extensions that we do not know are dropped."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    specversion: str = Field(pattern=r"^1\.0$")
    id: str = Field(min_length=1, max_length=256)
    source: str = Field(min_length=1, max_length=1024)
    type: str = Field(min_length=1, max_length=256)
    time: datetime | None = None
    subject: str | None = Field(default=None, max_length=1024)
    datacontenttype: str | None = Field(default=None, max_length=256)
    data: Any = None

    def structured(self) -> bytes:
        """The body of a structured-mode request."""
        return self.model_dump_json(exclude_none=True).encode()

    def binary(self) -> tuple[dict[str, str], bytes]:
        """Headers and body of a binary-mode request. The data is JSON."""
        names = ("specversion", "id", "source", "type", "time", "subject")
        told = self.model_dump(mode="json", exclude_none=True)
        headers = {f"ce-{name}": quote(str(told[name]), safe=_IN_HEADERS) for name in names if name in told}
        return headers | {"content-type": "application/json"}, json.dumps(told.get("data")).encode()


def read_events(headers: Mapping[str, str], body: bytes) -> list[CloudEvent]:
    """The events of one HTTP request, in any content mode. `headers` have lower-case names.

    Raises InvalidInput, which says what is wrong and with which event of a batch.
    """
    kind = headers.get("content-type", "").split(";", 1)[0].strip().lower()
    if kind == BATCH:
        items = _json(body)
        if not isinstance(items, list):
            raise InvalidInput("a batch of CloudEvents is a JSON list")
        if len(items) > MAX_BATCH:
            raise InvalidInput(f"a batch holds at most {MAX_BATCH} events, not {len(items)}")
        return [_structured(item, f"event {number} of the batch: ") for number, item in enumerate(items, 1)]
    if kind == STRUCTURED:
        return [_structured(_json(body), "")]
    if "ce-specversion" in headers:
        return [_binary(headers, kind, body)]
    if kind.startswith("application/json"):  # as senders do that forget the content type
        found = _json(body)
        if isinstance(found, dict) and "specversion" in found:
            return [_structured(found, "")]
    raise InvalidInput(
        f"this is no CloudEvent: send content type {STRUCTURED} or {BATCH}, or the headers ce-specversion, ce-id, "
        "ce-source and ce-type"
    )


def _structured(item: object, where: str) -> CloudEvent:
    if not isinstance(item, dict):
        raise InvalidInput(f"{where}a CloudEvent is a JSON object")
    data = item.get("data")
    if "data_base64" in item:
        if data is not None:
            raise InvalidInput(f"{where}data and data_base64 exclude each other")
        data = _decoded(item["data_base64"], str(item.get("datacontenttype") or ""), where)
    return _event({**item, "data": data}, where)


def _binary(headers: Mapping[str, str], kind: str, body: bytes) -> CloudEvent:
    fields: dict[str, Any] = {
        name[3:]: unquote(value)
        for name, value in headers.items()
        if name.startswith("ce-") and _EXTENSION.fullmatch(name[3:])
    }
    data: Any = None
    if body:
        data = _json(body) if kind.endswith(("json", "+json")) else _text(body)
    return _event({**fields, "datacontenttype": kind or None, "data": data}, "")


def _event(fields: dict[str, Any], where: str) -> CloudEvent:
    try:
        return CloudEvent.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        raise InvalidInput(f"{where}attribute {name}: {first['msg']}") from None


def _decoded(value: object, kind: str, where: str) -> Any:
    try:
        data = base64.b64decode(str(value), validate=True)
    except (binascii.Error, ValueError):
        raise InvalidInput(f"{where}data_base64 is no base64") from None
    return _json(data) if "json" in kind else _text(data)


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise InvalidInput("the event's data is neither JSON nor text") from None


def _json(data: bytes) -> Any:
    try:
        return json.loads(data, parse_constant=_refused)
    except (ValueError, RecursionError):
        raise InvalidInput("the body is no JSON") from None


def _refused(text: str) -> float:
    raise ValueError(f"{text} is no JSON")
