"""The way to a Service: real objects of a real cluster, some changed by the helper `changed` as each test says."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from diagnosis.workloads.addresses import addresses_of
from diagnosis.workloads.diagnose import diagnose
from diagnosis.workloads.fields import Object
from diagnosis.workloads.load import load_snapshot
from diagnosis.workloads.near_miss import closest
from diagnosis.workloads.policies import matches
from diagnosis.workloads.routes import backends_of
from diagnosis.workloads.services import named_place
from diagnosis.workloads.snapshot import LogKey, Snapshot
from incidents.models import Cause, CauseClass, Diagnosis, DiagnosisStatus, ObjectRef

SNAPSHOTS = Path(__file__).parents[2] / "fixtures" / "snapshots"
SERVER, CALLER = "server", "caller"
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


@cache
def loaded(name: str) -> Snapshot:
    return load_snapshot(SNAPSHOTS / name)


@cache
def truth(name: str) -> dict:  # type: ignore[type-arg]
    return json.loads((SNAPSHOTS / f"{name}.truth.json").read_text())  # type: ignore[no-any-return]


def changed(
    name: str,
    change: Callable[[Object], object] = lambda item: None,
    *,
    more: list[Object] | None = None,
    logs: dict[LogKey, str] | None = None,
) -> Snapshot:
    """A captured case after `change` of each of its objects (False drops one), with `more` objects and `logs`."""
    original = loaded(name)
    items = [item for item in copy.deepcopy(original.items()) if change(item) is not False]
    kept = {key: original.log(*key) or "" for key in original.log_keys()}
    return Snapshot(
        [*items, *(more or [])],
        logs={**kept, **(logs or {})},
        observed_at=original.observed_at,
        complete=original.complete,
        focus=original.focus,
    )


def of_case(name: str, snapshot: Snapshot | None = None, **more: object) -> Diagnosis:
    return diagnose(snapshot or loaded(name), namespace=truth(name)["namespace"], **more)  # type: ignore[arg-type]


def classes(found: Diagnosis) -> set[CauseClass]:
    return {cause.cause_class for cause in found.causes}


def only(found: Diagnosis, wanted: CauseClass) -> Cause:
    assert classes(found) == {wanted}
    return found.causes[0]


def the(kind: str, name: str, snapshot: Snapshot | None = None, start: str = "") -> Object:
    """The object of a kind in a case's namespace whose name starts like this."""
    space = truth(name)["namespace"]
    return next(
        item for item in (snapshot or loaded(name)).all(kind, space) if item["metadata"]["name"].startswith(start)
    )


def key_of(pod: Object) -> LogKey:
    container = pod["spec"]["containers"][0]["name"]
    return pod["metadata"]["namespace"], pod["metadata"]["name"], container, False


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


# addresses


def test_a_healthy_program_with_a_name_that_is_like_nothing_is_left_alone() -> None:
    """Transformed: the address of an optional dependency that is not there, as tracing agents are."""
    name = "service_healthy"

    def optional(item: Object) -> None:
        for container in item["spec"]["containers"] if item["kind"] == "Pod" else []:
            for variable in container.get("env", []):
                variable["value"] = "http://jaeger-agent:6831"

    assert of_case(name, changed(name, optional)).status is DiagnosisStatus.HEALTHY


@pytest.mark.parametrize(
    "value",
    ["https://api.example.com", "smtp.example.com:587", "localhost:8080", "10.1.2.3:5432", "nginx:1.25", "10:30"],
)
def test_what_is_no_service_is_no_wrong_address(value: str) -> None:
    """Transformed: other values in the caller's environment."""
    name = "service_healthy"

    def other(item: Object) -> None:
        for container in item["spec"]["containers"] if item["kind"] == "Pod" else []:
            for variable in container.get("env", []):
                variable["value"] = value

    assert of_case(name, changed(name, other)).status is DiagnosisStatus.HEALTHY


