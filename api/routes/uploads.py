"""Uploads: cores and executables, as the raw body of a request."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Request
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from api.auth import Fixer
from api.dependencies import services_of
from api.problems import RESPONSES
from api.uploads import UploadStore
from errors import InvalidInput

router = APIRouter(prefix="/api/v1/uploads", tags=["uploads"], responses=RESPONSES)


class UploadAnswer(BaseModel):
    """Name the file as `core.upload` or `core.executable` in `POST /api/v1/autofix`."""

    id: str = Field(examples=["upl_0123456789abcdef0123456789abcdef"])
    sha256: str
    size: int


@router.post(
    "",
    status_code=201,
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
        }
    },
)
async def upload(
    request: Request, caller: Fixer, content_type: Annotated[str | None, Header(include_in_schema=False)] = None
) -> UploadAnswer:
    """Store a core or an executable. The body is the file itself; an upload that does not finish leaves nothing."""
    if (content_type or "").partition(";")[0].strip().lower() != "application/octet-stream":
        raise HTTPException(415, "send the file itself as application/octet-stream, not as a form")
    services = services_of(request)
    try:
        stored = await UploadStore(services.database, services.uploads).receive(request.stream(), owner=caller.identity)
    except ClientDisconnect:
        raise InvalidInput("the connection was closed before the whole file had come; nothing was kept") from None
    return UploadAnswer(id=stored.id, sha256=stored.sha256, size=stored.size)
