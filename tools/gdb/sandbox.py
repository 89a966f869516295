"""How a debugger is started: with the verified files laid out for it, under process limits.

gdb reads files that may be hostile, and its authors say that it must then be contained (gdb/SECURITY.txt). The worker
that starts it is contained already (worker.py), and lays the files out as symbolic links in a private folder: the
core, the executable, the verified libraries under one private sysroot, their verified debug files. Only where the
worker may make no namespaces and a privileged bubblewrap is installed, or is demanded, that contains gdb instead: the
same files and the system's own libraries; no home, no network, no environment.
"""

from __future__ import annotations

import asyncio
import functools
import os
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from errors import ToolFailed, ToolMissing
from settings import GdbSettings
from tools.gdb.confine import RESERVED_BYTES

_ROOT = Path("/case")
_PROBE_SECONDS = 10.0
_FILE_BYTES = 16 << 20
_ENVIRONMENT = {
    "PATH": "/usr/bin:/bin",
    "HOME": "/nonexistent",
    "LC_ALL": "C.UTF-8",
    "TERM": "dumb",
    "PYTHONNOUSERSITE": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
}
_SYSTEM = ("/usr/lib", "/usr/lib32", "/usr/lib64", "/usr/libexec", "/usr/bin", "/usr/share/gdb", "/usr/share/gcc")
_LAUNCHER = (
    "import os,resource,sys\n"
    "for item in sys.argv[1].split(','):\n"
    "    name,value=item.split('=');value=int(value)\n"
    "    resource.setrlimit(getattr(resource,name),(value,value))\n"
    "os.execvp(sys.argv[2],sys.argv[2:])\n"
)


@dataclass(frozen=True)
class Case:
    """What gdb may read. `files` maps paths of the crashed process to verified local files.

    `debug_files` maps paths inside the one debug directory that gdb is given to verified local files.
    """

    core: Path
    executable: Path | None = None
    files: Mapping[str, Path] = field(default_factory=dict)
    debug_files: Mapping[str, Path] = field(default_factory=dict)
    indexes: Mapping[str, Path] = field(default_factory=dict)
    """gdb's indexes of them by build-id (indexes.py). With none gdb keeps and looks for none."""


@dataclass(frozen=True)
class Launch:
    """How to start gdb. `core` and `exe` are in its working directory under these names."""

    argv: list[str]
    env: dict[str, str]
    cwd: Path | None
    sandboxed: bool


async def launch(case: Case, settings: GdbSettings, workdir: Path, options: Sequence[str]) -> Launch:
    """The command that starts gdb on `case` with `options`; `workdir` is an empty private folder that outlives it.

    Raises ToolMissing when gdb is not installed, or bubblewrap was demanded and does not work here.
    """
    program = await asyncio.to_thread(shutil.which, settings.program)
    if program is None:
        raise ToolMissing(f"{settings.program} is not installed; on Debian: apt-get install gdb")
    mode = await _mode(settings)
    return await asyncio.to_thread(_compose, case, settings, workdir, options, program, mode)


async def launch_program(
    case: Case, settings: GdbSettings, workdir: Path, options: Sequence[str], given: Mapping[str, Path]
) -> Launch:
    """The same for another debugger, `settings.program`, with the files `given` beside the core under their names."""
    program = await asyncio.to_thread(shutil.which, settings.program)
    if program is None:
        raise ToolMissing(f"{settings.program} is not installed")
    mode = await _mode(settings)
    return await asyncio.to_thread(_compose, case, settings, workdir, options, program, mode, given)


@asynccontextmanager
async def private_folder() -> AsyncIterator[Path]:
    """A folder for one gdb, made and removed beside the event loop."""
    folder = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="paramedic-gdb-"))
    try:
        yield folder
    finally:
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


