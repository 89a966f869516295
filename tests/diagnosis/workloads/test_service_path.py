"""The way to a Service: real objects of a real cluster, some changed by the helper `changed` as each test says."""

from __future__ import annotations

import copy

import pytest

from diagnosis.workloads.diagnose import diagnose
from diagnosis.workloads.fields import Object
from incidents.models import CauseClass, DiagnosisStatus, ObjectRef
from tests.snapshot_cases import changed, classes, key_of, loaded, of_case, only, the, truth

MINE = {
    CauseClass.SERVICE_SELECTOR_MISMATCH,
    CauseClass.SERVICE_WRONG_TARGET_PORT,
    CauseClass.SERVICE_WRONG_PROTOCOL,
    CauseClass.SERVICE_WITHOUT_ENDPOINTS,
    CauseClass.HEADLESS_SERVICE_MISUSED,
    CauseClass.BACKEND_MISSING,
    CauseClass.NETWORK_POLICY_BLOCKS,
    CauseClass.CLUSTER_DNS_DOWN,
    CauseClass.WRONG_DEPENDENCY_ADDRESS,
}


# selectors


def test_a_service_scaled_to_zero_on_purpose_is_not_mismatched() -> None:
    """Transformed: the server's Deployment wants no pods, and none are there."""
    name = "service_healthy"
    server = the("Service", name, start="orders-")["spec"]["selector"]["app"]

    def scale(item: Object) -> bool:
        if item["kind"] == "Deployment" and item["metadata"]["name"] == server:
            item["spec"]["replicas"] = 0
            item["status"] = {"observedGeneration": item["metadata"]["generation"]}
        owned = item["metadata"].get("labels", {}).get("app") == server and item["kind"] in ("Pod", "ReplicaSet")
        return not owned

    assert not MINE & classes(of_case(name, changed(name, scale)))


def test_a_service_that_something_else_publishes_needs_no_selector() -> None:
    """Transformed: the Service's selector is taken away, its Endpoints stay."""
    name = "service_selector_key"

    def bare(item: Object) -> None:
        if item["kind"] == "Service":
            item["spec"].pop("selector", None)

    assert of_case(name, changed(name, bare)).status is DiagnosisStatus.HEALTHY


def test_an_orphan_is_told_with_little_confidence_and_no_suggestion() -> None:
    """Transformed: a selector that is like no workload's labels."""
    name = "service_selector_key"
    where = truth(name)["object"]["name"]

    def strange(item: Object) -> None:
        if item["kind"] == "Service" and item["metadata"]["name"] == where:
            item["spec"]["selector"] = {"component": "billing"}
            item["metadata"]["name"] = "zz"

    cause = only(of_case(name, changed(name, strange)), CauseClass.SERVICE_WITHOUT_ENDPOINTS)
    assert cause.confidence == 0.5
    assert "suggested_selector" not in cause.facts


def test_where_two_workloads_could_be_meant_none_is_suggested() -> None:
    """Transformed: only the label that both workloads have is right."""
    name = "service_selector_key"
    where = truth(name)["object"]["name"]

    def ambiguous(item: Object) -> None:
        if item["kind"] in ("Deployment", "Pod"):
            template = item["spec"].get("template", item)
            template["metadata"]["labels"] = {"part-of": "shop", "run": template["metadata"]["labels"]["app"]}
        if item["kind"] == "Service":
            selector = {"part-of": "shop", "run": "q"} if item["metadata"]["name"] == where else {"part-of": "shop"}
            item["spec"]["selector"] = selector

    found = of_case(name, changed(name, ambiguous))
    cause = next(cause for cause in found.causes if cause.cause_class is CauseClass.SERVICE_SELECTOR_MISMATCH)
    assert "suggested_selector" not in cause.facts
    assert len(cause.facts["candidates"]) == 2  # type: ignore[arg-type]


