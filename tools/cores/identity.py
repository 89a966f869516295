"""What a core file is, read from its own notes: enough to name, deduplicate and gate on it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from diagnosis.crashes.core_file import CoreFile
from diagnosis.crashes.modules import Modules
from diagnosis.crashes.signals import signal_name

_CHUNK = 1 << 20


@dataclass(frozen=True)
class CoreIdentity:
    """`complete`: every byte that the core's own headers name is in the file; else `missing_bytes` are not."""

    sha256: str
    size: int
    complete: bool
    missing_bytes: int
    signal: str
    executable: str | None
    build_id: str | None


def identify(core: Path) -> CoreIdentity:
    """Identify `core`. Blocking: it hashes the whole file. Raises UnusableCore."""
    with CoreFile(core) as opened:
        main = Modules(opened).main
        digest = hashlib.sha256()
        at = 0
        while chunk := opened.file.read(at, _CHUNK):
            digest.update(chunk)
            at += len(chunk)
        path = opened.main_path()
        return CoreIdentity(
            sha256=digest.hexdigest(),
            size=opened.file.size,
            complete=opened.missing_bytes == 0 and opened.note_error is None,
            missing_bytes=opened.missing_bytes,
            signal=signal_name(opened.signo),
            executable=path.encode("utf-8", "replace").decode("utf-8") if path else None,
            build_id=main.build_id if main else None,
        )