def _compose(
    case: Case,
    settings: GdbSettings,
    workdir: Path,
    options: Sequence[str],
    program: str,
    mode: str | None,
    given: Mapping[str, Path] | None = None,
) -> Launch:
    """Looks at the machine's files, so it blocks. With `given` it is not gdb, and gets no options of gdb's."""
    limits = _limits(settings, reserves=given is not None)
    if mode is None:
        root = workdir / "case"
        _lay_out(case, root)
        for name, path in (given or {}).items():
            (root / name).symlink_to(path)
        argv = [*limits, program, *options, *(_directories(root, case) if given is None else ())]
        env = {**_ENVIRONMENT, "HOME": str(workdir)}
        return Launch(argv, env, root, sandboxed=False)
    binds = [part for name, path in (given or {}).items() for part in ("--ro-bind", str(path), str(_ROOT / name))]
    contained = _bubblewrap(mode, case, Path(program), binds)
    argv = [*limits, *contained, program, *options, *(_directories(_ROOT, case) if given is None else ())]
    return Launch(argv, dict(_ENVIRONMENT), None, sandboxed=True)


def _directories(root: Path, case: Case) -> list[str]:
    places = ["-iex", f"set sysroot {root / 'root'}", "-iex", f"set debug-file-directory {root / 'debug'}"]
    if case.indexes:
        places += ["-iex", f"set index-cache directory {root / 'index'}", "-iex", "set index-cache enabled on"]
    return places


def limited(settings: GdbSettings, options: Sequence[str], *, file_bytes: int) -> tuple[list[str], dict[str, str]]:
    """The command and environment of gdb for files of our own choice, inside a process that is confined already."""
    program = shutil.which(settings.program) or settings.program
    return [*_limits(settings, file_bytes=file_bytes), program, *options], dict(_ENVIRONMENT)


def _limits(settings: GdbSettings, *, reserves: bool = False, file_bytes: int = _FILE_BYTES) -> list[str]:
    """Run the rest under process limits.

    Not of their number: gdb starts `iconv -l` once, and when it may not, sleeps and tries again for 15 s. What it
    leaves behind is ended with it (see worker.py).
    """
    wanted = {
        "as": settings.memory_bytes,
        "cpu": settings.cpu_seconds,
        "fsize": file_bytes,
        "nofile": 4096,
        "core": 0,
    }
    if reserves:
        wanted |= {"as": settings.memory_bytes + RESERVED_BYTES, "data": settings.memory_bytes}
    if program := shutil.which("prlimit"):
        return [program, *(f"--{name}={value}" for name, value in wanted.items()), "--"]
    pairs = ",".join(f"RLIMIT_{name.upper()}={value}" for name, value in wanted.items())
    return [sys.executable, "-I", "-S", "-c", _LAUNCHER, pairs]


async def _mode(settings: GdbSettings) -> str | None:
    """`user` (own user namespace), `root` (namespaces made by root, to read cores that others own), or None."""
    if settings.sandbox == "rlimits":
        return None
    program = await asyncio.to_thread(shutil.which, "bwrap")
    works = program is not None and await _probe(program)
    if works:
        return "root" if os.geteuid() == 0 else "user"
    if settings.sandbox == "bubblewrap":
        raise ToolMissing("bubblewrap is not installed or may not make namespaces here; gdb.sandbox demands it")
    return None


_probed: dict[str, bool] = {}


async def _probe(program: str) -> bool:
    """Does bubblewrap work here? Asked once for a process."""
    if program not in _probed:
        system = await asyncio.to_thread(_system, None)
        argv = [program, *_isolation("root" if os.geteuid() == 0 else "user"), *system, "/usr/bin/true"]
        try:
            process = await asyncio.create_subprocess_exec(
                *argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
                env=_ENVIRONMENT,
            )
        except OSError as error:
            raise ToolFailed(f"cannot start {program}: {error.strerror}") from None
        try:
            _probed[program] = await asyncio.wait_for(process.wait(), _PROBE_SECONDS) == 0
        except TimeoutError:
            process.kill()
            await process.wait()
            _probed[program] = False
    return _probed[program]


def _isolation(mode: str) -> list[str]:
    shared = ["--die-with-parent", "--new-session", "--cap-drop", "ALL", "--hostname", "sandbox"]
    spaces = ["--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try"]
    if mode == "root":
        # a core in a cluster belongs to the uid of its pod with mode 0600; in a user namespace root could not read it
        return [*spaces, *shared, "--cap-add", "CAP_DAC_READ_SEARCH"]
    return ["--unshare-user", *spaces, *shared, "--uid", "65534", "--gid", "65534"]


