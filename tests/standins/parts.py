"""The parts that the API and the chat use, without graph and gate: a real database, a runner that only records."""

from __future__ import annotations

import asyncio
import atexit
import shutil
import socket
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import uvicorn

from api.app import create_app
from errors import Conflict, NotFound
from incidents.database import Database, utcnow
from incidents.models import CauseClass, CoreRef, Incident, ObjectRef, Via
from incidents.plan import Approval, ApprovalState, DeletePod, DeleteWrite, Plan, Risk, Vote
from incidents.store import IncidentStore
from settings import Settings
from tools.kubernetes.client import ClusterUnreachable


class Approvals:
    """The contract of the approval store, in memory."""

    def __init__(self) -> None:
        self.items: dict[str, Approval] = {}

    async def get(self, approval_id: str) -> Approval:
        if approval_id not in self.items:
            raise NotFound(f"no approval {approval_id!r}")
        return self.items[approval_id]

    async def list(self, state: ApprovalState | None = None, incident_id: str | None = None) -> list[Approval]:
        return [
            item
            for item in self.items.values()
            if state in (None, item.state) and incident_id in (None, item.incident_id)
        ]


class Runner:
    """The contract of `Runner`: an incident is opened once per target; analysing it is left to the test."""

    def __init__(self, incidents: IncidentStore, approvals: Approvals) -> None:
        self.incidents = incidents
        self.approvals = approvals
        self.submitted: list[Incident] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.on_submit: Callable[[Incident], Any] | None = None

    async def submit(
        self,
        target: ObjectRef,
        event: str,
        *,
        requested_by: str,
        via: Via,
        core: CoreRef | None = None,
        force: bool = False,
    ) -> Incident:
        await self.gate.wait()
        known = await self.incidents.open_for(target)
        if known is not None and not force and (core is None or core == known.core):
            return known
        incident = await self.incidents.create(
            target, event, requested_by=requested_by, via=via, core=core, force=force
        )
        await self.incidents.add_step(incident.id, "run.started", str(target))
        self.submitted.append(incident)
        if self.on_submit:
            await self.on_submit(incident)
        return incident

    async def decide(self, approval_id: str, **decision: Any) -> Approval:
        approval = await self.approvals.get(approval_id)
        if approval.state is not ApprovalState.PENDING:
            raise Conflict(f"approval {approval_id} is {approval.state.value}")
        if decision["digest"] != approval.digest:
            raise Conflict("the digest is not the one of this approval")
        vote = Vote(at=utcnow(), **decision)
        state = ApprovalState.APPROVED if vote.verdict == "approve" else ApprovalState.REJECTED
        approval = approval.model_copy(update={"state": state, "votes": [*approval.votes, vote]})
        self.approvals.items[approval_id] = approval
        return approval


class Notices:
    def __init__(self) -> None:
        self.sent: list[tuple[str, str, str]] = []

    async def notice(self, title: str, text: str, severity: str) -> bool:
        self.sent.append((title, text, severity))
        return True


@dataclass
class Parts:
    """What the API uses of `Services`."""

    settings: Settings
    database: Database
    incidents: IncidentStore
    uploads: Path
    approvals: Approvals = field(default_factory=Approvals)
    notifier: Notices = field(default_factory=Notices)
    cluster: Any = None
    gate: Any = None
    models: Any = None
    runner: Any = None
    monitoring: Any = None
    runbooks: Any = None


class Listing:
    """The part of a cluster that lists workloads."""

    def __init__(self, *refs: ObjectRef) -> None:
        self.refs = list(refs)
        self.silent = False

    async def list_all(self, api_version: str, kind: str, namespace: str | None = None) -> list[dict[str, Any]]:
        if self.silent:
            raise ClusterUnreachable("no answer")
        return [
            {"apiVersion": api_version, "kind": kind, "metadata": {"name": ref.name, "namespace": ref.namespace}}
            for ref in self.refs
            if ref.kind == kind
        ]

    async def request(self, method: str, path: str) -> dict[str, Any]:
        if self.silent:
            raise ClusterUnreachable("no answer")
        return {}


_empty: list[Path] = []


async def _empty_database() -> Path:
    """A database of the newest schema, made once: migrating takes longer than most tests."""
    if not _empty:
        folder = tempfile.mkdtemp(prefix="paramedic-tests-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        path = Path(folder) / "empty.db"
        await (await Database.open(f"sqlite+aiosqlite:///{path}")).close()
        _empty.append(path)
    return _empty[0]


@asynccontextmanager
async def open_parts(folder: Path, **api: Any) -> AsyncIterator[Parts]:
    settings = Settings(data_dir=folder, api=api, kubernetes={"enabled": False})
    shutil.copyfile(await _empty_database(), folder / "test.db")
    database = await Database.open(f"sqlite+aiosqlite:///{folder / 'test.db'}")
    parts = Parts(settings, database, IncidentStore(database, folder / "evidence"), folder / "uploads")
    parts.runner = Runner(parts.incidents, parts.approvals)
    try:
        yield parts
    finally:
        await database.close()


@dataclass
class Served:
    url: str
    parts: Any
    app: Any
    client: httpx.AsyncClient

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])


@asynccontextmanager
async def served(parts: Any, host: str = "127.0.0.1") -> AsyncIterator[Served]:
    app = create_app(parts)
    config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=2)
    server = uvicorn.Server(config)
    with socket.socket() as listener:
        listener.bind((host, 0))
        port = listener.getsockname()[1]
        task = asyncio.create_task(server._serve([listener]))
        while not server.started:
            await asyncio.sleep(0.005)
        async with httpx.AsyncClient(base_url=f"http://{host}:{port}", timeout=100, verify=False) as client:
            try:
                yield Served(f"http://{host}:{port}", parts, app, client)
            finally:
                app.state.draining.set()
                server.should_exit = True
                await task


def make_approval(incident: Incident, *, diff: str = "- a\n+ b\n", seconds: int = 900) -> Approval:
    now = utcnow()
    target = ObjectRef(kind="Pod", namespace="shop", name="api-1")
    plan = Plan(
        id="pln_1",
        incident_id=incident.id,
        action=DeletePod(target=target),
        title="Delete pod api-1",
        reason="it hangs",
        cause_class=CauseClass.UNKNOWN,
        writes=[
            DeleteWrite(
                api_version="v1",
                kind="Pod",
                namespace="shop",
                name="api-1",
                uid="u",
                resource_version="1",
                fingerprint="f",
            )
        ],
        reversible=False,
        risk=Risk.LOW,
        blast_radius="1 pod",
        quorum=1,
        diff=diff,
        preimage="{}",
        deps_digest="0" * 64,
        evidence_digest="0" * 64,
        policy_version="p",
        cluster_id="c",
        requested_by=incident.requested_by,
        created_at=now,
    )
    return Approval(
        id="apr_" + "0" * 31 + "1",
        incident_id=incident.id,
        plan=plan,
        digest=plan.digest(),
        state=ApprovalState.PENDING,
        requested_by=incident.requested_by,
        quorum=1,
        issued_at=now,
        expires_at=now + timedelta(seconds=seconds),
        nonce="secret-nonce",
    )
