"""Everything the node agent is made of, opened and run in one place."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import structlog

from collector.agent import Agent, node_name
from collector.announce import Announcer
from collector.coredump_socket import CoredumpSocket
from collector.handler import Handler
from collector.health import Health, listening
from collector.ledger import Ledger
from collector.local_file import LocalFile
from collector.measures import Measures
from collector.outbox import Outbox
from collector.pods import Pods
from collector.programs import Programs
from collector.reduce import Program
from collector.shipper import Shipper
from collector.telling import keep_telling
from errors import Conflict, InvalidInput, NotFound, ParamedicError, ToolFailed, ToolMissing
from incidents.collected import CollectedCore
from settings import Settings
from tools.cloudevents.sink import Sink
from tools.kubernetes.client import Cluster
from tools.objectstore.store import open_store

_TIDY_SECONDS = 60.0
_SCANS = 3
"""Scans that may be missed before the agent counts as not ready, beside the longest look at one core."""

log = structlog.get_logger(__name__)


async def run(settings: Settings, stop: asyncio.Event) -> None:
    """Collect until `stop` is set. Raises InvalidInput (settings) and Conflict (another agent has the data folder)."""
    collector = settings.collector
    if not collector.roots:
        raise InvalidInput("name the folders that cores appear in: collector.roots, or --root")
    folder = settings.data_dir / "collector"
    async with AsyncExitStack() as stack:
        await asyncio.to_thread(_lock, folder, stack)
        cluster = await _cluster(settings, stack)
        outbox = await asyncio.to_thread(Outbox, folder / "outbox.db")
        stack.callback(outbox.close)
        ledger = await asyncio.to_thread(Ledger, folder / "ledger.db")
        stack.callback(ledger.close)
        sink = _sink(settings)
        if sink is not None:
            stack.push_async_callback(sink.close)
        announcer = Announcer(sink, folder / "dead-letters")
        store = await asyncio.to_thread(open_store, settings)
        measures = Measures()
        handler = Handler(collector.handler, outbox, store.where, measures) if collector.handler.command else None
        shipper = Shipper(
            outbox,
            store,
            settings.shipping,
            announcer.announce,
            folder=folder / "staging",
            measures=measures,
            handler=handler,
            roots=collector.roots,
        )
        reserve = settings.shipping.disk_reserve_bytes
        programs = Programs(folder / "programs", collector.proc, collector.image_layers, settings.gdb, reserve=reserve)
        node = node_name(collector)

        async def take(record: CollectedCore, file: LocalFile | None) -> None:
            found: Sequence[Program] = await programs.gather(record)
            try:
                await shipper.take(record, file, tuple(found))
            except ParamedicError:
                measures.failed("collect")
                raise
            measures.collected(record)

        truncated = settings.shipping.local_file == "truncate"
        emptied = outbox.emptied if truncated else lambda _: False
        agent = Agent(collector, settings.gdb, ledger, Pods(cluster, node), take, node=node, emptied=emptied)
        if collector.metrics_port:
            longest = _SCANS * collector.scan_seconds + settings.gdb.deadline
            health = Health(agent, outbox, measures, folder, scan_within=longest, aliases=collector.metrics_aliases)
            answering = listening(collector.metrics_host, collector.metrics_port, health.answers())
            await stack.enter_async_context(answering)
        parts = [agent.run(stop), shipper.run(stop), _tidy(programs, outbox, stop)]
        if collector.socket is not None:
            parts.append(CoredumpSocket(collector.socket, collector.roots[0], collector.proc).serve(stop))
        if collector.tell_node and cluster is not None:
            parts.append(keep_telling(cluster, node, collector, stop))
        log.info("collecting", node=node, folders=[str(root) for root in collector.roots], store=store.where)
        async with asyncio.TaskGroup() as group:
            for part in parts:
                group.create_task(part)


async def _tidy(programs: Programs, outbox: Outbox, stop: asyncio.Event) -> None:
    while not stop.is_set():
        try:
            await asyncio.to_thread(lambda: programs.tidy(_in_use(outbox)))
        except (OSError, ParamedicError) as error:
            log.warning("copies of programs could not be tidied", error=str(error))
        try:
            await asyncio.wait_for(stop.wait(), _TIDY_SECONDS)
        except TimeoutError:
            continue


def _in_use(outbox: Outbox) -> set[Path]:
    found: set[Path] = set()
    for id in outbox.unfinished():
        with contextlib.suppress(ToolFailed, NotFound):  # done meanwhile; or a damaged row, which nobody can deliver
            found |= {program.path for program in outbox.item(id).programs}
    return found


async def _cluster(settings: Settings, stack: AsyncExitStack) -> Cluster | None:
    try:
        cluster = await Cluster.connect(settings.kubernetes)
    except ToolMissing:
        log.info("no cluster: cores are known by their path alone")
        return None
    stack.push_async_callback(cluster.close)
    return cluster


def _sink(settings: Settings) -> Sink | None:
    collector = settings.collector
    if collector.service_url is None:
        return None
    key = collector.service_key.get_secret_value() if collector.service_key else None
    if collector.service_key_file is not None:
        try:
            key = collector.service_key_file.read_text().strip()
        except OSError as error:
            raise InvalidInput(f"collector.service_key_file cannot be read: {error.strerror}") from None
    return Sink(collector.service_url, key)


def _lock(folder: Path, stack: AsyncExitStack) -> None:
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = stack.enter_context((folder / "agent.lock").open("w"))
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise Conflict(f"another agent uses {folder}; stop it, or set PARAMEDIC_DATA_DIR") from None
