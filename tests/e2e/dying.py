"""The real service in a process that dies, as by `kill -9`, at the point that E2E_DIE_AT names.

    decided         an approval was recorded, and nothing else happened
    <journal step>  right after the gate's journal has committed it: claimed, undo_recorded, applying:0, …
    sent:N          the Nth answer to a write has arrived, and the journal does not say so yet
    during:N        half a second into the Nth write; what helm was started goes on
    told:<type>     right after the timeline step of this type: executed, verified, undone, done

The node agent, of whose outbox every change is such a point:

    before:<change> what is to be noted has happened, and is not noted: reduced, object_stored, announced, removed, …
    after:<change>  it is noted, and nothing else has happened

Without E2E_DIE_AT it is `paramedic` and nothing else. Run as `python -m tests.e2e.dying serve …`.
"""

from __future__ import annotations

import functools
import os
import signal
import sys
import threading
from collections.abc import Awaitable, Callable
from typing import Any

DIES = [sys.executable, "-m", "tests.e2e.dying", "serve"]
"""The program for `Service`."""
AGENT_DIES = [sys.executable, "-m", "tests.e2e.dying"]
"""The program for `Process`."""
_CHANGES = ("add", "reduced", "uploading", "object_stored", "stored", "announced", "removed")


def die_at(point: str) -> None:
    """Die here when this is the point: no cleanup, no buffers, no handlers."""
    if os.environ.get("E2E_DIE_AT") == point:
        os.kill(os.getpid(), signal.SIGKILL)


def after(owner: type, method: str, point: Callable[..., str]) -> None:
    """Die after `owner.method`, at the point that its result and arguments name."""
    original: Callable[..., Awaitable[Any]] = getattr(owner, method)

    @functools.wraps(original)
    async def wrapped(*args: Any, **more: Any) -> Any:
        result = await original(*args, **more)
        die_at(point(result, *args))
        return result

    setattr(owner, method, wrapped)


def around(owner: type, method: str) -> None:
    """Die before or after `owner.method`."""
    original: Callable[..., Any] = getattr(owner, method)

    @functools.wraps(original)
    def wrapped(*args: Any, **more: Any) -> Any:
        die_at(f"before:{method}")
        result = original(*args, **more)
        die_at(f"after:{method}")
        return result

    setattr(owner, method, wrapped)


def agent() -> None:
    from cli import main as paramedic
    from collector.outbox import Outbox

    for change in _CHANGES:
        around(Outbox, change)
    paramedic()


def service() -> None:
    os.environ.setdefault("LANGGRAPH_STRICT_MSGPACK", "true")  # as cli.py does, before anything imports langgraph
    from actions.effects.helm import HelmEffect
    from actions.effects.patch import PatchEffect
    from actions.gate import Gate
    from actions.journal import Journal
    from cli import main as paramedic
    from incidents.store import IncidentStore

    sent = [0]

    def count(effect: type) -> None:
        send: Callable[[Any], Awaitable[Any]] = effect.send  # type: ignore[attr-defined]

        async def counted(self: Any) -> Any:
            number, sent[0] = sent[0], sent[0] + 1
            if os.environ.get("E2E_DIE_AT") == f"during:{number}":
                threading.Timer(0.5, die_at, [f"during:{number}"]).start()
            reached = await send(self)
            die_at(f"sent:{number}")
            return reached

        effect.send = counted  # type: ignore[attr-defined]

    count(PatchEffect)
    count(HelmEffect)
    after(Gate, "decide", lambda approval, *_: "decided" if approval.state == "approved" else "")
    after(IncidentStore, "add_step", lambda _step, _store, _incident, kind, *_: f"told:{kind}")
    Journal._stepped = lambda _self, step: die_at(step)  # type: ignore[method-assign]
    paramedic()


if __name__ == "__main__":
    agent() if sys.argv[1:2] == ["collect"] else service()
