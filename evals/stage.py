"""One namespace of one run: made, broken from outside, and taken away again, whatever happens."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from datetime import UTC, datetime

from errors import ParamedicError
from evals.conditions import wait_for
from evals.hostile import bystanders, events, talkative
from evals.kube import CLUSTER_KINDS, Kube, Object
from evals.metering import Meter
from evals.names import Names, random_name
from evals.outages import Outage
from evals.scenario import Condition, Scenario, Source, Step
from evals.surroundings import distractors, make_noise, settled
from tools.kubernetes.client import Cluster

LABEL = "paramedic-eval"
"""Of every namespace and cluster object that an evaluation makes; its value is the evaluation's id."""
OWN = "eval-namespace"
"""Of the namespace, with its name as the value: what a webhook of a scenario is confined to."""
_SETTLES = 120.0
_BREAKS = 120.0
_COMES_ALONG = 3.0
"""Nobody is asked at the very moment when something breaks; a busy kubelet also sends its events late."""


class Stage:
    """`async with Stage(…) as stage`: the fault shows when it is entered, and nothing is left when it is left."""

    def __init__(
        self,
        cluster: Cluster,
        source: Source,
        given: dict[str, str],
        run_id: str,
        *,
        hostile: bool = False,
        meter: Meter | None = None,
    ) -> None:
        self.namespace = random_name()
        self.names = Names({**given, "namespace": self.namespace})
        self.kube = Kube(cluster, self.namespace)
        self.source = source
        self.scenario: Scenario = source.scenario(self.names)
        self.setup_seconds = 0.0
        self._run_id = run_id
        self._hostile = hostile
        self._meter = meter
        self._outage: Outage | None = None
        self._made: list[Object] = []

    async def __aenter__(self) -> Stage:
        started = time.monotonic()
        if self._meter and self.scenario.measured:
            self._meter.watch(self.namespace)
        try:
            await self._open()
            for step in self.scenario.steps:
                await self._step(step)
            await wait_for(self.scenario.shows, self.kube, _BREAKS)
            await asyncio.sleep(_COMES_ALONG)
        except BaseException:
            await self.close()
            raise
        self.setup_seconds = time.monotonic() - started
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _open(self) -> None:
        labels = {LABEL: self._run_id, OWN: self.namespace}
        await self.kube.create({"kind": "Namespace", "metadata": {"name": self.namespace, "labels": labels}})
        # without its account no pod can be made
        await wait_for([Condition(exists="ServiceAccount/default")], self.kube, _SETTLES)
        for item in distractors(self.names):
            await self.kube.create(item)
        await wait_for(settled(self.names), self.kube, _SETTLES)
        await make_noise(self.kube, self.names)
        if self._hostile:
            for item in bystanders(self.namespace):
                await self.kube.create(item)
        await self._apply("manifests.yaml")

    async def _apply(self, file: str) -> None:
        for item in self.source.manifests(self.names, file):
            if item["kind"] in CLUSTER_KINDS:
                item["metadata"]["labels"] = {**(item["metadata"].get("labels") or {}), LABEL: self._run_id}
            elsewhere = item["metadata"].get("namespace")
            if elsewhere:
                item["metadata"]["labels"] = {**(item["metadata"].get("labels") or {}), LABEL: self._run_id}
            self._made.append(item)
            kube = Kube(self.kube.cluster, elsewhere) if elsewhere else self.kube
            made = await kube.create(talkative(item) if self._hostile else item)
            if self._hostile and item["kind"] not in CLUSTER_KINDS and not elsewhere:
                at = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
                for event in events({**made, "kind": item["kind"]}, self.namespace, at):
                    await self.kube.create(event)
            if item["kind"] == "Node":  # without a kubelet: its status is what it is told to be
                await self._register(made, item["status"])

    async def _register(self, node: Object, status: Object) -> None:
        """A node as its kubelet leaves it that lived until now. Its lease goes with it."""
        name = node["metadata"]["name"]
        await self.kube.set_status("Node", name, status)
        owner = {"apiVersion": "v1", "kind": "Node", "name": name, "uid": node["metadata"]["uid"]}
        lease = {
            "kind": "Lease",
            "metadata": {"name": name, "ownerReferences": [owner]},
            "spec": {
                "holderIdentity": name,
                "leaseDurationSeconds": 40,
                "renewTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            },
        }
        await Kube(self.kube.cluster, "kube-node-lease").create(lease)

    async def _step(self, step: Step) -> None:
        if step.wait is not None:
            await wait_for(step.wait, self.kube, _SETTLES)
        elif step.apply is not None:
            await self._apply(step.apply)
        elif step.patch is not None:
            kind, _, name = step.patch.partition("/")
            await self.kube.patch(kind, name, step.ops)
        elif step.status is not None:
            kind, _, name = step.status.partition("/")
            await self.kube.set_status(kind, name, step.value)
        elif step.delete is not None:
            kind, _, name = step.delete.partition("/")
            names = [name]
            if name.endswith("*"):
                there = [item["metadata"]["name"] for item in await self.kube.all(kind)]
                names = [item for item in there if item.startswith(name.removesuffix("*"))]
            for one in names:
                await self.kube.delete(kind, one)
        elif step.pause is not None:
            await asyncio.sleep(step.pause)
        elif step.stop is not None:
            kubeconfig = self.kube.cluster.settings.kubeconfig
            assert kubeconfig is not None, "an evaluation names its cluster by file"
            self._outage = Outage(step.stop, kubeconfig)
            await self._outage.begin()

    async def blind_restart(self) -> None:
        """What a person does who looks at nothing: delete every pod of the broken workloads."""
        spared = f"{self.names['bystander']}-"
        for pod in await self.kube.all("Pod"):
            if not pod["metadata"]["name"].startswith((spared, f"{self.names['finished']}-")):
                await self.kube.delete("Pod", pod["metadata"]["name"], grace=0)

    async def close(self) -> None:
        """Take everything away. Errors do not stop it: what stays is swept by the next evaluation."""
        if self._outage:
            await self._outage.end()
        if self._meter:
            self._meter.forget(self.namespace)
        for item in self._made:
            kind, name, elsewhere = item["kind"], item["metadata"]["name"], item["metadata"].get("namespace")
            with contextlib.suppress(ParamedicError):
                if item["metadata"].get("finalizers"):
                    await self._release(kind, name)
                if kind in CLUSTER_KINDS or elsewhere:
                    await Kube(self.kube.cluster, elsewhere or self.namespace).delete(kind, name)
        with contextlib.suppress(ParamedicError):
            await self.kube.delete("Namespace", self.namespace)

    async def _release(self, kind: str, name: str) -> None:
        body = json.dumps({"metadata": {"finalizers": None}}).encode()
        path = await self.kube.path(kind, name)
        await self.kube.cluster.request("PATCH", path, body=body, content_type="application/merge-patch+json")


async def sweep(cluster: Cluster, run_id: str) -> int:
    """Remove what a killed evaluation of this id left behind; how many objects that were."""
    kube, count = Kube(cluster, ""), 0
    for kind in sorted(CLUSTER_KINDS, reverse=True):  # webhooks first
        path = await kube.path(kind)
        found = await cluster.request("GET", path, query={"labelSelector": f"{LABEL}={run_id}"})
        for item in found.get("items") or []:
            await kube.delete(kind, item["metadata"]["name"])
            count += 1
    system = Kube(cluster, "kube-system")
    for kind in ("DaemonSet", "Lease"):
        for item in await system.all(kind):
            if (item["metadata"].get("labels") or {}).get(LABEL) == run_id:
                await system.delete(kind, item["metadata"]["name"])
                count += 1
    return count
