"""Errors as problem details (RFC 9457): one shape for every refusal, whatever raised it."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from errors import InvalidInput, ParamedicError

MEDIA_TYPE = "application/problem+json"
_log = structlog.get_logger(__name__)


class FieldProblem(BaseModel):
    """One field of the request that cannot be used."""

    field: str = Field(examples=["core.path"])
    message: str


class Problem(BaseModel):
    """RFC 9457 problem details."""

    type: str = Field(description="Names the kind of problem; constant", examples=["urn:paramedic:problem:not-found"])
    title: str
    status: int
    detail: str = Field(description="What happened and what to do")
    instance: str = Field(description="The path that was asked for")
    errors: list[FieldProblem] | None = Field(default=None, description="Of a request with wrong fields")


class UnusableField(InvalidInput):
    """A field is well-formed but what it names cannot be used."""

    title = "Unusable field"
    status = 422

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field
        self.message = message


RESPONSES: dict[int | str, dict[str, Any]] = {
    "default": {
        "description": "A problem",
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
}
"""What every route documents; `api/openapi.py` adds the schema."""


def problem(
    status: int,
    title: str,
    detail: str,
    instance: str,
    *,
    errors: list[FieldProblem] | None = None,
    headers: dict[str, str] | None = None,
) -> Response:
    """Build the answer. `title` is constant for a kind of problem, `detail` tells this one."""
    slug = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")
    body = Problem(
        type=f"urn:paramedic:problem:{slug}",
        title=title,
        status=status,
        detail=detail,
        instance=instance,
        errors=errors,
    )
    return JSONResponse(
        body.model_dump(exclude_none=True), status_code=status, media_type=MEDIA_TYPE, headers=headers or {}
    )


def problem_of(error: ParamedicError, instance: str) -> Response:
    """The answer to an error raised on purpose."""
    headers = {"WWW-Authenticate": 'Bearer realm="paramedic"'} if error.status == 401 else None
    fields = [FieldProblem(field=error.field, message=error.message)] if isinstance(error, UnusableField) else None
    return problem(error.status, error.title, str(error), instance, errors=fields, headers=headers)


def install(app: FastAPI) -> None:
    """Make every error of `app` a problem."""

    @app.exception_handler(ParamedicError)
    async def on_purpose(request: Request, error: ParamedicError) -> Response:
        if error.status >= 500:
            _log.warning("request failed", path=request.url.path, error=str(error))
        return problem_of(error, request.url.path)

    @app.exception_handler(HTTPException)
    async def framework(request: Request, error: HTTPException) -> Response:
        phrase = HTTPStatus(error.status_code).phrase
        detail = error.detail if error.detail != phrase else _explain(error.status_code, request)
        return problem(error.status_code, phrase, detail, request.url.path, headers=dict(error.headers or {}))

    @app.exception_handler(RequestValidationError)
    async def validation(request: Request, error: RequestValidationError) -> Response:
        return _validation(request, error)

    @app.exception_handler(Exception)
    async def unexpected(request: Request, error: Exception) -> Response:
        _log.error("unexpected error", path=request.url.path, exc_info=error)
        return problem(500, "Internal error", "an unexpected error; the log of the service has it", request.url.path)


def _explain(status: int, request: Request) -> str:
    if status == 404:
        return f"there is nothing at {request.url.path[:200]}"
    if status == 405:
        return f"{request.method} is not offered here"
    return HTTPStatus(status).phrase


def _validation(request: Request, error: RequestValidationError) -> Response:
    path = request.url.path
    items = error.errors()
    if any(item["type"] == "json_invalid" for item in items):
        item = items[0]
        where = item["loc"][-1] if item.get("loc") else 0
        reason = str((item.get("ctx") or {}).get("error", "it does not parse"))
        return problem(400, "Malformed JSON", f"the body is not JSON: {reason} at character {where}", path)
    if any(item["loc"] == ("body",) for item in items) and not _is_json(request):
        return problem(415, "Unsupported media type", "send the body as application/json", path)
    # the offending input is not repeated: it may be a secret, huge, or not text
    fields = [FieldProblem(field=_field(item), message=_message(item)) for item in items[:20]]
    detail = "; ".join(f"{item.field}: {item.message}" for item in fields)
    return problem(422, "Invalid request", detail[:2000], path, errors=fields)


def _is_json(request: Request) -> bool:
    essence = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    return essence == "application/json" or essence.endswith("+json")


def _field(item: dict[str, Any]) -> str:
    location = item["loc"]
    if item["type"] == "field_rule":
        location = (*location, item["ctx"]["field"])
    parts = location[1:] if location and location[0] in ("body", "query", "path", "header") else location
    name = ".".join(str(part) for part in parts) or "body"
    return name.encode("utf-8", "backslashreplace").decode()[:200]


def _message(item: dict[str, Any]) -> str:
    if item["type"] == "extra_forbidden":
        return "unknown field; see /openapi.json for what is accepted"
    if item["type"] == "missing":
        return "required"
    return str(item["msg"]).removeprefix("Value error, ")[:300]
