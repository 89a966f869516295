"""Waiting for a core that our store has, while the store cannot be reached.

An incident whose core is away stays open, so that the further crashes of a storm join it, and is analysed by itself
when the store is back. A few questions to the store answer all that wait: a store that hangs must not hold up analyses
that need nothing of it, and one that is slow must not be asked in turn.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

from errors import ParamedicError
from incidents.database import utcnow
from incidents.models import CoreRef, Diagnosis, Incident
from settings import StoreSettings
from tools.cores.stored import SCHEME, StoredCore
from tools.objectstore.failures import StoreDenied, StoreUnreachable

_PAUSE = 30.0  # seconds between questions to a store that is away
_ANSWER = 20.0  # seconds that the store has for one
_QUESTIONS = 8  # at once

Away = StoreUnreachable | StoreDenied
"""What may pass: a server comes back, keys are renewed, a clock is set right."""


class CoreWait:
    """Whether cores of our store can be fetched now, and how long an incident waits until they can.

    A process measures a wait by a clock that nobody sets. What a restart knows of it is a time of day: it goes by that,
    but never waits for longer than the whole patience.
    """

    def __init__(self, settings: StoreSettings, patience: float, *, now: Callable[[], datetime] = utcnow) -> None:
        """`patience` in seconds, from when a core was first found to be away."""
        self._settings = settings
        self._patience = patience
        self._now = now
        self._ends: dict[str, float] = {}  # of the incidents that wait in this process, by time.monotonic
        self._pause = min(_PAUSE, max(patience / 20, 0.1))
        self._asking = asyncio.Semaphore(_QUESTIONS)
        self._asked = 0.0
        self._unreachable: StoreUnreachable | None = None  # when it was asked last

    async def check(self, core: CoreRef | None) -> None:
        """Raises StoreUnreachable or StoreDenied while the store that has `core` is away. Any other trouble is left
        to who opens it."""
        if core is None or core.url is None or not core.url.startswith(SCHEME):
            return
        async with self._asking:
            if self._unreachable is not None and time.monotonic() - self._asked < self._pause:
                raise StoreUnreachable(str(self._unreachable))
            trouble = await self._ask(core.url)
            # a refusal may be of one key alone: S3 refuses to say that an object is gone to who may not list
            self._unreachable = trouble if isinstance(trouble, StoreUnreachable) else None
            self._asked = time.monotonic()
            if trouble is not None:
                raise trouble

    async def _ask(self, url: str) -> Away | None:
        try:
            async with asyncio.timeout(_ANSWER):
                stored = await StoredCore.open(url, self._settings)
                await stored.head()
        except (StoreUnreachable, StoreDenied) as error:
            return error
        except TimeoutError:
            return StoreUnreachable(f"the store did not answer within {_ANSWER:g} s")
        except ParamedicError:  # such as settings that name no store: the analysis tells it better
            return None
        return None

    def begin(self, incident: Incident) -> datetime:
        """Until when the incident waits for its core: what a restart has to know."""
        self._ends[incident.id] = time.monotonic() + self._patience
        return self._now() + timedelta(seconds=self._patience)

    async def read(
        self, incident: Incident, read: Callable[[bool], Awaitable[Diagnosis]], *, until: datetime | None
    ) -> Diagnosis | Away:
        """What `read` finds, or why the core is away: at once, or with `until`, of `begin`, when that has passed.

        `read` is told whether it is asked for the last time: then a core is better than a core with its programs.
        """
        while True:
            left = self._left(incident, until) if until else self._patience
            try:
                await self.check(incident.core)
                found: Diagnosis | Away = await read(left <= 0)
            except (StoreUnreachable, StoreDenied) as error:
                if until and left > 0:
                    await asyncio.sleep(min(self._pause, left))
                    continue
                found = error
            if until:
                self._ends.pop(incident.id, None)
            return found

    def _left(self, incident: Incident, until: datetime) -> float:
        """Seconds; of a wait that another process began, as the time of day has it."""
        if incident.id not in self._ends:
            by_day = (until - self._now()).total_seconds()
            self._ends[incident.id] = time.monotonic() + min(by_day, self._patience)
        return self._ends[incident.id] - time.monotonic()
