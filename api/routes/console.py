"""The console page: static files from the package, nothing from elsewhere, nothing inline."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter
from starlette.responses import FileResponse, Response

from errors import NotFound

router = APIRouter(include_in_schema=False)
FOLDER = Path(__file__).parent.parent / "console"
TYPES = {
    "index.html": "text/html",
    "style.css": "text/css",
    "icon.svg": "image/svg+xml",
    "main.js": "text/javascript",
    "api.js": "text/javascript",
    "chat.js": "text/javascript",
    "incident.js": "text/javascript",
    "metrics.js": "text/javascript",
    "view.js": "text/javascript",
}
"""The whole list: a name that is not here is not looked for on the disk."""
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
)


@router.get("/")
async def page() -> Response:
    """The console."""
    return _file("index.html")


@router.get("/console/{name}")
async def console_file(name: str) -> Response:
    """A script or style of the console."""
    if name not in TYPES or name == "index.html":
        raise NotFound(f"the console has no file {name[:80]!r}")
    return _file(name)


def _file(name: str) -> Response:
    headers = {"Content-Security-Policy": POLICY, "Cache-Control": "no-cache"}
    return FileResponse(FOLDER / name, media_type=TYPES[name], headers=headers)
