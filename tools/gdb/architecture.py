"""Which gdb reads a core: the system's own knows few machines beside its own; gdb-multiarch knows all."""

from __future__ import annotations

import platform
import shutil

from diagnosis.crashes.elf import Header

_OWN = {"x86_64": ("x86_64", "i386"), "aarch64": ("aarch64", "arm"), "armv7l": ("arm",), "i686": ("i386",)}
_DEFAULT, _FOREIGN = "gdb", "gdb-multiarch"


def is_foreign(header: Header) -> bool:
    """The core is of a machine that this one's own gdb does not know."""
    here = platform.machine()
    return header.machine not in _OWN.get(here, (here,))


def debugger_for(header: Header, program: str) -> tuple[str | None, str | None]:
    """The program to start, or None and the sentence that says what is missing.

    A `program` other than `gdb` was chosen by the operator, and is taken as it is.
    """
    if program != _DEFAULT or not is_foreign(header):
        return program, None
    if shutil.which(_FOREIGN) is not None:
        return _FOREIGN, None
    return None, (
        f"gdb here does not read cores of {header.machine}: apt-get install {_FOREIGN}; "
        "registers, modules and causes were read without it"
    )