def test_a_workload_that_has_its_service_already_is_meant_less() -> None:
    """Transformed: the selector is as near to the bystander, which a Service of its own selects, as to the server."""
    name = "service_selector_key"
    where, space = truth(name)["object"]["name"], truth(name)["namespace"]
    server = dict(pair.split("=") for pair in truth(name)["facts"]["suggested_selector"])["app"]

    def alike(item: Object) -> None:
        labels = item["spec"]["template"]["metadata"]["labels"] if item["kind"] == "Deployment" else None
        if labels is not None or item["kind"] == "Pod":
            found = labels if labels is not None else item["metadata"]["labels"]
            found["run"] = "front-a" if found["app"] == server else "front-b"
        if item["kind"] == "Service" and item["metadata"]["name"] == where:
            item["spec"]["selector"] = {"run": "front-c"}

    cause = only(of_case(name, changed(name, alike)), CauseClass.SERVICE_SELECTOR_MISMATCH)
    assert cause.facts["suggested_workload"] == f"Deployment/{server}"
    assert space == cause.object.namespace


@pytest.mark.parametrize(
    ("port", "served", "mismatch"), [(9000, False, True), (8080, False, False), (9000, True, False)]
)
def test_the_pods_of_another_workload(port: int, served: bool, mismatch: bool) -> None:
    """Transformed: the Service's selector is copied from the bystander's, whose container has another port. It may be
    meant so where the bystander has the port too, or where another Service has the workload of this one's name."""
    name = "service_healthy"
    service, other = the("Service", name, start="orders-"), the("Service", name, start="stock-")
    server = service["spec"]["selector"]["app"]

    def copied(item: Object) -> None:
        if item["kind"] == "Service" and item["metadata"]["name"] == service["metadata"]["name"]:
            item["spec"]["selector"] = other["spec"]["selector"]
            item["metadata"]["name"] = server  # as its workload is called
        spec = item["spec"].get("template", item)["spec"] if item["kind"] in ("Pod", "Deployment") else {}
        for container in spec.get("containers", []):
            if "stock-" in item["metadata"]["name"]:
                container["ports"] = [{"containerPort": port, "name": "web"}]
                container.pop("readinessProbe", None)

    more = copy.deepcopy(service)
    more["metadata"]["name"] = "another"
    found = of_case(name, changed(name, copied, more=[more] if served else []))
    causes = [cause for cause in found.causes if cause.cause_class is CauseClass.SERVICE_SELECTOR_MISMATCH]
    assert [cause.object.name for cause in causes] == ([server] if mismatch else [])
    if mismatch:
        assert causes[0].facts["suggested_workload"] == f"Deployment/{server}"


def test_a_workload_without_pods_is_looked_at_instead_of_its_service() -> None:
    """Transformed: the server wants a pod and has none."""
    name = "service_healthy"
    server = the("Service", name, start="orders-")["spec"]["selector"]["app"]

    def gone(item: Object) -> bool:
        return item["metadata"].get("labels", {}).get("app") != server or item["kind"] not in ("Pod", "ReplicaSet")

    found = of_case(name, changed(name, gone))
    assert CauseClass.SERVICE_SELECTOR_MISMATCH not in classes(found)
    assert any("has none" in finding.claim for finding in found.findings)


def test_ready_pods_that_nobody_publishes() -> None:
    """Transformed: the Endpoints are empty although the pods are ready for long."""
    name = "service_healthy"

    def empty(item: Object) -> None:
        if item["kind"] == "Endpoints" and item["metadata"]["name"].startswith("orders-"):
            item.pop("subsets", None)
        for condition in item.get("status", {}).get("conditions", []) if item["kind"] == "Pod" else []:
            condition["lastTransitionTime"] = "2026-01-01T00:00:00Z"

    cause = only(of_case(name, changed(name, empty)), CauseClass.SERVICE_WITHOUT_ENDPOINTS)
    assert cause.object.kind == "Service"


