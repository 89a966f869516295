"""`kill -9` between every two steps: the restarted gate ends with the write made exactly once, or not at all."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
from collections.abc import Awaitable, Iterator
from typing import Protocol, TextIO

import pytest

from actions.objects import normalise
from incidents.database import utcnow
from incidents.plan import Approval, ApprovalState
from tests.actions.conftest import NAME, NAMESPACE, World
from tests.actions.mortal import obey_all


class Mortal(Protocol):
    def __call__(self, approval: Approval, call: str, die_after: str = "", kill_at: str = "") -> Awaitable[None]: ...


@pytest.fixture(scope="module")
def mortals() -> Iterator[TextIO]:
    """Orders to, and answers from, the process that forks gates: itself forked off this one, its imports done."""
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        ours.close()
        with contextlib.suppress(BaseException):
            obey_all(theirs.makefile("r"), theirs.makefile("w"))
        os._exit(0)
    theirs.close()
    with ours, ours.makefile("rw") as line:
        yield line
    os.waitpid(pid, 0)


@pytest.fixture
def mortal(world: World, mortals: TextIO) -> Mortal:
    """`await mortal(approval, call, die_after=… or kill_at=…)` runs a gate until it is dead."""

    async def run(approval: Approval, call: str, die_after: str = "", kill_at: str = "") -> None:
        order = {
            "approval": approval.id,
            "call": call,
            "die_after": die_after,
            "database": f"sqlite+aiosqlite:///{world.folder / 'paramedic.db'}",
            "kubeconfig": str(world.folder / "kubeconfig"),
            "settings": world.settings.model_dump(mode="json"),
        }
        pids: list[int] = []
        if kill_at:
            getattr(world.api, kill_at)("PATCH", lambda: os.kill(pids[0], signal.SIGKILL), dry_run=False)
        mortals.write(json.dumps(order) + "\n")
        mortals.flush()
        pids.append(int(await asyncio.to_thread(mortals.readline)))
        assert int(await asyncio.to_thread(mortals.readline)) == -signal.SIGKILL

    return run


def _restarted(world: World) -> None:
    world.clock.time = utcnow()
    world.clock.move(seconds=20)  # past the dead process's lease
    world.new_gate()


@pytest.mark.parametrize("step", ["claimed", "undo_recorded", "applying:0", "applied:0"])
async def test_killed_after_a_step_of_the_execution(world: World, mortal: Mortal, step: str) -> None:
    approval = await world.approved()
    await mortal(approval, "execute", die_after=step)
    assert len(world.writes) == (1 if step == "applied:0" else 0)
    _restarted(world)
    ended = await world.gate.execute(approval.id)
    assert ended.state is ApprovalState.VERIFYING, ended.outcome
    assert len(world.writes) == 1
    assert (await world.gate.verify(approval.id)).ok
    await world.audit.verify_chain()


@pytest.mark.parametrize(("moment", "sent"), [("before", 2), ("after", 1)])
async def test_killed_while_the_write_is_under_way(world: World, mortal: Mortal, moment: str, sent: int) -> None:
    approval = await world.approved()
    await mortal(approval, "execute", kill_at=moment)
    _restarted(world)
    ended = await world.gate.execute(approval.id)
    assert ended.state is ApprovalState.VERIFYING, ended.outcome
    assert len(world.writes) == 1
    assert len({write.body for write in world.api.attempts}) == 1
    assert len(world.api.attempts) <= sent


async def test_killed_while_writing_and_then_somebody_edits(world: World, mortal: Mortal) -> None:
    approval = await world.approved()
    await mortal(approval, "execute", kill_at="after")
    world.api.edit("Deployment", NAMESPACE, NAME, lambda item: item["spec"].update(replicas=5))
    _restarted(world)
    ended = await world.gate.execute(approval.id)
    assert ended.state is ApprovalState.FAILED
    assert "a person has to look" in (ended.outcome or "")
    assert len(world.api.attempts) == 1


async def test_killed_before_writing_and_then_somebody_edits(world: World, mortal: Mortal) -> None:
    approval = await world.approved()
    await mortal(approval, "execute", die_after="undo_recorded")
    world.api.edit("Deployment", NAMESPACE, NAME, lambda item: item["spec"].update(replicas=5))
    _restarted(world)
    assert (await world.gate.execute(approval.id)).state is ApprovalState.STALE
    assert world.api.attempts == []


async def test_killed_after_the_verdict(world: World, mortal: Mortal) -> None:
    approval = await world.approved()
    await world.gate.execute(approval.id)
    await mortal(approval, "verify", die_after="verified")
    _restarted(world)
    assert (await world.gate.verify(approval.id)).ok
    assert (await world.approvals.get(approval.id)).state is ApprovalState.DONE


@pytest.mark.parametrize("step", ["undoing:0", "undone:0"])
async def test_killed_after_a_step_of_the_undo(world: World, mortal: Mortal, step: str) -> None:
    before = normalise(world.api.get("Deployment", NAMESPACE, NAME) or {})
    approval = await world.approved()
    await world.gate.execute(approval.id)
    await mortal(approval, "undo", die_after=step)
    _restarted(world)
    ended = await world.gate.undo(approval.id)
    assert ended.state is ApprovalState.UNDONE, ended.outcome
    assert normalise(world.api.get("Deployment", NAMESPACE, NAME) or {}) == before
    assert len(world.writes) == 2


async def test_killed_while_the_undo_is_under_way(world: World, mortal: Mortal) -> None:
    approval = await world.approved()
    await world.gate.execute(approval.id)
    await mortal(approval, "undo", kill_at="after")
    _restarted(world)
    assert (await world.gate.undo(approval.id)).state is ApprovalState.UNDONE
    assert len(world.writes) == 2


# the process lives, the answer does not


async def test_a_lost_answer_is_recognised_and_not_sent_again(world: World) -> None:
    approval = await world.approved()
    world.api.lose_answers = 1
    assert (await world.gate.execute(approval.id)).state is ApprovalState.VERIFYING
    assert len(world.api.attempts) == 1


async def test_a_request_that_never_arrived_is_sent_again(world: World) -> None:
    approval = await world.approved()
    world.api.before("PATCH", lambda: setattr(world.api, "down", True), dry_run=False)
    task = asyncio.create_task(world.gate.execute(approval.id))
    while not world.api.down:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)
    world.api.down = False
    assert (await task).state is ApprovalState.VERIFYING
    assert len(world.writes) == 1


async def test_a_lost_answer_to_the_undo_is_recognised(world: World) -> None:
    approval = await world.approved()
    await world.gate.execute(approval.id)
    world.api.lose_answers = 1
    assert (await world.gate.undo(approval.id)).state is ApprovalState.UNDONE
    assert len(world.api.attempts) == 2
