"""Read-only tools that a model may call: cluster reads and gdb queries."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from agents.reading import ReadTool
from settings import GdbSettings
from tools.kubernetes.client import Cluster


def cluster_tools(cluster: Cluster, namespaces: Collection[str]) -> list[ReadTool]:
    return []


def core_tools(
    *,
    core: Path,
    executable: Path | None,
    settings: GdbSettings,
    sysroot: Path | None = None,
    debug_dirs: Sequence[Path] = (),
) -> list[ReadTool]:
    return []
