"""What is read beside the cluster's objects, as far as it is configured: memory, own steps, runbooks, a model, the web.

Nothing of it takes a cause away or reads more of the cluster than a model may ask for.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from agents.inquiry import Report
from agents.read_tools import cluster_tools, objects_of, snapshot_tools
from agents.reading import read_with_model
from agents.recall import Recall
from agents.runbooks import runbook_tool, with_runbooks
from agents.told_before import with_own_steps
from agents.tool_loop import ReadTool
from agents.web import private_names, web_tool
from diagnosis.workloads.snapshot import Snapshot
from incidents.database import Database
from incidents.memory import Memory
from incidents.models import Diagnosis, Incident
from incidents.past_steps import PastSteps
from incidents.usage import UsageStore
from settings import Settings
from tools.kubernetes.client import Cluster
from tools.llm.embeddings import Embeddings
from tools.llm.models import Models
from tools.runbooks.library import Runbooks
from tools.searxng.client import SearxNG


@dataclass(frozen=True)
class Beside:
    """What is configured; None for what is not."""

    models: Models | None = None
    runbooks: Runbooks | None = None
    web: SearxNG | None = None
    recall: Recall | None = None
    past: PastSteps | None = None

    async def read(
        self, incident: Incident, found: Diagnosis, snapshot: Snapshot, *, cluster: Cluster | None, report: Report
    ) -> Diagnosis:
        """`found`, the rules' diagnosis of a snapshot, with what these add. A model may ask `cluster` where one is
        given, and the snapshot."""
        spaces = [incident.target.namespace or "default"]
        if self.recall:
            found = await self.recall.of_workload(incident, found, snapshot)
        found = await with_own_steps(self.past, incident, found)
        found = await with_runbooks(self.runbooks, incident, found)
        tools = [
            *(cluster_tools(cluster, spaces) if cluster else []),
            *snapshot_tools(snapshot, spaces, found.timeline),
            *await self._library(incident, found, snapshot),
        ]
        return await read_with_model(
            self.models,
            agent="researcher",
            incident=incident,
            diagnosis=found,
            tools=tools,
            report=report,
            objects=objects_of(snapshot, spaces),
        )

    async def _library(self, incident: Incident, found: Diagnosis, snapshot: Snapshot) -> list[ReadTool]:
        """What a model may look up beside the cluster."""
        tools = [runbook_tool(self.runbooks, incident.id)] if self.runbooks else []
        if self.models and self.web:
            names = await asyncio.to_thread(private_names, incident, found, snapshot)
            tools.append(web_tool(self.web, names))
        return tools


@asynccontextmanager
async def beside_from(settings: Settings) -> AsyncIterator[Beside | None]:
    """What the settings and the data directory have, for a command that is no service; None where that is nothing.

    A database is opened where one is; one is made only for a model, whose budget it keeps. Raises ToolFailed when it
    cannot be opened.
    """
    known = await asyncio.to_thread(Path(settings.data_dir, "paramedic.db").exists)
    asks = settings.llm.model is not None
    if not known and not asks and settings.runbooks.folder is None:
        yield None
        return
    async with AsyncExitStack() as stack:
        database = None
        if known or asks:
            database = await Database.open(settings.sqlalchemy_url)
            stack.push_async_callback(database.close)
        usage = UsageStore(database) if database else None
        embeddings = Embeddings.from_settings(settings.llm, settings.runbooks.embeddings, usage) if usage else None
        yield Beside(
            models=Models.from_settings(settings.llm, usage) if usage else None,
            runbooks=Runbooks.from_settings(settings, embeddings),
            web=SearxNG.from_settings(settings.search),
            recall=Recall(Memory(database)) if database else None,
            past=PastSteps(database) if database else None,
        )
