"""What is done inside the confined process: the arguments are ours, the bytes of the core are not."""

from __future__ import annotations

import asyncio
import contextlib
import json
from pathlib import Path
from typing import Any

from diagnosis.crashes.core_file import CoreFile
from diagnosis.crashes.elf import ElfFile, FileBytes
from diagnosis.crashes.modules import Modules
from diagnosis.crashes.sections import build_id_of, sections_of
from errors import UnusableCore
from settings import GdbSettings
from tools.gdb.analysis import examine_core
from tools.gdb.opened import opened_core
from tools.gdb.queries import answer_query
from tools.gdb.resolve import in_root
from tools.gdb.worker import Answering


async def analyze(arguments: dict[str, Any], answer: Answering) -> None:
    """Send needs, or the analysis as a result. Raises what `examine_core` does."""
    places, settings = _places(arguments), _settings(arguments)
    if await _needs(arguments, places, answer):
        return
    found = await examine_core(
        **places,
        settings=settings,
        progress=answer.progress,
        effort=arguments["effort"],
        soft_errors=arguments["soft_errors"],
    )
    diagnosis = found.diagnosis.model_dump_json(by_alias=True)
    rest = json.dumps(
        {"whole": found.whole, "not_indexed": {key: str(path) for key, path in found.not_indexed.items()}}
    )
    answer.send(b"r", f'{{"diagnosis":{diagnosis},{rest[1:]}'.encode())


async def query(arguments: dict[str, Any], answer: Answering) -> None:
    """Send needs, or the answer's text as a result. Raises what `answer_query` does."""
    places, settings = _places(arguments), _settings(arguments)
    if await _needs(arguments, places, answer):
        return
    text = await answer_query(arguments["name"], arguments["values"], **places, settings=settings)
    answer.send(b"r", json.dumps(text).encode())


async def wanted(arguments: dict[str, Any], answer: Answering) -> None:
    """Send needs, or as a result what a debuginfod server may have: pairs of build-id and kind."""
    places = _places(arguments)
    if await _needs(arguments, places, answer):
        return
    async with opened_core(**places) as opened:
        answer.send(b"r", json.dumps([[item.build_id, item.kind] for item in opened.wanted()]).encode())


async def build_id(arguments: dict[str, Any], answer: Answering) -> None:
    """Send the build-id of an ELF file, or null."""
    found = None
    with contextlib.suppress(UnusableCore), FileBytes(Path(arguments["core"])) as file:
        elf = ElfFile(file)
        found = build_id_of(elf, sections_of(elf))
    answer.send(b"r", json.dumps(found).encode())


async def unpack(arguments: dict[str, Any], answer: Answering) -> None:
    """Unpack into the writable folder. The result names the core by its path in there."""
    from tools.cores import unpack as unpacking  # its libraries are of no use to most jobs
    from tools.cores.sparse import Limits

    target = Path(arguments["writable"])
    limits = Limits(**arguments["limits"])
    found = await asyncio.to_thread(unpacking.unpack, Path(arguments["core"]), target, limits)
    plain = found.core == Path(arguments["core"])
    document = {
        "core": None if plain else str(found.core.relative_to(target)),
        "compression": found.compression,
        "programs": str(found.programs.relative_to(target)) if found.programs else None,
        "soft_errors": found.soft_errors,
    }
    answer.send(b"r", json.dumps(document).encode())


async def index(arguments: dict[str, Any], answer: Answering) -> None:
    """Write gdb's index of the file into the writable folder; the result is whether there is one."""
    from tools.gdb.indexes import make_index

    made = await make_index(Path(arguments["core"]), Path(arguments["writable"]), _settings(arguments))
    answer.send(b"r", json.dumps(made is not None).encode())


async def _needs(arguments: dict[str, Any], places: dict[str, Any], answer: Answering) -> bool:
    """Ask once for the files that the core names and that cannot be seen from here."""
    if arguments["declared"]:
        return False
    unseen = await asyncio.to_thread(_unseen, places)
    if unseen:
        answer.send(b"n", json.dumps(unseen).encode())
    return bool(unseen)


def _places(arguments: dict[str, Any]) -> dict[str, Any]:
    def path(name: str) -> Path | None:
        return Path(arguments[name]) if arguments[name] else None

    return {
        "core": Path(arguments["core"]),
        "executable": path("executable"),
        "sysroot": path("sysroot"),
        "debug_dirs": [Path(folder) for folder in arguments["debug_dirs"]],
        "executable_dirs": [Path(folder) for folder in arguments["executable_dirs"]],
        "fetched": path("fetched"),
    }


def _settings(arguments: dict[str, Any]) -> GdbSettings:
    settings = GdbSettings(**arguments["settings"])
    return settings.model_copy(update={"sandbox": "rlimits"}) if arguments["alone"] else settings


def _readable(path: Path | None) -> bool:
    if path is None:
        return False
    try:
        path.open("rb").close()
    except OSError:  # Landlock shows that it is there, and no more
        return False
    return True


def _unseen(places: dict[str, Any]) -> list[str]:
    """Paths that the core names and that cannot be seen from here: the other side decides what is shown."""
    if places["sysroot"] is not None:
        return []
    with CoreFile(places["core"]) as core:
        modules = [module for module in Modules(core).all if not (module.is_main and places["executable"])]
    missing = [module.path for module in modules if not _readable(in_root(Path("/"), module.path))]
    return [path for path in missing if len(path) < 4096]
