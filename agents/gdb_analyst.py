"""The gdb-analyst: what a core dump says, and which core belongs to the incident."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

from agents.known_crashes import KnownCrashes
from agents.read_tools import core_tools
from agents.reading import read_with_model
from agents.recall import Recall
from agents.runbooks import with_runbooks
from diagnosis.crashes.identity import identity_of
from diagnosis.crashes.value import value_score
from diagnosis.merge import CODE_FAULTS
from errors import ParamedicError
from incidents.models import CoreRef, Diagnosis, DiagnosisStatus, Incident
from incidents.store import IncidentStore
from settings import Settings
from tools.cores.identity import identify
from tools.cores.node import find_node_cores
from tools.cores.opening import LocalCore, open_core
from tools.debuginfod.client import configured
from tools.gdb.analysis import analyze_core
from tools.gdb.indexes import keep_indexes
from tools.gdb.look import look_at_core
from tools.llm.models import Models
from tools.objectstore.failures import StoreDenied, StoreUnreachable
from tools.runbooks.library import Runbooks
from tools.source import with_source


class GdbAnalyst:
    """Finds the incident's core (named by the caller, or on the node folder) and reads it with gdb."""

    def __init__(
        self,
        incidents: IncidentStore,
        settings: Settings,
        uploads: Path,
        models: Models | None,
        crashes: KnownCrashes | None = None,
        recall: Recall | None = None,
        runbooks: Runbooks | None = None,
    ) -> None:
        self._recall = recall
        self._runbooks = runbooks
        self._crashes = crashes
        self._incidents = incidents
        self._settings = settings
        self._uploads = uploads
        self._models = models
        self._indexing = asyncio.Lock()
        self._working: set[asyncio.Future[None]] = set()

    async def has_core(self, incident: Incident, known: Diagnosis | None) -> bool:
        """Whether there is a core to read: the caller named one, or the crashed container left one."""
        return incident.core is not None or await self._on_node(incident, known) is not None

    async def run(self, incident: Incident, known: Diagnosis | None, *, programs_may_miss: bool = False) -> Diagnosis:
        """Analyse the core. One that cannot be used gives a failed diagnosis with the reason.

        Raises nothing but StoreUnreachable and StoreDenied, for a core in our store that cannot be fetched now, or,
        unless `programs_may_miss`, its programs.
        """
        try:
            return await self._analyse(incident, known, programs_may_miss)
        except (StoreUnreachable, StoreDenied):
            raise
        except ParamedicError as error:
            return unread(error)

    async def _analyse(self, incident: Incident, known: Diagnosis | None, programs_may_miss: bool) -> Diagnosis:
        settings = self._settings
        ref = incident.core
        trusted = False
        if ref is None:
            path = await self._on_node(incident, known)
            if path is None:
                return Diagnosis(status=DiagnosisStatus.FAILED, unseen=["the core dump is no longer there"])
            ref, trusted = CoreRef(path=str(path)), True  # found by us, not named by a caller
        async with open_core(
            ref,
            settings.core,
            self._uploads,
            store=settings.store,
            any_path=trusted,
            programs_may_miss=programs_may_miss,
        ) as local:
            own = await self._look(local) if self._crashes else None
            if own and self._crashes and not incident.force and (same := await self._crashes.recall(incident, own)):
                text = "the crash is known: it is named after the first one, without a debugger or a model"
                await self._incidents.add_step(incident.id, "crash.known", text, agent="gdb_analyst")
                found = local.described(same)
                if incident.target.kind != "Process":  # only the gate asks for the hash, and it is most of the work
                    found = await _hashed(found, local.core)
                found = await self._placed(incident, found, known, own)
                await self._incidents.save_evidence(incident.id, found.evidence)
                return found
            debuginfod = configured(settings)
            analysis = await analyze_core(
                local.core,
                executable=local.executable,
                settings=settings.gdb,
                sysroot=local.sysroot,
                debug_dirs=[*([local.debug_dir] if local.debug_dir else []), *settings.core.debug_dirs],
                executable_dirs=[*local.executable_dirs, *settings.core.executable_dirs],
                debuginfod=debuginfod,
            )

            if analysis.not_indexed:
                task = asyncio.ensure_future(self._index(analysis.not_indexed))
                self._working.add(task)  # nobody waits for it: it only saves time later
                task.add_done_callback(self._working.discard)

            async def report(text: str, type: str = "tool.called", data: dict[str, object] | None = None) -> None:
                await self._incidents.add_step(incident.id, type, text, agent="gdb_analyst", data=data)

            read = local.described(analysis.diagnosis)
            unasked = await self._not_worth_a_model(incident, read, known, own)
            if unasked is not None:
                await report(unasked, "model.skipped")
                read = read.model_copy(update={"unseen": [*read.unseen, unasked]})
            found = await read_with_model(
                self._models if unasked is None else None,
                agent="gdb_analyst",
                incident=incident,
                diagnosis=read,
                tools=core_tools(
                    core=local.core,
                    executable=local.executable,
                    settings=settings.gdb,
                    sysroot=local.sysroot,
                    debug_dirs=[
                        *([local.debug_dir] if local.debug_dir else []),
                        *settings.core.debug_dirs,
                        *([debuginfod.folder] if debuginfod else []),
                    ],
                    executable_dirs=[*local.executable_dirs, *settings.core.executable_dirs],
                ),
                report=report,
                whole=analysis.whole,
            )
            found = await _hashed(found, local.core)
            found = await asyncio.to_thread(with_source, found, settings.core.source_dirs, as_named=False)
            found = await self._placed(incident, found, known, own, analysed=_complete(found))
        await self._incidents.save_evidence(incident.id, found.evidence, analysis.whole)
        return found

    async def _not_worth_a_model(
        self, incident: Incident, found: Diagnosis, known: Diagnosis | None, own: Diagnosis | None
    ) -> str | None:
        """Why the crash is not given to the model; None when it is, or when there is none."""
        least = self._settings.llm.min_value
        if self._models is None or not least or found.crash is None:
            return None
        placed = (await self._placed_only(incident, found, known, own)).crash or found.crash
        value = (placed.value_score or value_score(found.crash)).total
        if value >= least:
            return None
        return f"the model was not asked: the crash's value is {value:g} of 10, below llm.min_value ({least:g})"

    async def _index(self, files: Mapping[str, Path]) -> None:
        async with self._indexing:
            await keep_indexes(files, self._settings.gdb)

    async def _look(self, local: LocalCore) -> Diagnosis | None:
        """The core without a debugger; None when that alone fails: the whole analysis will say why."""
        settings = self._settings
        try:
            return await look_at_core(
                local.core,
                executable=local.executable,
                settings=settings.gdb,
                sysroot=local.sysroot,
                debug_dirs=[*([local.debug_dir] if local.debug_dir else []), *settings.core.debug_dirs],
                executable_dirs=[*local.executable_dirs, *settings.core.executable_dirs],
            )
        except ParamedicError:
            return None

    async def _placed(
        self,
        incident: Incident,
        found: Diagnosis,
        workload: Diagnosis | None,
        own: Diagnosis | None,
        *,
        analysed: bool = False,
    ) -> Diagnosis:
        if self._crashes is None:
            return found
        found = await self._placed_only(incident, found, workload, own, analysed=analysed)
        found = await self._recall.of_crash(incident, found, workload) if self._recall else found
        return await with_runbooks(self._runbooks, incident, found, beside=workload)

    async def _placed_only(
        self,
        incident: Incident,
        found: Diagnosis,
        workload: Diagnosis | None,
        own: Diagnosis | None,
        *,
        analysed: bool = False,
    ) -> Diagnosis:
        """With the crash's group and value, and nothing else; it may be asked for twice."""
        if self._crashes is None:
            return found
        identity = identity_of(own.crash) if own and own.crash else None
        return await self._crashes.placed(incident, found, workload, identity, analysed=analysed)

    async def _on_node(self, incident: Incident, known: Diagnosis | None) -> Path | None:
        """The newest core of the crashed container on the node folder."""
        folder = self._settings.core.node_dir
        if folder is None or known is None or incident.target.namespace is None:
            return None
        for cause in known.causes:
            uid = cause.facts.get("pod_uid")
            if cause.cause_class in CODE_FAULTS and isinstance(uid, str):
                cores = await asyncio.to_thread(
                    find_node_cores, folder, incident.target.namespace, [uid], cause.object.container
                )
                if cores:
                    return cores[0]
        return None


def unread(why: object) -> Diagnosis:
    """The diagnosis of a core that was not read."""
    return Diagnosis(status=DiagnosisStatus.FAILED, unseen=[f"the core dump could not be read: {why}"])


def _complete(found: Diagnosis) -> bool:
    """Whether the report is good enough to name later crashes after it."""
    crash = found.crash
    return crash is not None and crash.status == "OK" and crash.executable_match in ("exact", "unchecked")


async def _hashed(found: Diagnosis, core: Path) -> Diagnosis:
    """With the core's hash, which the analysis leaves out of large ones: the gate asks whether the core is captured."""
    if found.crash is None or found.crash.core.sha256 is not None:
        return found
    identity = await asyncio.to_thread(identify, core)
    whole = found.crash.core.model_copy(update={"sha256": identity.sha256})
    return found.model_copy(update={"crash": found.crash.model_copy(update={"core": whole})})