def test_a_host_alias_is_not_a_service() -> None:
    """Transformed: the pod resolves the name by itself."""
    name = "address_wrong_name"
    host = truth(name)["facts"]["suggested_value"].split("/")[2].split(":")[0].replace("orders", "order", 1)

    def alias(item: Object) -> None:
        if item["kind"] == "Pod":
            item["spec"]["hostAliases"] = [{"ip": "10.9.9.9", "hostnames": [host]}]

    assert CauseClass.WRONG_DEPENDENCY_ADDRESS not in classes(of_case(name, changed(name, alias)))


def test_services_that_nobody_read_are_not_missing() -> None:
    name = "address_wrong_name"
    original = loaded(name)
    items = [item for item in original.items() if item["kind"] != "Service"]
    logs = {key: original.log(*key) or "" for key in original.log_keys()}
    found = diagnose(Snapshot(items, logs=logs, observed_at=original.observed_at), namespace=truth(name)["namespace"])
    assert CauseClass.WRONG_DEPENDENCY_ADDRESS not in classes(found)


def test_another_namespace_is_named() -> None:
    """Transformed: the Service is in another namespace than the caller."""
    name = "address_wrong_port"

    def move(item: Object) -> None:
        if item["kind"] in ("Service", "Endpoints") and item["metadata"]["name"].startswith("orders-"):
            item["metadata"]["namespace"] = "backend"

    cause = only(of_case(name, changed(name, move)), CauseClass.WRONG_DEPENDENCY_ADDRESS)
    assert cause.facts["field"] == "namespace"
    assert str(cause.facts["suggested_value"]).endswith(".backend.svc")


def test_a_namespace_that_does_not_exist() -> None:
    """Transformed: the address has a namespace that is not there."""
    name = "address_wrong_port"
    space = truth(name)["namespace"]

    def misplace(item: Object) -> None:
        for container in item["spec"]["containers"] if item["kind"] == "Pod" else []:
            for variable in container.get("env", []):
                if variable["name"] == "ORDERS_HOST":
                    variable["value"] += ".shop-prod.svc"

    cause = only(of_case(name, changed(name, misplace)), CauseClass.WRONG_DEPENDENCY_ADDRESS)
    assert cause.facts["variable"] == "ORDERS_HOST"
    assert str(cause.facts["suggested_value"]).endswith(f".{space}.svc")


def test_plain_http_to_a_tls_port() -> None:
    """Transformed: the caller's log has Go's words for it."""
    name = "service_healthy"
    caller = next(pod for pod in loaded(name).all("Pod", truth(name)["namespace"]) if _owner(pod).startswith("shop-"))
    host = the("Service", name, start="orders-")["metadata"]["name"]
    line = f'Get "http://{host}:80/api": net/http: transport connection broken: malformed HTTP response "\\x15\\x03"'
    cause = only(of_case(name, changed(name, logs={key_of(caller): f"{line}\n"})), CauseClass.SERVICE_WRONG_PROTOCOL)
    assert (cause.object.kind, cause.facts["field"], cause.facts["suggested"]) == ("Deployment", "scheme", "https")
    assert cause.facts["suggested_value"] == f"https://{host}:80/api"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("http://a.b.svc.cluster.local:80/x", ("http", "a.b.svc.cluster.local", 80)),
        ("postgres://u:[redacted]@db:5432/shop", ("postgres", "db", 5432)),
        ("https://shop", ("https", "shop", 443)),
        ("kafka-0:9092,kafka-1:9092", ("", "kafka-0", 9092)),
        ("tcp(db:3306)/shop", ("", "db", 3306)),
        ("plain words", None),
    ],
)
def test_addresses_in_values(value: str, expected: tuple[str, str, int] | None) -> None:
    pod = {"spec": {"containers": [{"name": "c", "env": [{"name": "TARGET", "value": value}]}]}}
    found = [(a.scheme, a.host, a.port) for a in addresses_of(pod)]
    assert found[:1] == ([expected] if expected else [])


# routes


def test_a_secret_that_nobody_looked_for_is_not_missing() -> None:
    name = "ingress_secret"
    original = loaded(name)
    complete = {pair for pair in original.complete if pair[0] != "Secret"}
    found = diagnose(Snapshot(original.items(), complete=complete), namespace=truth(name)["namespace"])
    assert CauseClass.BACKEND_MISSING not in classes(found)


