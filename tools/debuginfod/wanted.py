"""What may be asked of a debuginfod server."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Wanted:
    """A program or library, or its separate debug information. `build_id` is in hexadecimal digits."""

    build_id: str
    kind: Literal["executable", "debuginfo"]
