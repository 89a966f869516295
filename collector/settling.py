"""When a file may be taken: a whole core at the second look, a cut one after it has not grown for a while."""

from __future__ import annotations

from dataclasses import dataclass

from collector.places import FoundFile, Place

_PATIENCE = 120.0
"""Seconds beyond `settle_seconds` that a file may take until it is recorded; then it holds up nothing any more."""


@dataclass
class _Watched:
    stamp: tuple[int, int, int, int]
    since: float
    place: Place | None


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
            self._watched[key] = _Watched(file.stamp, now, file.place)
            return False
        return now > known.since

    def given_up(self, file: FoundFile, now: float) -> bool:
        """Whether a file that is not whole has been still for so long that nobody writes it any more."""
        known = self._watched.get((file.device, file.inode))
        return known is not None and known.stamp == file.stamp and now - known.since >= self._settle_seconds

    def may_be(self, pod_uid: str, container: str, span: tuple[int, int], now: float) -> bool:
        """Whether a file of this container, last written within `span` (ns since the epoch), is not decided yet."""
        return any(
            known.place is not None
            and (known.place.pod_uid, known.place.container) == (pod_uid, container)
            and span[0] <= known.stamp[3] <= span[1]
            and now - known.since <= self._settle_seconds + _PATIENCE
            for known in self._watched.values()
        )

    def forget(self, file: FoundFile) -> None:
        """It was dealt with."""
        self._watched.pop((file.device, file.inode), None)

    def forget_all_but(self, files: list[FoundFile]) -> None:
        """Drop what is gone, so that a reused inode starts anew and nothing grows for ever."""
        present = {(file.device, file.inode) for file in files}
        self._watched = {key: value for key, value in self._watched.items() if key in present}
