"""Which pods are one instance: rules over labels, and labels that lie, miss or are no labels at all."""

from __future__ import annotations

from typing import Any

import pytest

from diagnosis.workloads.instances import Instance, Rule, instances_of
from diagnosis.workloads.snapshot import Snapshot
from settings import Settings

RULES = [Rule(rule.name, rule.labels, rule.name_from, rule.version_from) for rule in Settings().instances]
NAME, INSTANCE = "app.kubernetes.io/name", "app.kubernetes.io/instance"


def pod(
    name: str, labels: Any, *, namespace: str = "db", image: str = "milvusdb/milvus:v2.4.1", owner: str = ""
) -> Any:
    reference = {"kind": "StatefulSet", "name": owner, "uid": f"uid-{namespace}-{owner}", "controller": True}
    meta: dict[str, Any] = {"name": name, "namespace": namespace, "uid": f"uid-{namespace}-{name}", "labels": labels}
    if owner:
        meta["ownerReferences"] = [reference]
    status = {"name": "milvus", "ready": True, "restartCount": 3}
    return {
        "kind": "Pod",
        "metadata": meta,
        "spec": {"containers": [{"name": "milvus", "image": image}]},
        "status": {"containerStatuses": [status]},
    }


def workload(name: str, labels: Any, *, namespace: str = "db", annotations: Any = None) -> Any:
    meta = {"name": name, "namespace": namespace, "uid": f"uid-{namespace}-{name}", "labels": labels}
    return {"kind": "StatefulSet", "metadata": {**meta, "annotations": annotations or {}}}


def found(*items: Any, rules: list[Rule] = RULES) -> list[Instance]:
    return instances_of(Snapshot(items), rules)


def keys(*items: Any, rules: list[Rule] = RULES) -> list[str]:
    return [instance.key for instance in found(*items, rules=rules)]


def test_two_instances_of_a_namespace_and_one_name_in_two_namespaces() -> None:
    blue, green = {NAME: "milvus", INSTANCE: "blue"}, {NAME: "milvus", INSTANCE: "green"}
    got = found(pod("a", blue), pod("b", green), pod("c", blue), pod("a", blue, namespace="other"))
    names = {instance.key: [member.name for member in instance.members] for instance in got}
    assert names == {
        "db/milvus-helm/blue": ["a", "c"],
        "db/milvus-helm/green": ["b"],
        "other/milvus-helm/blue": ["a"],
    }


def test_an_instance_that_is_scaled_to_zero_is_there_without_pods() -> None:
    labels = {NAME: "milvus", INSTANCE: "blue"}
    one, two = workload("query", labels), workload("data", labels)
    got = found(one, two, workload("etcd", {NAME: "etcd"}), pod("query-0", {}, owner="query"))
    assert [(instance.key, [member.name for member in instance.members]) for instance in got] == [
        ("db/milvus-helm/blue", ["query-0"])
    ]
    assert [ref.name for ref in got[0].workloads] == ["data", "query"]
    assert keys(two) == ["db/milvus-helm/blue"] and found(two)[0].members == []


def test_one_that_is_scaled_to_zero_is_known_by_its_template() -> None:
    template = pod("", {NAME: "milvus", INSTANCE: "blue"})
    one = workload("query", {}) | {"spec": {"replicas": 0, "template": template}}
    (got,) = found(one)
    assert (got.key, got.versions, got.members) == ("db/milvus-helm/blue", ["v2.4.1"], [])


def test_the_operators_instances_are_not_all_called_milvus() -> None:
    managed = {NAME: "milvus", "app.kubernetes.io/managed-by": "milvus-operator"}
    got = keys(pod("a", managed | {INSTANCE: "one"}), pod("b", managed | {INSTANCE: "two"}))
    assert got == ["db/milvus-operator/one", "db/milvus-operator/two"]


def test_every_label_of_a_rule_is_needed() -> None:
    assert keys(pod("a", {NAME: "etcd", INSTANCE: "blue"}), pod("b", {INSTANCE: "blue"}), pod("c", {})) == []
    assert keys(pod("a", {NAME: "milvus"}), rules=[Rule("all", {})]) == [], "a rule without labels matches nothing"


def test_a_pod_without_the_labels_is_known_by_its_workload() -> None:
    above = workload("blue-node", {NAME: "milvus", INSTANCE: "blue"})
    got = found(above, pod("blue-node-0", {"app": "x"}, owner="blue-node"), pod("blue-node-1", None, owner="blue-node"))
    assert [(one.key, len(one.members)) for one in got] == [("db/milvus-helm/blue", 2)]
    release = workload("node", {NAME: "milvus"}, annotations={"meta.helm.sh/release-name": "mine"})
    assert keys(release, pod("node-0", {}, owner="node")) == ["db/milvus-helm/mine"]


def test_without_a_name_it_is_the_workloads_never_the_pods() -> None:
    above = workload("node", {NAME: "milvus"})
    both = [pod(f"node-{number}", {NAME: "milvus"}, owner="node") for number in (0, 1)]
    assert keys(above, *both) == ["db/milvus-helm/node"]


@pytest.mark.parametrize(
    "value",
    ["", "../../etc", "a/b", "x" * 64, "a\nb", "\u202egreen", "<script>", 7, None, ["blue"], {"a": "b"}, "blue-", "青"],
)
def test_a_value_that_is_no_label_names_nothing(value: Any) -> None:
    """The API would refuse it; a saved file may hold it."""
    above = workload("node", {NAME: "milvus"})
    assert keys(above, pod("node-0", {NAME: "milvus", INSTANCE: value}, owner="node")) == ["db/milvus-helm/node"]


@pytest.mark.parametrize("labels", [None, [], "milvus", 3, {NAME: ["milvus"]}])
def test_labels_of_the_wrong_type_match_nothing(labels: Any) -> None:
    assert keys(pod("a", labels)) == []


@pytest.mark.parametrize(
    ("image", "version"),
    [
        ("milvusdb/milvus:v2.4.1", ["v2.4.1"]),
        ("localhost:5000/milvus", []),
        ("localhost:5000/milvus:v2@sha256:" + "a" * 64, ["v2"]),
        ("milvus@sha256:" + "a" * 64, []),
        ("milvus:\x1b[31m", []),
    ],
)
def test_the_version_is_the_labels_else_the_tag(image: str, version: list[str]) -> None:
    (tagged,) = found(pod("a", {NAME: "milvus"}, image=image))
    assert tagged.versions == version
    (labelled,) = found(pod("a", {NAME: "milvus", "app.kubernetes.io/version": "2.5.0"}, image=image))
    assert labelled.versions == ["2.5.0"]


def test_any_other_software_by_the_same_rules_and_a_rollout_has_two_versions() -> None:
    rules = [Rule("cache", {"app": "redis"}, ["team"], ["release"])]
    labels = {"app": "redis", "team": "shop"}
    (one,) = found(pod("a", labels | {"release": "7"}), pod("b", labels | {"release": "8"}), rules=rules)
    assert (one.key, one.versions, [member.restarts for member in one.members]) == ("db/cache/shop", ["7", "8"], [3, 3])


def test_thousands_of_instances() -> None:
    items = [pod(f"p{n}", {NAME: "milvus", INSTANCE: f"i{n // 2}"}, namespace=f"n{n % 2}") for n in range(4000)]
    assert len(keys(*items)) == 4000
