"""`paramedic diagnose snapshot`, `paramedic diagnose workload`, `paramedic snapshot`: what a cluster's objects show."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from diagnosis.workloads.snapshot import Snapshot
    from incidents.models import Diagnosis, ObjectRef

_KINDS = {
    "Deployment": ("deployment", "deployments", "deploy"),
    "StatefulSet": ("statefulset", "statefulsets", "sts"),
    "DaemonSet": ("daemonset", "daemonsets", "ds"),
    "ReplicaSet": ("replicaset", "replicasets", "rs"),
    "Job": ("job", "jobs"),
    "CronJob": ("cronjob", "cronjobs", "cj"),
    "Pod": ("pod", "pods", "po"),
    "Service": ("service", "services", "svc"),
    "Ingress": ("ingress", "ingresses", "ing"),
    "PersistentVolumeClaim": ("persistentvolumeclaim", "persistentvolumeclaims", "pvc"),
    "HorizontalPodAutoscaler": ("horizontalpodautoscaler", "horizontalpodautoscalers", "hpa"),
}
"""Kinds that can be diagnosed, with the names that kubectl takes for them."""

Symptom = Annotated[str, typer.Option("--symptom", help="What was noticed, in your own words")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout")]
RulesOnly = Annotated[
    bool, typer.Option("--rules-only", help="Without runbooks, memory of incidents, web and model, whatever is set up")
]


def snapshot(
    path: Annotated[Path, typer.Argument(help="File or folder of `kubectl get -o json` output, logs beside it")],
    namespace: Annotated[str | None, typer.Option("--namespace", "-n", help="Only this namespace")] = None,
    symptom: Symptom = "",
    rules_only: RulesOnly = False,
    as_json: Json = False,
) -> None:
    """Diagnose saved cluster objects; no cluster is needed.

    Runbooks, a model, and the incidents of the data directory are read too where there are any.

    Exit status: 0 diagnosed or healthy, 1 unknown, 2 the input cannot be used, 3 internal error.
    """
    from diagnosis.workloads.diagnose import diagnose
    from diagnosis.workloads.load import load_snapshot
    from incidents.models import ObjectRef

    loaded = load_snapshot(path)
    gc.freeze()  # none of it is garbage before the answer: the collector need not walk through it again and again
    found = diagnose(loaded, namespace=namespace, symptom=symptom)
    if not rules_only:
        space = namespace or loaded.focus
        target = ObjectRef(kind="Namespace", namespace=space, name=space or "default")
        found = _read_on(found, loaded, target, symptom)
    _answer(found, as_json)


def workload(
    kind_name: Annotated[str, typer.Argument(metavar="KIND/NAME", help="Such as deployment/web or pod/web-0")],
    namespace: Annotated[str, typer.Option("--namespace", "-n", help="Its namespace")],
    symptom: Symptom = "",
    rules_only: RulesOnly = False,
    as_json: Json = False,
) -> None:
    """Diagnose a workload, a pod, a service, an ingress, a claim or an autoscaler of a live cluster. Reads only.

    Runbooks, a model, and the incidents of the data directory are read too where there are any.

    Exit status: 0 diagnosed or healthy, 1 unknown, 2 bad usage, 3 internal error or no cluster.
    """
    from diagnosis.workloads.diagnose import diagnose

    target = target_of(kind_name, namespace)
    captured = _capture(namespace, target)
    gc.freeze()
    found = diagnose(captured, target=target, namespace=namespace, symptom=symptom)
    if not rules_only:
        found = _read_on(found, captured, target, symptom, live=True)
    _answer(found, as_json)


def save_snapshot(
    namespace: Annotated[str, typer.Option("--namespace", "-n", help="What to save")],
    output: Annotated[Path, typer.Option("--output", "-o", help="A new or empty folder")],
) -> None:
    """Save a namespace as files, redacted: what `paramedic diagnose snapshot` reads and tickets can carry."""
    from tools.kubernetes.save import require_empty
    from tools.kubernetes.save import save_snapshot as save

    require_empty(output)
    found = _capture(namespace, None)
    files = save(found, output)
    for line in found.unseen:
        typer.echo(f"not seen: {line}", err=True)
    typer.echo(f"{len(files)} files in {output}", err=True)


def target_of(kind_name: str, namespace: str) -> ObjectRef:
    """`deploy/web` as an object reference. Raises InvalidInput for another form or kind."""
    from errors import InvalidInput
    from incidents.models import ObjectRef

    kind, slash, name = kind_name.partition("/")
    known = next((known for known, names in _KINDS.items() if kind.lower() in names), None)
    if not slash or not name or "/" in name:
        raise InvalidInput(f"{kind_name[:100]!r} is not KIND/NAME, such as deployment/web")
    if known is None:
        raise InvalidInput(f"kind {kind[:60]!r} cannot be diagnosed; one of {', '.join(_KINDS)} can")
    return ObjectRef(kind=known, namespace=namespace, name=name)


def _capture(namespace: str, target: ObjectRef | None) -> Snapshot:
    import asyncio

    from rich.console import Console

    from settings import load_settings
    from tools.kubernetes.capture import capture
    from tools.kubernetes.client import Cluster
    from tools.prometheus.measure import monitoring

    taken: list[Snapshot] = []

    async def run() -> None:  # returns nothing: asyncio.run makes a repr of what its task returned
        settings = load_settings()
        async with (
            await Cluster.connect(settings.kubernetes) as cluster,
            monitoring(settings.prometheus, settings.alertmanager) as servers,
        ):
            with Console(stderr=True).status(f"reading namespace {namespace}"):
                taken.append(await capture(cluster, namespace, target, servers))

    asyncio.run(run())
    return taken.pop()


def _read_on(found: Diagnosis, snapshot: Snapshot, target: ObjectRef, symptom: str, *, live: bool = False) -> Diagnosis:
    """What the service would add: memory, runbooks, and a model, which may ask a `live` cluster. What of it cannot be
    used is said in `unseen`."""
    from settings import load_settings

    settings = load_settings()
    if not settings.llm.model and not settings.runbooks.folder and not (settings.data_dir / "paramedic.db").exists():
        return found
    import asyncio
    from contextlib import AsyncExitStack

    from agents.beside import beside_from
    from errors import ParamedicError
    from incidents.database import utcnow
    from incidents.models import Incident, IncidentStatus, Via, new_id
    from terminal.plain import plain
    from tools.kubernetes.client import Cluster

    now, results = utcnow(), [found]
    incident = Incident(
        id=new_id("cli"),
        created_at=now,
        updated_at=now,
        status=IncidentStatus.ANALYSING,
        target=target,
        event=symptom,
        requested_by="local",
        via=Via.CLI,
    )

    async def report(text: str, type: str = "tool.called", data: dict[str, object] | None = None) -> None:
        typer.echo(plain(text), err=True)

    async def run() -> None:  # returns nothing: asyncio.run makes a repr of what its task returned
        async with AsyncExitStack() as stack:
            beside = await stack.enter_async_context(beside_from(settings))
            if beside is not None:
                asks = live and beside.models is not None
                cluster = await stack.enter_async_context(await Cluster.connect(settings.kubernetes)) if asks else None
                results.append(await beside.read(incident, found, snapshot, cluster=cluster, report=report))

    try:
        asyncio.run(run())
    except ParamedicError as error:
        return found.model_copy(update={"unseen": [*found.unseen, f"only the rules were asked: {error}"]})
    return results[-1]


def _answer(diagnosis: Diagnosis, as_json: bool) -> None:
    from incidents.models import DiagnosisStatus

    if as_json:
        typer.echo(diagnosis.model_dump_json(by_alias=True, indent=2))
    else:
        from rich.console import Console

        from terminal.render import show_diagnosis

        show_diagnosis(Console(highlight=False, soft_wrap=True), diagnosis)
    if diagnosis.status not in (DiagnosisStatus.DIAGNOSED, DiagnosisStatus.HEALTHY):
        raise typer.Exit(1)
