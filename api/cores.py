"""Cores that callers name: which files and addresses may be named at all, checked before an incident begins."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pydantic import Field

from api.auth import Caller
from api.fields import Body, Line
from api.problems import UnusableField
from api.uploads import UploadStore
from incidents.models import CoreRef, ObjectRef
from tools.cores.opening import allowed_folders

if TYPE_CHECKING:
    from graph.services import Services


class CoreBody(Body):
    """Where the core and its executable are: exactly one of `path`, `url`, `upload` for the core."""

    path: Line | None = Field(default=None, description="A file on the service's machine, under core.roots")
    url: Line | None = Field(default=None, description="Of an allowed scheme and host (core.url_hosts)")
    upload: Line | None = Field(default=None, description="An id from `POST /api/v1/uploads`")
    executable: Line | None = Field(default=None, description="A path, an upload id or an allowed URL")
    sysroot: Line | None = None
    debug_dir: Line | None = None


async def checked_core(body: CoreBody, services: Services, caller: Caller) -> CoreRef:
    """The core reference, once every file it names may be named by this caller.

    Raises UnusableField. Paths must lie, links resolved, in the configured folders: the service may read more than
    its callers may.
    """
    if sum(value is not None for value in (body.path, body.url, body.upload)) != 1:
        raise UnusableField("core", "give exactly one of path, url and upload")
    folders = allowed_folders(services.settings.core)
    uploads = UploadStore(services.database, services.uploads)
    for field in ("path", "executable", "sysroot", "debug_dir", "url", "upload"):
        value: str | None = getattr(body, field)
        if value is None:
            continue
        name = f"core.{field}"
        if field == "upload" or (field == "executable" and value.startswith("upl_")):
            if not await uploads.owned(value, caller.identity):
                raise UnusableField(name, f"you have no upload {value[:80]!r}; POST it to /api/v1/uploads first")
        elif field == "url" or (field == "executable" and "://" in value):
            _check_url(name, value, services)
        else:
            await asyncio.to_thread(_check_path, name, value, folders)
    return CoreRef(**body.model_dump())


def _check_url(name: str, value: str, services: Services) -> None:
    """A first look, so that the caller hears it at once; the fetcher checks again, also after redirects."""
    settings = services.settings.core
    try:
        parts = urlsplit(value)
        host = parts.hostname or ""
        port = parts.port
    except ValueError:
        raise UnusableField(name, "this is not a URL") from None
    if parts.scheme not in settings.url_schemes:
        raise UnusableField(name, f"only {', '.join(settings.url_schemes)} URLs are fetched")
    if host not in settings.url_hosts and f"{host}:{port}" not in settings.url_hosts:
        raise UnusableField(name, f"the host {host[:80]!r} is not one that cores may be fetched from (core.url_hosts)")


def _check_path(name: str, value: str, folders: Sequence[Path]) -> None:
    path = Path(value)
    if not path.is_absolute():
        raise UnusableField(name, "give an absolute path")
    try:
        real = path.resolve()
        inside = any(real.is_relative_to(root.resolve()) for root in folders)
        exists = inside and real.exists()
    except (OSError, RuntimeError, ValueError):
        raise UnusableField(name, "this path cannot be followed") from None
    # what lies outside is not confirmed to exist
    if not inside:
        raise UnusableField(
            name, "the path is outside the folders that callers may name (core.roots); upload the file instead"
        )
    if not exists:
        raise UnusableField(name, "there is no such file")


def program(core: CoreRef) -> ObjectRef:
    """The target of a core without a workload: the program, named after the executable's or the core's file."""
    names = [core.executable, core.path, urlsplit(core.url).path if core.url else None, core.upload]
    known = [name.rstrip("/").rpartition("/")[2] for name in names if name and not name.startswith("upl_")]
    return ObjectRef(kind="Process", name=(known or ["core"])[0] or "core")
