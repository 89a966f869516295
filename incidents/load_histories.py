"""Histories of loads on disk: arrays of numbers, read without pickle. Forecasts are fitted again from them."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

_MAX_BYTES = 8 << 20


class LoadHistories:
    """One file a service below `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def save(self, service: str, times: npt.NDArray[np.float64], loads: npt.NDArray[np.float64]) -> None:
        """Replace what is stored. Raises OSError when the disk does not take it."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        fresh = self._folder / f".{service}.new.npz"
        np.savez_compressed(fresh, times=times, loads=loads)
        fresh.replace(self._folder / f"{service}.npz")

    def load(self, service: str) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]] | None:
        """(times, loads); None when nothing that can be read is stored."""
        file = self._folder / f"{service}.npz"
        try:
            if file.stat().st_size > _MAX_BYTES:
                return None
            with file.open("rb") as opened, np.load(opened, allow_pickle=False) as stored:
                times, loads = stored["times"], stored["loads"]
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
            return None
        if times.ndim != 1 or times.shape != loads.shape or times.dtype != np.float64 or loads.dtype != np.float64:
            return None
        return times, loads
