"""Programs and images of the scenarios, compiled in the run. An image is named by its content, so runs share them."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.harness import ROOT, run

SOURCES = Path(__file__).parent / "programs"
CLUSTER = ROOT / "deploy" / "dev-cluster" / "cluster"
_CXX = ["g++", "-g", "-O0", "-std=c++17", "-pthread"]
_C = ["gcc", "-g", "-O0"]


@dataclass(frozen=True)
class Images:
    """References of the loaded images, and where their executables are."""

    executables: Path
    quotes: str  # a C++ service that runs
    quotes_next: str  # its next release: a null pointer is read deep in a call chain
    web: str
    cache: str


def crash_line() -> int:
    """The line in quotes.cpp where release 2 dies."""
    lines = (SOURCES / "quotes.cpp").read_text().splitlines()
    return next(number for number, line in enumerate(lines, 1) if "book->fee_cents" in line)


def build(folder: Path) -> Images:
    """Compile everything into `folder` and load the images. Raises AssertionError with a compiler's words."""
    folder.mkdir(parents=True, exist_ok=True)
    jobs = {
        "quotes-1": [*_CXX, "-DRELEASE=1", "-o", folder / "quotes-1", SOURCES / "quotes.cpp"],
        "quotes-2": [*_CXX, "-DRELEASE=2", "-o", folder / "quotes-2", SOURCES / "quotes.cpp"],
        "web": [*_C, "-o", folder / "web", SOURCES / "web.c"],
        "cache": [*_C, "-o", folder / "cache", SOURCES / "cache.c"],
    }
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda command: run(*command), jobs.values()))
    return Images(
        executables=folder,
        quotes=load("quotes", folder / "quotes-1", "/app/quotes"),
        quotes_next=load("quotes", folder / "quotes-2", "/app/quotes"),
        web=load("web", folder / "web", "/app/web"),
        cache=load("cache", folder / "cache", "/app/cache"),
    )


def load(name: str, program: Path, inside: str) -> str:
    """The reference of an image that has the program and a busybox, in the cluster."""
    tag = hashlib.sha256(program.read_bytes()).hexdigest()[:12]
    reference = f"docker.io/local/{name}:{tag}"
    run(CLUSTER, "image", "--name", reference, "--busybox", "--libs", "--add", f"{program}={inside}", "--cmd", inside)
    return reference
