"""Turn a reference to a core into local files that may be read."""

from __future__ import annotations

import asyncio
import re
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from errors import Forbidden, InputTooLarge, InvalidInput, NotFound
from incidents.models import CoreRef, Diagnosis
from settings import CoreSettings, StoreSettings
from tools.cores.fetch import fetch
from tools.cores.plain import Unpacked, plain_core
from tools.cores.sparse import Limits
from tools.cores.stored import SCHEME, StoredCore

_UPLOAD = re.compile(r"upl_[0-9A-Za-z_-]{8,64}")
_URL = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://")


@dataclass(frozen=True)
class LocalCore:
    """Readable local files; whatever was fetched or unpacked is removed when `open_core` ends."""

    core: Path
    executable: Path | None = None
    sysroot: Path | None = None
    debug_dir: Path | None = None
    unpacked: Unpacked | None = None
    """Of a core that came packed; `core` is what was in it."""
    programs: Path | None = None
    """A folder with the programs that the store keeps for the core, under numbers: build-ids tell them."""
    unseen: tuple[str, ...] = ()

    @property
    def executable_dirs(self) -> list[Path]:
        """Where executables that came with the core are."""
        packed = self.unpacked.executable_dirs if self.unpacked else []
        return [*packed, self.programs] if self.programs else packed

    def described(self, diagnosis: Diagnosis) -> Diagnosis:
        """`diagnosis`, which also says how the core came."""
        if self.unseen:
            diagnosis = diagnosis.model_copy(update={"unseen": [*diagnosis.unseen, *self.unseen]})
        return self.unpacked.described(diagnosis) if self.unpacked else diagnosis


@asynccontextmanager
async def open_core(
    ref: CoreRef,
    settings: CoreSettings,
    uploads: Path,
    *,
    store: StoreSettings | None = None,
    any_path: bool = False,
    programs_may_miss: bool = False,
) -> AsyncIterator[LocalCore]:
    """Local files for `ref`. `uploads` is the folder of uploaded files, named by their ids.

    A URL `store:KEY` is an object of our own `store`, and comes with the programs that were stored for it. Should the
    store go away between the two, that is StoreUnreachable, or with `programs_may_miss` a core without them.

    Paths are allowed only below `settings.roots` and the other configured folders, symbolic links resolved;
    `any_path` lifts that for a user of this machine's command line.

    Raises InvalidInput, NotFound, Forbidden, InputTooLarge, ToolFailed, ToolTimeout.
    """
    given = [value for value in (ref.path, ref.url, ref.upload) if value]
    if len(given) != 1:
        raise InvalidInput("name the core by exactly one of path, url and upload")
    roots = allowed_folders(settings)
    fetched = _Fetched(uploads)
    try:
        programs, unseen = None, []
        if ref.url is not None and ref.url.startswith(SCHEME):
            stored = await StoredCore.open(ref.url, store or StoreSettings())
            core, programs = [await asyncio.to_thread(fetched.new_file) for _ in range(2)]
            await stored.fetch(core, settings.max_bytes)
            unseen = await stored.programs(programs, may_miss=programs_may_miss)
            programs = programs if await asyncio.to_thread(programs.is_dir) else None
        else:
            core = await _file(given[0], ref.url is not None, settings, uploads, fetched, roots, any_path)
        executable = None
        if ref.executable:
            is_url = _URL.match(ref.executable) is not None
            executable = await _file(ref.executable, is_url, settings, uploads, fetched, roots, any_path)
        sysroot = await _folder(ref.sysroot, roots, any_path) if ref.sysroot else settings.sysroot
        debug_dir = await _folder(ref.debug_dir, roots, any_path) if ref.debug_dir else None
        async with plain_core(core, Limits(max_bytes=settings.max_bytes), uploads) as plain:
            packed = plain if plain.compression else None
            yield LocalCore(plain.core, executable, sysroot, debug_dir, packed, programs, tuple(unseen))
    finally:
        await asyncio.to_thread(fetched.remove)


class _Fetched:
    """A private folder for downloads, beside the uploads; made when first needed."""

    def __init__(self, parent: Path) -> None:
        self._parent = parent
        self._folder: Path | None = None
        self._count = 0

    def new_file(self) -> Path:
        if self._folder is None:
            self._parent.mkdir(parents=True, exist_ok=True)
            self._folder = Path(tempfile.mkdtemp(prefix="fetch-", dir=self._parent))
        self._count += 1
        return self._folder / str(self._count)

    def remove(self) -> None:
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)


def allowed_folders(settings: CoreSettings) -> list[Path]:
    """Where callers may name files: the service can read more than its callers may."""
    folders = [*settings.roots, *settings.executable_dirs, *settings.debug_dirs]
    return folders + [folder for folder in (settings.node_dir, settings.sysroot) if folder is not None]


async def _file(
    name: str,
    is_url: bool,
    settings: CoreSettings,
    uploads: Path,
    fetched: _Fetched,
    roots: list[Path],
    any_path: bool,
) -> Path:
    if is_url:
        target = await asyncio.to_thread(fetched.new_file)
        await fetch(name, target, settings)
        return target
    if name.startswith("upl_"):
        path = await asyncio.to_thread(_upload, name, uploads)
    else:
        path = await asyncio.to_thread(_checked, name, roots, any_path, Path.is_file, "file")
    if (await asyncio.to_thread(path.stat)).st_size > settings.max_bytes:
        raise InputTooLarge(f"the file is larger than core.max_bytes ({settings.max_bytes} bytes)")
    return path


async def _folder(name: str, roots: list[Path], any_path: bool) -> Path:
    return await asyncio.to_thread(_checked, name, roots, any_path, Path.is_dir, "folder")


def _upload(name: str, uploads: Path) -> Path:
    if not _UPLOAD.fullmatch(name):
        raise InvalidInput("an upload id has the form upl_… as POST /api/v1/uploads returned it")
    path = uploads / name
    if path.is_symlink() or not path.is_file():
        raise NotFound(f"there is no upload {name}; it may have expired")
    return path


def _checked(name: str, roots: list[Path], any_path: bool, fits: Callable[[Path], bool], what: str) -> Path:
    """`name` as a real path inside one of `roots`. Outside them nothing is said about what exists."""
    path = Path(name)
    try:
        real = path.resolve() if path.is_absolute() or any_path else None
        allowed = real is not None and (any_path or any(real.is_relative_to(root.resolve()) for root in roots))
        if real is None or not allowed:
            raise Forbidden(
                "this path is not below a folder that cores may be named in (core.roots)"
                if roots
                else "no folder is configured that cores may be named in (core.roots)"
            )
        if not fits(real):
            raise NotFound(f"there is no such {what}: {str(path)[:300]!a}")
    except (ValueError, RuntimeError, OSError):  # a zero byte, a loop of links, a name that is too long
        raise InvalidInput(f"this is not a possible path of a {what}") from None
    return real
