"""Waiting for a core that our store has, while the store cannot be reached.

An incident whose core is away stays open, so that the further crashes of a storm join it, and is analysed by itself
when the store is back. One question to the store answers all that wait: a store that hangs must not hold up analyses
that need nothing of it.
"""

from __future__ import annotations

import asyncio
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

Away = StoreUnreachable | StoreDenied
"""What may pass: a server comes back, keys are renewed, a clock is set right."""


class CoreWait:
    """Whether cores of our store can be fetched now, and how long an incident waits until they can."""

    def __init__(self, settings: StoreSettings, patience: float) -> None:
        """`patience` in seconds, from the opening of an incident."""
        self._settings = settings
        self._patience = timedelta(seconds=patience)
        self._pause = min(_PAUSE, max(patience / 20, 0.1))
        self._asking = asyncio.Lock()
        self._asked = 0.0
        self._unreachable: StoreUnreachable | None = None  # when it was asked last

    async def check(self, core: CoreRef | None) -> None:
        """Raises StoreUnreachable or StoreDenied while the store that has `core` is away. Any other trouble is left
        to who opens it."""
        if core is None or core.url is None or not core.url.startswith(SCHEME):
            return
        async with self._asking:
            clock = asyncio.get_running_loop().time
            if self._unreachable is not None and clock() - self._asked < self._pause:
                raise StoreUnreachable(str(self._unreachable))
            trouble = await self._ask(core.url)
            # a refusal may be of one key alone: S3 refuses to say that an object is gone to who may not list
            self._unreachable = trouble if isinstance(trouble, StoreUnreachable) else None
            self._asked = clock()
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

    async def read(
        self, incident: Incident, read: Callable[[], Awaitable[Diagnosis]], *, wait: bool
    ) -> Diagnosis | Away:
        """What `read` finds, or why the core is away: at once, or with `wait` when there is no patience left."""
        while True:
            try:
                await self.check(incident.core)
                return await read()
            except (StoreUnreachable, StoreDenied) as error:
                left = (self.until(incident) - utcnow()).total_seconds()
                if not wait or left <= 0:
                    return error
                await asyncio.sleep(min(self._pause, left))

    def until(self, incident: Incident) -> datetime:
        """When the wait for the incident's core ends."""
        return incident.created_at + self._patience
