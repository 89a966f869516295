"""Everything the service is made of, opened and closed in one place."""

from __future__ import annotations

import asyncio
import fcntl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

from actions.gate import Gate
from agents.analyst import Analyst
from agents.forecaster import PATIENCE, Forecaster
from agents.gdb_analyst import GdbAnalyst
from agents.k8s_fixer import K8sFixer
from agents.known_crashes import KnownCrashes
from agents.notifier import Notifier
from agents.recall import Recall
from agents.researcher import Researcher
from errors import Conflict, ToolMissing
from graph.build import build_graph
from graph.core_events import CoreEvents
from graph.core_wait import CoreWait
from graph.intake import Intake
from graph.nodes import Nodes
from graph.runner import Runner
from graph.scaling import Scaling
from graph.storms import StormWatch
from incidents.approvals import ApprovalStore
from incidents.audit import AuditLog
from incidents.core_jobs import CoreJobStore
from incidents.database import SYNCHRONOUS, Database
from incidents.drafts import Drafts
from incidents.memory import Memory
from incidents.metric_runs import MetricRuns
from incidents.past_steps import PastSteps
from incidents.store import IncidentStore
from incidents.storms import StormStore
from incidents.usage import UsageStore
from settings import Settings
from tools.helm.client import Helm
from tools.kubernetes.client import Cluster
from tools.llm.embeddings import Embeddings
from tools.llm.models import Models
from tools.prometheus.measure import Monitoring, monitoring
from tools.runbooks.library import Runbooks
from tools.searxng.client import SearxNG


@dataclass
class Services:
    """What routers and commands use. `cluster`, `gate` and `models` are None where there is none."""

    settings: Settings
    database: Database
    incidents: IncidentStore
    approvals: ApprovalStore
    audit: AuditLog
    cluster: Cluster | None
    gate: Gate | None
    notifier: Notifier
    models: Models | None
    runner: Runner
    uploads: Path
    core_jobs: CoreJobStore
    core_events: CoreEvents
    storms: StormStore
    storm_watch: StormWatch | None = None
    monitoring: Monitoring = field(default_factory=Monitoring)
    runbooks: Runbooks | None = None
    analyst: Analyst | None = None
    forecaster: Forecaster | None = None
    scaling: Scaling | None = None


@asynccontextmanager
async def open_services(settings: Settings) -> AsyncIterator[Services]:
    """Open everything the settings ask for. Raises Conflict when another service uses the data directory."""
    async with AsyncExitStack() as stack:
        await asyncio.to_thread(_lock_data_dir, settings.data_dir, stack)
        database = await Database.open(settings.sqlalchemy_url)
        stack.push_async_callback(database.close)
        saver = await stack.enter_async_context(
            AsyncSqliteSaver.from_conn_string(str(settings.data_dir / "checkpoints.db"))
        )
        await saver.conn.execute(f"PRAGMA synchronous={SYNCHRONOUS}")
        cluster, helm = await _cluster(settings, stack)
        servers = monitoring(settings.prometheus, settings.alertmanager)
        stack.push_async_callback(servers.close)
        incidents = IncidentStore(database, settings.data_dir / "evidence")
        approvals = ApprovalStore(database)
        usage = UsageStore(database)
        models = Models.from_settings(settings.llm, usage)
        embeddings = Embeddings.from_settings(settings.llm, settings.runbooks.embeddings, usage)
        runbooks = Runbooks.from_settings(settings, embeddings)
        web = SearxNG.from_settings(settings.search)
        notifier = Notifier(settings, database)
        stack.push_async_callback(notifier.close)
        gate = Gate(database, settings.gate, cluster, helm) if cluster else None
        uploads = settings.data_dir / "uploads"
        recall = Recall(Memory(database))
        storms = StormStore(database)
        known = KnownCrashes(database, incidents, settings.core.repeat_seconds)
        core_wait = CoreWait(settings.store, settings.core.patience_seconds)
        analyst = None
        if servers.prometheus is not None:
            analyst = Analyst(incidents, MetricRuns(database), servers.prometheus, models, cluster)
        nodes = Nodes(
            incidents=incidents,
            approvals=approvals,
            drafts=Drafts(database),
            researcher=Researcher(incidents, cluster, models, servers, runbooks, web, recall, PastSteps(database))
            if cluster
            else None,
            gdb_analyst=GdbAnalyst(incidents, settings, uploads, models, known, recall, runbooks),
            fixer=K8sFixer(incidents, gate, helm, recall, storms) if gate else None,
            gate=gate,
            notifier=notifier,
            models=models,
            max_analyses=settings.max_concurrent_analyses,
            core_wait=core_wait,
            analyst=analyst,
        )
        intake = Intake(known, settings, uploads, core_wait)
        runner = Runner(build_graph(nodes, saver), incidents, approvals, gate, intake, notifier)
        core_jobs = CoreJobStore(database)
        watch = None
        if cluster:
            watch = StormWatch(storms, incidents, core_jobs, runner, cluster, settings.instances, settings.policy)
        forecaster = Forecaster(
            settings.forecast, servers.prometheus, settings.data_dir / "forecast", patience=PATIENCE
        )
        stack.push_async_callback(forecaster.close)
        yield Services(
            settings=settings,
            database=database,
            incidents=incidents,
            approvals=approvals,
            audit=AuditLog(database),
            cluster=cluster,
            gate=gate,
            notifier=notifier,
            models=models,
            runner=runner,
            uploads=uploads,
            core_jobs=core_jobs,
            core_events=CoreEvents(core_jobs, runner, cluster, settings.core, uploads),
            storms=storms,
            storm_watch=watch,
            monitoring=servers,
            runbooks=runbooks,
            analyst=analyst,
            forecaster=forecaster,
            scaling=Scaling(gate, incidents, Drafts(database), runner),
        )
        await runner.drain()


async def _cluster(settings: Settings, stack: AsyncExitStack) -> tuple[Cluster | None, Helm | None]:
    try:
        cluster = await Cluster.connect(settings.kubernetes)
    except ToolMissing:
        return None, None
    stack.push_async_callback(cluster.close)
    return cluster, Helm(settings.kubernetes)


def _lock_data_dir(folder: Path, stack: AsyncExitStack) -> None:
    """One service a data directory: SQLite and the checkpoints know no second one."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    (folder / "uploads").mkdir(exist_ok=True)
    lock = stack.enter_context((folder / "service.lock").open("w"))
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise Conflict(f"another service uses {folder}; stop it, or set PARAMEDIC_DATA_DIR") from None
