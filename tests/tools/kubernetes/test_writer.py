"""The bytes that leave: exactly the approved ones, and a dry run that is one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from incidents.plan import DeleteWrite, PatchWrite
from settings import KubernetesSettings
from tests.standins.kube_api import KubeApi
from tests.standins.rollout import deployment
from tools.kubernetes.client import Cluster, ClusterUnreachable, KubernetesError
from tools.kubernetes.writer import Writer, delete_body

BODY = '[{"op":"replace", "path":"/spec/replicas",  "value":3}]'


async def test_a_patch_is_sent_as_it_is_and_its_dry_run_changes_nothing(tmp_path: Path) -> None:
    async with KubeApi() as api:
        made = api.put(deployment("d", "n"))
        write = PatchWrite(
            api_version="apps/v1",
            kind="Deployment",
            namespace="n",
            name="d",
            uid=made["metadata"]["uid"],
            resource_version="1",
            generation=1,
            fingerprint="",
            body=BODY,
        )
        async with await Cluster.connect(
            KubernetesSettings(kubeconfig=api.kubeconfig(tmp_path), request_timeout=60)
        ) as cluster:
            writer = Writer(cluster)
            rehearsed = await writer.patch(write, dry_run=True)
            assert rehearsed["metadata"]["generation"] == 2
            assert api.writes == []
            written = await writer.patch(write, dry_run=False)
            assert written["spec"]["replicas"] == 3
            assert [item.body for item in api.log] == [BODY.encode()] * 2
            api.lose_answers = 1
            with pytest.raises(ClusterUnreachable):
                await writer.patch(write.model_copy(update={"body": BODY.replace("3", "4")}), dry_run=False)
            assert len(api.attempts) == 2  # a write leaves once, answered or not


async def test_a_deletion_names_its_uid_and_asks_for_the_dry_run_in_the_body(tmp_path: Path) -> None:
    async with KubeApi() as api:
        made = api.put({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "namespace": "n"}})
        fields = {"api_version": "v1", "kind": "ConfigMap", "namespace": "n", "name": "c"}
        write = DeleteWrite(
            **fields, uid=made["metadata"]["uid"], resource_version="", fingerprint="", grace_period_seconds=5
        )
        async with await Cluster.connect(
            KubernetesSettings(kubeconfig=api.kubeconfig(tmp_path), request_timeout=60)
        ) as cluster:
            writer = Writer(cluster)
            await writer.delete(write, dry_run=True)
            assert api.get("ConfigMap", "n", "c")
            with pytest.raises(KubernetesError, match="409"):
                await writer.delete(write.model_copy(update={"uid": "other"}), dry_run=False)
            assert api.get("ConfigMap", "n", "c")
            api.lose_answers = 1
            with pytest.raises(ClusterUnreachable):
                await writer.delete(write, dry_run=False)
            assert len(api.attempts) == 2
    options = json.loads(delete_body(write, dry_run=True))
    assert options.pop("dryRun") == ["All"]
    assert options == json.loads(delete_body(write, dry_run=False))
    assert options["preconditions"] == {"uid": write.uid}
    assert options["gracePeriodSeconds"] == 5
