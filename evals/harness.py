"""Runs scenarios beside each other, a namespace each, and keeps every result as soon as it is there."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from errors import ParamedicError
from evals.asking import APPROVERS, ask, baseline
from evals.images import build
from evals.metering import Meter, metering
from evals.outside import denying_webhook, registry
from evals.results import Mode, Result, Store
from evals.scenario import Source, outline
from evals.stage import Stage, sweep
from graph.services import Services, open_services
from settings import PrometheusSettings, Settings

_ONE_RUN = 600.0
"""Seconds after which a run is given up."""
Progress = Callable[[Result | None, str], None]
"""Called with (None, what begins) and (a result, its scenario)."""


@dataclass(frozen=True)
class Job:
    source: Source
    mode: Mode
    repetition: int

    @property
    def key(self) -> tuple[str, str, int]:
        return (self.source.name, self.mode, self.repetition)


def jobs(sources: list[Source], repeat: int, baselines: bool) -> list[Job]:
    """Every scenario `repeat` times, round by round; the baselines once, where there is something to repair."""
    found = [Job(source, "paramedic", number) for number in range(repeat) for source in sources]
    if baselines:
        broken = [source for source in sources if outline(source).remedy == "action"]
        found += [Job(source, "do_nothing", 0) for source in broken]
    return found


def settings_for(settings: Settings, folder: Path) -> Settings:
    """The configured cluster and model, with data of its own and approvers that exist here only."""
    gate = settings.gate.model_copy(
        update={
            "approvers": {identity: ["approver"] for identity in APPROVERS},
            "max_executions_per_hour": 10_000,
            "verify_seconds": 120.0,
            "verify_stable_seconds": 6.0,
            "verify_poll_seconds": 0.5,
        }
    )
    return settings.model_copy(update={"data_dir": (folder / "service").absolute(), "gate": gate})


async def evaluate(
    store: Store, todo: list[Job], settings: Settings, *, parallel: int, progress: Progress, hostile: bool = False
) -> None:
    """Run what is not done yet, at most `parallel` namespaces at a time, with hostile text in them where `hostile`.
    Every namespace is removed, also when this is cancelled. Raises ToolMissing where there is no cluster or
    compiler."""
    run_id = hashlib.sha256(str(store.folder.absolute()).encode()).hexdigest()[:12]
    left = [job for job in todo if job.key not in store.done()]
    images = {"busybox"}.union(*(job.source.images() for job in left)) if left else {"busybox"}
    given = await build(images, store.folder / "programs")
    kubeconfig = settings.kubernetes.kubeconfig
    assert kubeconfig is not None, "an evaluation names its cluster by file"
    async with metering(kubeconfig) as (meter, meter_url):
        settings = settings.model_copy(update={"prometheus": PrometheusSettings(url=meter_url)})
        await _evaluate(store, left, settings, given, run_id, meter, parallel, progress, hostile)


async def _evaluate(
    store: Store,
    left: list[Job],
    settings: Settings,
    given: dict[str, str],
    run_id: str,
    meter: Meter,
    parallel: int,
    progress: Progress,
    hostile: bool,
) -> None:
    with registry() as address, denying_webhook() as (url, bundle):
        given |= {"registry": address, "webhook:url": f"{url}/check", "webhook:bundle": bundle}
        given |= {"webhook:security": f"{url}/pod-security"}
        async with open_services(settings_for(settings, store.folder)) as services:
            if services.cluster is None:
                return
            await sweep(services.cluster, run_id)
            await services.runner.start()
            slots = asyncio.Semaphore(parallel)

            async def one(job: Job) -> None:
                async with slots:
                    progress(None, f"{job.source.name} {job.mode.replace('_', ' ')}")
                    for result in await _run(services, job, given, run_id, hostile, store.folder / "kept", meter):
                        store.add(result)
                        progress(result, job.source.name)

            together = [job for job in left if not outline(job.source).alone]
            async with asyncio.TaskGroup() as group:
                for job in together:
                    group.create_task(one(job))
            for job in left:
                if job not in together:
                    await one(job)


async def _run(
    services: Services, job: Job, given: dict[str, str], run_id: str, hostile: bool, kept: Path, meter: Meter
) -> list[Result]:
    """The results of a job. A scenario that could not be set up is told as such, and ends nothing else."""
    assert services.cluster is not None
    try:
        async with (
            asyncio.timeout(_ONE_RUN),
            Stage(services.cluster, job.source, given, run_id, hostile=hostile, meter=meter) as stage,
        ):
            result = blank(job, stage)
            if job.mode == "paramedic":
                await ask(services, stage, result, kept)
                return [result]
            result.passed = await baseline(stage, "do_nothing")
            again = blank(Job(job.source, "blind_restart", job.repetition), stage)
            again.passed = result.passed or await baseline(stage, "blind_restart")
            return [result, again]
    except (ParamedicError, TimeoutError) as error:
        failed = blank(job, None)
        failed.error = str(error)[:500] or type(error).__name__
        return [failed]


def blank(job: Job, stage: Stage | None) -> Result:
    scenario = stage.scenario if stage else outline(job.source)
    return Result(
        scenario=job.source.name,
        group=scenario.group,
        title=scenario.title,
        mode=job.mode,
        repetition=job.repetition,
        truth=scenario.truth,
        remedy=scenario.remedy,
        setup_seconds=stage.setup_seconds if stage else 0.0,
    )


Work = Callable[[], Awaitable[None]]


def run(work: Work) -> bool:
    """Run to the end, or until Ctrl-C, which waits until the namespaces are on their way out. False then."""
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_to_the_end(work))
        return True
    return False


async def _to_the_end(work: Work) -> None:
    await work()
