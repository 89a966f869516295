"""Core dumps from real pods: kernel.core_pattern for the time of a run, and the folder that pods and service share.

The pattern belongs to the whole machine, so it is changed under a lock and put back in every case.
"""

from __future__ import annotations

import atexit
import fcntl
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.build import CLUSTER
from tests.e2e.harness import run

PATTERN_FILE = Path("/proc/sys/kernel/core_pattern")
LOCK = Path("/run/lock/paramedic-core-pattern.lock")
# an absolute path without a pipe is opened in the crashing process's own mount namespace: its pod's /cores
PATTERN = "/cores/core.%e.%p.%t"


@dataclass(frozen=True)
class CoreFolder:
    """One folder under two names: on this machine, and as a pod's hostPath names it."""

    here: Path
    on_node: str

    def of(self, namespace: str, container: str) -> list[Path]:
        """Cores of the container in any of the namespace's pods, newest first."""
        found = self.here.glob(f"{namespace}/*/{container}/*")
        return sorted(found, key=lambda path: path.stat().st_mtime, reverse=True)


@contextmanager
def core_folder() -> Iterator[CoreFolder]:
    """A folder of this run's own. In a kind node, only what the node mounts from the machine can be shared."""
    run_name = f"paramedic-e2e-{secrets.token_hex(4)}"
    if run(CLUSTER, "which").strip() == "kind":
        base = Path(run(CLUSTER, "audit").strip()).parent
        folder = CoreFolder(base / run_name, f"/var/log/kubernetes/{run_name}")
    else:
        folder = CoreFolder(Path("/var/tmp") / run_name, f"/var/tmp/{run_name}")
    folder.here.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder.here, ignore_errors=True)


@contextmanager
def core_pattern() -> Iterator[None]:
    """Set the pattern, alone on this machine, and restore it whatever happens. Raises PermissionError without root."""
    with LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        before = PATTERN_FILE.read_text().strip()
        if before == PATTERN:  # left by a run that was killed; what stood before it is lost
            before = "core"

        def restore() -> None:
            if PATTERN_FILE.read_text().strip() == PATTERN:
                PATTERN_FILE.write_text(before)

        atexit.register(restore)
        PATTERN_FILE.write_text(PATTERN)
        try:
            yield
        finally:
            restore()
            atexit.unregister(restore)