def test_a_caller_asked_about_leads_to_the_service() -> None:
    name = "service_selector_value"
    caller = the("Deployment", name, start="shop-")["metadata"]["name"]
    target = ObjectRef(kind="Deployment", namespace=truth(name)["namespace"], name=caller)
    found = diagnose(loaded(name), target=target)
    assert (found.causes[0].cause_class, found.causes[0].object.name) == (
        CauseClass.SERVICE_SELECTOR_MISMATCH,
        truth(name)["object"]["name"],
    )


def test_a_workload_that_a_selector_misses_leads_to_the_service() -> None:
    name = "service_selector_key"
    server = dict(pair.split("=") for pair in truth(name)["facts"]["suggested_selector"])["app"]
    found = diagnose(loaded(name), target=ObjectRef(kind="Deployment", namespace=truth(name)["namespace"], name=server))
    assert found.causes[0].cause_class is CauseClass.SERVICE_SELECTOR_MISMATCH


# ports


def test_an_undeclared_port_that_the_program_names_is_right() -> None:
    """Transformed: the program's log says that it listens where the Service sends."""
    name = "service_target_number"
    server = next(
        pod for pod in loaded(name).all("Pod", truth(name)["namespace"]) if not _owner(pod).startswith("stock-")
    )
    snapshot = changed(name, logs={key_of(server): "INFO server listening on 0.0.0.0:80\n"})
    assert of_case(name, snapshot).status is DiagnosisStatus.HEALTHY


def _owner(pod: Object) -> str:
    return str(pod["metadata"]["ownerReferences"][0]["name"])


def test_a_second_undeclared_port_is_nobodys_fault() -> None:
    """Transformed: beside the right port the Service has one that no container declares, as meshes add them."""
    name = "service_healthy"

    def more(item: Object) -> None:
        if item["kind"] == "Service" and item["metadata"]["name"].startswith("orders-"):
            item["spec"]["ports"].append({"name": "metrics", "port": 15020, "protocol": "TCP", "targetPort": 15020})

    assert of_case(name, changed(name, more)).status is DiagnosisStatus.HEALTHY


def test_without_declared_ports_a_number_is_not_judged() -> None:
    """Transformed: the containers declare nothing and no probe asks."""
    name = "service_target_number"

    def silent(item: Object) -> None:
        for container in item["spec"]["containers"] if item["kind"] == "Pod" else []:
            container.pop("ports", None)
            container.pop("readinessProbe", None)

    found = of_case(name, changed(name, silent))
    assert CauseClass.SERVICE_WRONG_TARGET_PORT not in {
        cause.cause_class for cause in found.causes if not cause.object.name.startswith("stock-")
    }


def test_both_protocols_declared_are_both_right() -> None:
    """Transformed: the container declares the port for UDP too."""
    name = "service_protocol"

    def both(item: Object) -> None:
        for container in item["spec"]["containers"] if item["kind"] == "Pod" else []:
            container["ports"].append({"containerPort": 8080, "protocol": "UDP"})

    assert of_case(name, changed(name, both)).status is DiagnosisStatus.HEALTHY


# headless


def test_a_headless_service_that_nobody_uses_wrongly_is_left_alone() -> None:
    """Transformed: the caller uses the pods' port."""
    name = "headless_port"

    def right(item: Object) -> None:
        for container in item["spec"]["containers"] if item["kind"] == "Pod" else []:
            for variable in container.get("env", []):
                variable["value"] = variable["value"].replace("/api", ":8080/api")

    assert of_case(name, changed(name, right)).status is DiagnosisStatus.HEALTHY


def test_a_stateful_set_whose_service_is_missing_but_not_needed() -> None:
    """Transformed: the log does not speak of other members."""
    name = "headless_missing"
    snapshot = loaded(name)
    logs = dict.fromkeys(snapshot.log_keys(), "FATAL: no space left in queue\n")
    scripts = changed(name, _without_command, logs=logs)
    assert CauseClass.HEADLESS_SERVICE_MISUSED not in classes(of_case(name, scripts))


def _without_command(item: Object) -> None:
    for container in item["spec"]["containers"] if item["kind"] == "Pod" else []:
        container["command"] = ["run"]