def test_a_gateways_route_is_read_too() -> None:
    """Transformed: an HTTPRoute with the Ingress's wrong backend (the cluster has no Gateway kinds)."""
    name = "ingress_service"
    wrong, space = truth(name)["facts"]["observed"], truth(name)["namespace"]
    route = {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": "r", "namespace": space},
        "spec": {"rules": [{"backendRefs": [{"name": wrong, "port": 80}]}]},
    }
    found = of_case(name, changed(name, lambda item: item["kind"] != "Ingress", more=[route]))
    cause = only(found, CauseClass.BACKEND_MISSING)
    assert (cause.object.kind, cause.facts["suggested"]) == ("HTTPRoute", truth(name)["facts"]["suggested"])


def test_the_older_shape_of_an_ingress() -> None:
    """networking.k8s.io/v1beta1 and extensions/v1beta1, as clusters before 1.19 have it."""
    rule = {"http": {"paths": [{"backend": {"serviceName": "cart", "servicePort": "web"}}]}}
    spec = {"backend": {"serviceName": "front", "servicePort": 80}, "rules": [rule], "tls": [{"secretName": "cert"}]}
    item = {"kind": "Ingress", "metadata": {"name": "in", "namespace": "shop"}, "spec": spec}
    found = [(backend.kind, backend.name, backend.port) for backend in backends_of(item)]
    assert found == [("Service", "front", 80), ("Service", "cart", "web"), ("Secret", "cert", None)]


# policies


@pytest.mark.parametrize("change", ["types", "other", "namespace"])
def test_policies_that_do_not_stop_it(change: str) -> None:
    """Transformed: the policy is about the other direction, about other pods, or lets in the caller's namespace."""
    name = "policy_ingress"

    def other(item: Object) -> None:
        if item["kind"] != "NetworkPolicy":
            return
        if change == "types":
            item["spec"] = {"podSelector": item["spec"]["podSelector"], "policyTypes": ["Egress"], "egress": [{}]}
        elif change == "other":
            item["spec"]["podSelector"] = {"matchLabels": {"app": "nobody"}}
        else:
            item["spec"]["ingress"][0]["from"] = [{"namespaceSelector": {}}]

    assert of_case(name, changed(name, other)).status is DiagnosisStatus.HEALTHY


def test_a_namespace_whose_labels_are_unknown_is_not_judged() -> None:
    """Transformed: the rule selects namespaces by a label, and no Namespace was read."""
    name = "policy_ingress"

    def unknown(item: Object) -> bool:
        if item["kind"] == "NetworkPolicy":
            item["spec"]["ingress"][0]["from"] = [{"namespaceSelector": {"matchLabels": {"team": "shop"}}}]
        return item["kind"] != "Namespace"

    assert of_case(name, changed(name, unknown)).status is DiagnosisStatus.HEALTHY


def test_a_timeout_in_the_log_makes_it_sure() -> None:
    """Transformed: the caller's log says what a dropped packet looks like; the development cluster drops none."""
    name = "policy_ingress"
    caller = next(pod for pod in loaded(name).all("Pod", truth(name)["namespace"]) if _owner(pod).startswith("shop-"))
    host = the("Service", name, start="orders-")["metadata"]["name"]
    line = f"dial tcp {host}:80: i/o timeout\n"
    cause = only(of_case(name, changed(name, logs={key_of(caller): line})), CauseClass.NETWORK_POLICY_BLOCKS)
    assert cause.confidence == 0.93
    assert cause.facts["explained_count"] == 1


def test_a_service_that_nobody_may_call() -> None:
    """Transformed: only the policy that denies everything is left, and nobody is configured with the Service."""
    name = "policy_allows"

    def deny(item: Object) -> bool:
        for container in item["spec"]["containers"] if item["kind"] == "Pod" else []:
            container.pop("env", None)
        return item["kind"] != "NetworkPolicy" or not item["spec"]["podSelector"].get("matchLabels")

    found = of_case(name, changed(name, deny))
    assert only(found, CauseClass.NETWORK_POLICY_BLOCKS).confidence == 0.6
    service = the("Service", name)["metadata"]["name"]
    target = ObjectRef(kind="Service", namespace=truth(name)["namespace"], name=service)
    assert diagnose(changed(name, deny), target=target).causes[0].confidence == 0.85


