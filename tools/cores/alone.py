"""A process that reads one untrusted file and nothing else takes its own rights away first.

For programs that run once, such as `paramedic core shrink` in the kernel's pipe, where starting a confined process
would take longer than the work. No privileges are needed: Landlock, a filter of system calls and limits.
"""

from __future__ import annotations

import os
import resource
import sysconfig
import tempfile
from collections.abc import Iterable
from pathlib import Path

from tools.gdb.landlock import allow_only
from tools.gdb.system_calls import filter_system_calls

MEMORY_BYTES = 4 << 30
_ROOT = Path(__file__).parents[2]
_LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/etc/ld.so.cache")
_OWN = ("diagnosis", "incidents", "tools", "errors.py", "settings.py")


def give_up_rights(readable: Iterable[Path], writable: Iterable[Path]) -> None:
    """For good: no file but these (folders with what is in them), no network, no more than 4 GiB, no core of its own.

    What is imported later stays readable, and temporary files can be made. Where the kernel lacks Landlock (5.13) or
    filters, what it has is used.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES if hard < 0 else min(MEMORY_BYTES, hard), hard))
    paths = sysconfig.get_paths()
    own = [paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    own += [str(_ROOT / name) for name in _OWN]
    shown = [os.path.realpath(path) for path in (*own, *_LIBRARIES)]
    allow_only(
        [*shown, *(str(path.resolve()) for path in readable)],
        [*(str(path.resolve()) for path in writable), os.path.realpath(tempfile.gettempdir()), os.devnull],
    )
    filter_system_calls(network=False)
