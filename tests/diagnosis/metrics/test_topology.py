"""Who leans on whom by a cluster's objects, and what the ranking makes of it."""

from __future__ import annotations

from typing import Any

import numpy as np

from diagnosis.metrics.analyze import analyze
from diagnosis.metrics.edges import Edge
from diagnosis.metrics.series import MetricSeries
from diagnosis.metrics.topology import topology
from diagnosis.workloads.snapshot import Snapshot
from tests.metric_cases import FAULT, START, WINDOW

PLACE = "shop"


def _object(kind: str, name: str, spec: dict[str, Any], **rest: Any) -> dict[str, Any]:
    meta = {"namespace": PLACE, "name": name, "uid": f"{kind}-{name}", **rest.pop("meta", {})}
    return {"apiVersion": "v1", "kind": kind, "metadata": meta, "spec": spec, **rest}


def _workload(name: str, node: str, env: dict[str, str] | None = None, config: str = "") -> list[dict[str, Any]]:
    """A Deployment with its ReplicaSet and one pod on a node."""
    container: dict[str, Any] = {
        "name": "app",
        "env": [{"name": key, "value": value} for key, value in (env or {}).items()],
    }
    if config:
        container["envFrom"] = [{"configMapRef": {"name": config}}]
    labels = {"app": name}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}

    def owned(kind: str, owner: str) -> dict[str, Any]:
        return {"labels": labels, "ownerReferences": [
            {"kind": kind, "name": owner, "uid": f"{kind}-{owner}", "controller": True}]}  # fmt: skip

    return [
        _object("Deployment", name, {"replicas": 1, "selector": {"matchLabels": labels}, "template": template}),
        _object("ReplicaSet", f"{name}-7f", {"template": template}, meta=owned("Deployment", name)),
        _object("Pod", f"{name}-7f-a", {"containers": [container], "nodeName": node}, status={"phase": "Running"},
                meta=owned("ReplicaSet", f"{name}-7f")),
    ]  # fmt: skip


def _service(name: str, app: str) -> dict[str, Any]:
    return _object(
        "Service", name, {"selector": {"app": app}, "ports": [{"port": 80}], "clusterIP": f"10.0.0.{len(name)}"}
    )


def _shop() -> Snapshot:
    return Snapshot(
        [
            *_workload("web", "n1", {"CART_URL": "http://basket.shop.svc.cluster.local:80", "MODE": "fast"}),
            *_workload("cart", "n1", config="cart-settings"),
            *_workload("store", "n2", {"PEER": "http://nowhere:80"}),
            _object("ConfigMap", "cart-settings", {}, data={"STORE": "redis://store-db:6379"}),
            _service("basket", "cart"),
            _service("store-db", "store"),
        ]
    )


def test_addresses_selectors_owners_and_nodes_are_edges() -> None:
    found = topology(_shop(), PLACE)
    assert set(found.edges) == {
        Edge("shop/web", "shop/basket"), Edge("shop/web", "shop/cart"), Edge("shop/basket", "shop/cart"),
        Edge("shop/cart", "shop/store-db"), Edge("shop/cart", "shop/store"), Edge("shop/store-db", "shop/store"),
        Edge("shop/web", "node/n1"), Edge("shop/cart", "node/n1"), Edge("shop/store", "node/n2"),
    }  # fmt: skip
    assert found.owners["shop", "cart-7f-a"].kind == "Deployment"
    assert topology(Snapshot([]), PLACE).edges == []


def _series(name: str, labels: dict[str, str], usual: float, factor: float, seed: int) -> MetricSeries:
    times = START.timestamp() + np.arange(0, 3600, 15.0)
    values = usual * (1 + 0.03 * np.random.default_rng(seed).standard_normal(len(times)))
    return MetricSeries.of(name, labels, times, np.where(times >= FAULT.timestamp(), values * factor, values))


def test_a_declared_address_leads_from_the_symptom_to_the_cause() -> None:
    """All three get slower by as much, and no call is measured."""
    series = [
        _series("request_duration_seconds", {"namespace": PLACE, "pod": f"{name}-7f-a"}, 0.1, 12.0, seed)
        for seed, name in enumerate(("cart", "store", "web"))
    ]
    known = topology(_shop(), PLACE)
    report = analyze(series, window=WINDOW, edges=known.edges, owners=known.owners)
    assert report.workloads[0].entity == "shop/store"
    assert report.workloads[0].path == ["shop/web", "shop/cart", "shop/store"]
    assert report.workloads[0].object.kind == "Deployment"
    assert report.workloads[1].score < 0.6 * report.workloads[0].score


def test_what_is_slow_because_its_node_is_busy_stands_behind_what_makes_it_busy() -> None:
    series = [
        _series("request_duration_seconds", {"namespace": PLACE, "pod": "web-7f-a"}, 0.1, 9.0, 1),
        _series("container_cpu_usage", {"namespace": PLACE, "pod": "cart-7f-a"}, 0.2, 9.0, 2),
        _series("node_cpu_busy_share", {"node": "n1"}, 0.1, 9.0, 3),
    ]
    known = topology(_shop(), PLACE)
    beside = [edge for edge in known.edges if edge.callee.startswith("node/")]
    alone, report = (analyze(series, window=WINDOW, edges=edges, owners=known.owners) for edges in ((), beside))
    assert report.workloads[0].entity == "shop/cart"
    web = {each.entity: each.score for each in report.workloads}["shop/web"]
    assert web < 0.5 * {each.entity: each.score for each in alone.workloads}["shop/web"]
