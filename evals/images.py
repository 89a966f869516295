"""The images of the scenarios: small C programs and busybox, built here and loaded into the development cluster.

An image is named by what is in it, so that runs share them.
"""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

from errors import ToolFailed, ToolMissing

CLUSTER = Path(__file__).parents[1] / "deploy" / "dev-cluster" / "cluster"
PROGRAMS = Path(__file__).parent / "programs"
BUSYBOX = "docker.io/local/busybox:1"  # every development cluster has it


async def run(*command: str | Path, timeout: float = 180.0) -> str:
    """Standard output of a program. Raises ToolMissing, ToolFailed with its last words."""
    arguments = [str(part) for part in command]
    try:
        process = await asyncio.create_subprocess_exec(
            *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
    except OSError as error:
        raise ToolMissing(f"{arguments[0]} cannot be started: {error}") from error
    try:
        async with asyncio.timeout(timeout):
            out, err = await process.communicate()
    except TimeoutError:
        process.kill()
        raise ToolFailed(f"{arguments[0]} did not end in {timeout:.0f} s") from None
    if process.returncode:
        raise ToolFailed(f"{arguments[0]} ended with {process.returncode}: {err.decode(errors='replace')[-500:]}")
    return out.decode(errors="replace")


async def build(wanted: set[str], folder: Path) -> dict[str, str]:
    """The references of the images, by `image:NAME`. Raises ToolMissing or ToolFailed with a compiler's words."""
    found = {"image:busybox": BUSYBOX}
    await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
    for name in sorted(wanted - {"busybox"}):
        program = folder / name
        await run("gcc", "-g", "-O0", "-o", program, PROGRAMS / f"{name}.c")
        tag = hashlib.sha256(program.read_bytes()).hexdigest()[:12]
        reference = f"docker.io/local/eval-{name}:{tag}"
        inside = f"/app/{name}"
        await run(
            CLUSTER,
            "image",
            "--name",
            reference,
            "--busybox",
            "--libs",
            "--add",
            f"{program}={inside}",
            "--cmd",
            inside,
        )
        found[f"image:{name}"] = reference
    return found
