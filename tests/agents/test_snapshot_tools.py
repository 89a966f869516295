"""The tools over a snapshot, on snapshots of a real cluster: what they show; unknown is never told as absent."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from agents.read_tools.snapshot import objects_of, snapshot_tools
from agents.tool_loop import Reading, ReadTool
from diagnosis.workloads.fields import text
from diagnosis.workloads.snapshot import Snapshot
from errors import NotFound, Refused
from incidents.models import Moment, MomentKind
from tests.snapshot_cases import loaded, truth

AT = datetime(2026, 1, 1, tzinfo=UTC)


class Case:
    """The tools on one captured case; `cause` is the object that its fault lies in."""

    def __init__(self, name: str) -> None:
        self.snapshot = loaded(name)
        self.cause = truth(name).get("object") or {}
        self.namespace = truth(name)["namespace"]
        self.tools = tools_of(self.snapshot, self.namespace)

    async def ask(self, tool: str, **args: Any) -> str:
        return (await self.read(tool, **args)).text

    async def read(self, tool: str, **args: Any) -> Reading:
        if "namespace" in self.tools[tool].args.model_fields:
            args = {"namespace": self.namespace, **args}
        found = await self.tools[tool].run(self.tools[tool].args.model_validate(args))
        assert isinstance(found, Reading)
        return found


def tools_of(snapshot: Snapshot, *namespaces: str, timeline: list[Moment] | None = None) -> dict[str, ReadTool]:
    return {tool.name: tool for tool in snapshot_tools(snapshot, namespaces, timeline or [])}


def only(snapshot: Snapshot, kind: str, namespace: str) -> str:
    return text(snapshot.all(kind, namespace)[0], "metadata", "name")


async def test_what_stands_behind_a_service() -> None:
    case = Case("service_selector_value")
    name = case.cause["name"]
    read = await case.read("get_endpoints", name=name)
    assert "selected pods: 0" in read.text and "Endpoints: no address" in read.text and "port 80 to web" in read.text
    assert name in (read.source or "") and [ref.name for ref in read.objects] == [name]
    well = next(
        text(item, "metadata", "name")
        for item in case.snapshot.all("Service", case.namespace)
        if text(item, "metadata", "name") != name
    )
    shown = await case.ask("get_endpoints", name=well)
    assert "ready=True declares web=8080" in shown and "Endpoints ready: 10." in shown


async def test_what_a_workload_refers_to() -> None:
    case = Case("missing_config_key")
    shown = await case.ask("get_references", kind="Deployment", name=only(case.snapshot, "Deployment", case.namespace))
    assert "key log-level (is not there): exists" in shown
    config = only(case.snapshot, "ConfigMap", case.namespace)
    assert (await case.ask("get_config_keys", name=config)).split() == ["loglevel", "mode"]


async def test_what_an_address_leads_to() -> None:
    case = Case("address_wrong_port")
    shown = await case.ask("get_references", kind="Deployment", name=case.cause["name"])
    assert "which does not offer this port" in shown
    assert ":8000 in /spec/containers/0/env/0/value: Service" in shown


async def test_what_the_newest_revision_changed() -> None:
    case = Case("bad_rollout")
    shown = await case.ask("get_revisions", kind="Deployment", name=case.cause["name"])
    assert "revision 2 (current)" in shown and "changes from revision 1 to 2:" in shown
    assert '-      "value": "stable"' in shown and '+      "value": "turbo"' in shown
    with pytest.raises(NotFound, match="no revisions"):
        await case.ask("get_revisions", kind="Pod", name=only(case.snapshot, "Pod", case.namespace))


async def test_how_pods_ended() -> None:
    case = Case("oom_killed")
    shown = await case.ask("get_pods", kind="Deployment", name=case.cause["name"])
    assert "last ended OOMKilled exitCode=137" in shown and "restarts=" in shown


async def test_nodes_and_quotas() -> None:
    case = Case("node_kubelet_down")
    name = case.cause["name"]
    shown = await case.ask("get_node", name=name)
    assert "Ready=Unknown" in shown and "taint node.kubernetes.io/unreachable:NoExecute" in shown
    assert "lease renewed" in shown
    assert "pods 1 of 1" in await Case("quota_exceeded").ask("get_quota")
    assert await case.ask("get_quota") == "(none)"


async def test_the_timeline() -> None:
    moments = [
        Moment(at=AT.replace(hour=hour), kind=MomentKind.ROLLOUT, text=f"revision {hour}", evidence_ids=["ev_0"])
        for hour in (1, 2, 3)
    ]
    tools = tools_of(loaded("healthy"), "shop", timeline=moments)
    tool = tools["get_timeline"]
    for args, shown in (({}, 3), ({"since": "2026-01-01T02:00:00"}, 2), ({"contains": "revision 3"}, 1)):
        read = await tool.run(tool.args.model_validate(args))
        assert isinstance(read, Reading) and read.text.count("revision") == shown
    assert "get_timeline" not in tools_of(loaded("healthy"), "shop")


def test_what_a_hypothesis_may_be_about() -> None:
    case = Case("bad_rollout")
    found = objects_of(case.snapshot, [case.namespace])
    assert f"Deployment {case.namespace}/{case.cause['name']}" in map(str, found)
    assert {"Deployment", "Node"} <= {ref.kind for ref in found}
    assert not {"Pod", "ReplicaSet"} & {ref.kind for ref in found}  # a Deployment makes them
    assert {ref.namespace for ref in found} == {case.namespace, None}


async def test_what_was_not_read_is_unknown() -> None:
    case = Case("missing_config_key")
    pods = [item for item in case.snapshot.items() if item["kind"] in ("Pod", "Deployment")]
    tools = tools_of(Snapshot(pods), case.namespace)
    name = only(case.snapshot, "Deployment", case.namespace)
    asked = tools["get_references"].args.model_validate(
        {"kind": "Deployment", "namespace": case.namespace, "name": name}
    )
    read = await tools["get_references"].run(asked)
    assert isinstance(read, Reading) and "key log-level: was not read" in read.text
    for tool, args in (
        ("get_config_keys", {"namespace": case.namespace, "name": "x"}),
        ("get_endpoints", {"namespace": case.namespace, "name": "x"}),
        ("get_node", {"name": "x"}),
    ):
        with pytest.raises(NotFound, match="was not read"):
            await tools[tool].run(tools[tool].args.model_validate(args))
    quota = await tools["get_quota"].run(tools["get_quota"].args.model_validate({"namespace": case.namespace}))
    assert isinstance(quota, Reading) and quota.text == "ResourceQuota was not read\nLimitRange was not read"


async def test_other_namespaces_are_refused() -> None:
    case = Case("healthy")
    for tool, args in (
        ("get_pods", {"kind": "Deployment", "name": "x"}),
        ("get_endpoints", {"name": "x"}),
        ("get_references", {"kind": "Pod", "name": "x"}),
        ("get_revisions", {"kind": "Deployment", "name": "x"}),
        ("get_config_keys", {"name": "x"}),
        ("get_quota", {}),
    ):
        with pytest.raises(Refused):
            await case.ask(tool, **{**args, "namespace": "kube-system"})


async def test_a_huge_namespace_is_bounded() -> None:
    case = Case("oom_killed")
    quotas = [
        {
            "apiVersion": "v1",
            "kind": "ResourceQuota",
            "metadata": {"namespace": case.namespace, "name": f"q{n}"},
            "status": {"hard": {"pods": "9" * 200}},
        }
        for n in range(500)
    ]
    tool = tools_of(Snapshot(quotas), case.namespace)["get_quota"]
    read = await tool.run(tool.args.model_validate({"namespace": case.namespace}))
    assert isinstance(read, Reading) and len(read.text) < 4000


@pytest.mark.parametrize(
    ("tool", "args"),
    [
        ("get_config_keys", {"kind": "Secret", "namespace": "x", "name": "y"}),
        ("get_pods", {"kind": "Secret", "namespace": "x", "name": "y"}),
        ("get_node", {"name": "../../secrets"}),
        ("get_endpoints", {"namespace": "x", "name": "y", "method": "DELETE"}),
    ],
)
def test_what_cannot_be_asked(tool: str, args: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        tools_of(loaded("healthy"), "x")[tool].args.model_validate(args)


async def test_no_value_of_a_secret_or_a_config_map_is_shown() -> None:
    """Whatever is in the objects: the snapshot keeps keys alone, and names that say they are secret are masked."""
    case = Case("missing_config_key")
    items = [dict(item) for item in case.snapshot.items()]
    for item in items:
        if item["kind"] in ("ConfigMap", "Secret"):
            item["data"] = {"loglevel": "very private", "password": "very private"}
    tools = tools_of(Snapshot(items), case.namespace)
    name = only(case.snapshot, "Deployment", case.namespace)
    for tool, args in (
        ("get_config_keys", {"namespace": case.namespace, "name": only(case.snapshot, "ConfigMap", case.namespace)}),
        ("get_references", {"kind": "Deployment", "namespace": case.namespace, "name": name}),
    ):
        read = await tools[tool].run(tools[tool].args.model_validate(args))
        assert isinstance(read, Reading) and "very private" not in read.text
