"""Helm releases that crash, installed by the real helm from a chart written here."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from tests.e2e import manifests as make
from tests.e2e.harness import name as random_name
from tests.e2e.harness import run
from tests.e2e.scenarios import Ground, Workload, quotes, ran_well, wait_crash


def helm(ground: Ground, *arguments: str) -> str:
    return run("helm", *arguments, env={**os.environ, "KUBECONFIG": str(ground.kube.kubeconfig)})


def release_upgraded(ground: Ground) -> Workload:
    """Revision 1 of the release ran well, revision 2 crashes; its core is kept."""
    made, chart = _install(ground, ground.images.quotes, cores=True)
    ran_well(ground, made)
    values = ["--set", f"image={ground.images.quotes_next}"]
    helm(ground, "upgrade", made.more["release"], chart, "-n", made.namespace, "--reuse-values", *values)
    wait_crash(ground, made)
    return made


def release_new(ground: Ground) -> Workload:
    """A release that crashes in its first revision; its core is kept."""
    made, _ = _install(ground, ground.images.quotes_next, cores=True)
    wait_crash(ground, made)
    return made


def release_new_without_core(ground: Ground) -> Workload:
    """The same, and no core is kept anywhere."""
    made, _ = _install(ground, ground.images.quotes_next, cores=False)
    wait_crash(ground, made)
    return made


def failing_releases(ground: Ground) -> dict[str, tuple[str, str]]:
    """Releases whose pods end with an error again and again, by what can be done: namespace and name of each.

    The one that can go back ran well in its first revision.
    """
    made = {}
    for action, commands in (("helm_rollback", ("sleep 900", "exit 3")), ("helm_uninstall", ("exit 3",))):
        namespace, release = ground.namespace(), random_name()
        pod = make.template(make.labels(), [make.container("app", make.BUSYBOX, ["/bin/sh", "-c", "@mode@"])])
        workload = make.deployment(random_name(), pod, replicas=2, strategy={"type": "Recreate"})
        chart = _chart(ground.images.executables.parent, [workload])
        for command in commands:
            values = ["--install", "--wait=false", "--set", f"mode=sleep 1; {command}"]
            helm(ground, "upgrade", release, chart, "-n", namespace, *values)
            if command != commands[-1]:
                ground.kube.wait_ready("Deployment", namespace, workload["metadata"]["name"])
        made[action] = namespace, release
    return made


def _install(ground: Ground, image: str, *, cores: bool) -> tuple[Workload, str]:
    namespace, release, workload = ground.namespace(), random_name(), random_name()
    item = quotes("@image@")
    spec: dict[str, Any] = {}
    if cores:
        item, volume = make.keeping_cores(item, ground.cores.on_node)
        spec["volumes"] = [volume]
    pod = make.template(make.labels(), [*make.companions(1), item], **spec)
    settings = make.config_map(random_name(), {"mode": "@mode@"})
    chart = _chart(ground.images.executables.parent, [make.deployment(workload, pod), settings])
    values = ["--set", f"image={image}", "--set", "mode=fast"]
    helm(ground, "install", release, chart, "-n", namespace, *values)
    return Workload(namespace, workload, item["name"], more={"release": release, "chart": chart}), chart


def _chart(parent: Path, objects: list[dict[str, Any]]) -> str:
    """A chart whose templates are the objects, as JSON (which is YAML); `@x@` becomes the value `x`."""
    folder = parent / f"chart-{random_name()}"
    (folder / "templates").mkdir(parents=True)
    (folder / "Chart.yaml").write_text(f"apiVersion: v2\nname: {random_name()}\nversion: 0.1.0\n")
    (folder / "values.yaml").write_text('image: ""\nmode: ""\n')
    for number, item in enumerate(objects):
        text = json.dumps(item)
        for value in ("image", "mode"):
            text = text.replace(f"@{value}@", f"{{{{ .Values.{value} }}}}")
        (folder / "templates" / f"{number}.yaml").write_text(text)
    return str(folder)