@functools.cache
def _system(program: Path | None) -> tuple[str, ...]:
    """Mounts of the system's own programs and libraries."""
    arguments: list[str] = []
    for name in _SYSTEM:
        if Path(name).is_dir():
            arguments += ["--ro-bind", name, name]
    for name in ("bin", "lib", "lib32", "lib64"):
        path = Path("/") / name
        if path.is_symlink():
            arguments += ["--symlink", str(path.readlink()), str(path)]
        elif path.is_dir():
            arguments += ["--ro-bind", str(path), str(path)]
    if Path("/etc/ld.so.cache").is_file():
        arguments += ["--ro-bind", "/etc/ld.so.cache", "/etc/ld.so.cache"]
    if program is not None and program.resolve().parent not in (Path("/usr/bin"), Path("/bin")):
        prefix = program.resolve().parent.parent
        arguments += ["--ro-bind", str(prefix), str(prefix)]
        if program.parent != program.resolve().parent:
            arguments += ["--ro-bind", str(program), str(program)]
    return (*arguments, "--dev", "/dev", "--tmpfs", "/tmp")  # noqa: S108 (inside the sandbox)


def system_view(programs: Sequence[Path]) -> tuple[list[str], dict[str, str], dict[str, str]]:
    """Folders, files and symbolic links of the system's own programs and libraries, and of the debuggers `programs`.

    Of a debugger in another place only itself and what it was installed with are shown: its folder may be a home.
    """
    folders = [name for name in _SYSTEM if Path(name).is_dir()]
    files = {"/etc/ld.so.cache": "/etc/ld.so.cache"} if Path("/etc/ld.so.cache").is_file() else {}
    links = {}
    for name in ("/bin", "/lib", "/lib32", "/lib64"):
        if Path(name).is_symlink():
            links[name] = str(Path(name).readlink())
        elif Path(name).is_dir():
            folders.append(name)
    for program in programs:
        real = program.resolve()
        if real.parent in (Path("/usr/bin"), Path("/bin")):
            continue
        files |= {str(program): str(real), str(real): str(real)}
        if real.parent.name == "bin":
            installed = [real.parent.parent / name for name in ("share/gdb", "lib", "lib64")]
            folders += [str(folder) for folder in installed if folder.is_dir()]
    return folders, files, links


def _bubblewrap(mode: str, case: Case, program: Path, more: Sequence[str] = ()) -> list[str]:
    binds = [*more, "--ro-bind", str(case.core), str(_ROOT / "core")]
    if case.executable is not None:
        binds += ["--ro-bind", str(case.executable), str(_ROOT / "exe")]
    for target, local in case.files.items():
        binds += ["--ro-bind", str(local), f"{_ROOT}/root{target}"]
    for name, local in case.debug_files.items():
        binds += ["--ro-bind", str(local), str(_ROOT / "debug" / name)]
    for build_id, local in case.indexes.items():
        binds += ["--ro-bind", str(local), str(_ROOT / "index" / f"{build_id}.gdb-index")]
    bwrap = shutil.which("bwrap") or "bwrap"
    return [bwrap, *_isolation(mode), *_system(program), *binds, "--chdir", str(_ROOT), "--"]


def _lay_out(case: Case, root: Path) -> None:
    """The sandbox's view as symbolic links."""
    (root / "root").mkdir(parents=True)
    (root / "debug").mkdir()
    (root / "core").symlink_to(case.core.absolute())
    if case.executable is not None:
        (root / "exe").symlink_to(case.executable.absolute())
    laid_out = {f"root/{target.lstrip('/')}": local for target, local in case.files.items()}
    laid_out |= {f"debug/{name}": local for name, local in case.debug_files.items()}
    laid_out |= {f"index/{build_id}.gdb-index": local for build_id, local in case.indexes.items()}
    for name, local in laid_out.items():
        link = root / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(local.absolute())