@pytest.mark.parametrize(
    ("selector", "labels", "expected"),
    [
        ({}, {"a": "b"}, True),
        ({"matchLabels": {"a": "b"}}, {"a": "c"}, False),
        ({"matchExpressions": [{"key": "a", "operator": "In", "values": ["b", "c"]}]}, {"a": "c"}, True),
        ({"matchExpressions": [{"key": "a", "operator": "NotIn", "values": ["b"]}]}, {}, True),
        ({"matchExpressions": [{"key": "a", "operator": "Exists"}]}, {}, False),
        ({"matchExpressions": [{"key": "a", "operator": "DoesNotExist"}]}, {"a": ""}, False),
    ],
)
def test_label_selectors(selector: Object, labels: Object, expected: bool) -> None:
    assert matches(selector, labels) is expected


# DNS


def dns(ready: bool) -> list[Object]:
    """The name servers: a real Service, Deployment and pod of a case under the names that they have everywhere."""
    source = loaded("service_target_name")
    found = []
    for kind in ("Service", "Deployment", "ReplicaSet", "Pod"):
        item = copy.deepcopy(next(i for i in source.all(kind) if i["metadata"]["name"].startswith("stock-")))
        item["metadata"]["namespace"] = "kube-system"
        item["metadata"]["name"] = {"Service": "kube-dns"}.get(kind, f"coredns{'-1' if kind == 'ReplicaSet' else ''}")
        if kind == "Pod" and not ready:
            item["status"]["conditions"] = [{"type": "Ready", "status": "False"}]
        found.append(item)
    return found


def unresolving(name: str) -> tuple[dict[LogKey, str], str]:
    caller = next(pod for pod in loaded(name).all("Pod", truth(name)["namespace"]) if _owner(pod).startswith("shop-"))
    host = the("Service", name, start="orders-")["metadata"]["name"]
    return {key_of(caller): f"could not resolve host {host}: Temporary failure in name resolution\n"}, host


def test_name_servers_that_are_down_explain_their_callers() -> None:
    name = "service_healthy"
    logs, _ = unresolving(name)
    cause = only(of_case(name, changed(name, more=dns(ready=False), logs=logs)), CauseClass.CLUSTER_DNS_DOWN)
    assert (cause.object.namespace, cause.object.name) == ("kube-system", "coredns")
    assert cause.facts["explained_count"] == 1


def test_name_servers_that_are_well_are_not_blamed() -> None:
    name = "service_healthy"
    logs, _ = unresolving(name)
    assert CauseClass.CLUSTER_DNS_DOWN not in classes(of_case(name, changed(name, more=dns(ready=True), logs=logs)))
    assert of_case(name, changed(name, more=dns(ready=True))).status is DiagnosisStatus.HEALTHY


def test_a_name_that_does_not_exist_says_nothing_of_the_name_servers() -> None:
    assert CauseClass.CLUSTER_DNS_DOWN not in classes(of_case("address_wrong_name"))
    name = "service_healthy"
    pods = loaded(name).all("Pod", truth(name)["namespace"])
    logs = {key_of(pod): "could not resolve host nowhere: Name or service not known\n" for pod in pods}
    assert CauseClass.CLUSTER_DNS_DOWN not in classes(of_case(name, changed(name, logs=logs)))


# names


def test_slips_and_places() -> None:
    assert closest("ordres", ["orders", "stock"]) == "orders"
    assert closest("orders", ["payments", "stock"]) is None
    assert closest("web-3", ["web-1", "web-2"]) is None  # it could be either
    assert named_place("shop", "db") == ("db", "shop")
    assert named_place("shop", "db.data.svc.cluster.local") == ("db", "data")
    assert named_place("shop", "10.0.0.1") is None
    assert named_place("shop", "api.vendor.example.com") is None
