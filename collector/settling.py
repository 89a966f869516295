"""When a file may be taken: a whole core at the second look, a cut one after it has not grown for a while."""

from __future__ import annotations

from dataclasses import dataclass

from collector.places import FoundFile


@dataclass
class _Watched:
    stamp: tuple[int, int, int, int]
    since: float


class Settling:
    """Remembers what files looked like. Times are seconds of one monotonic clock."""

    def __init__(self, settle_seconds: float) -> None:
        self._settle_seconds = settle_seconds
        self._watched: dict[tuple[int, int], _Watched] = {}

    def unchanged(self, file: FoundFile, now: float) -> bool:
        """Whether nothing was written since an earlier look. Call it once a look."""
        key = file.device, file.inode
        known = self._watched.get(key)
        if known is None or known.stamp != file.stamp:
            self._watched[key] = _Watched(file.stamp, now)
            return False
        return now > known.since

    def given_up(self, file: FoundFile, now: float) -> bool:
        """Whether a file that is not whole has been still for so long that nobody writes it any more."""
        known = self._watched.get((file.device, file.inode))
        return known is not None and known.stamp == file.stamp and now - known.since >= self._settle_seconds

    def forget_all_but(self, files: list[FoundFile]) -> None:
        """Drop what is gone, so that a reused inode starts anew and nothing grows for ever."""
        present = {(file.device, file.inode) for file in files}
        self._watched = {key: value for key, value in self._watched.items() if key in present}
