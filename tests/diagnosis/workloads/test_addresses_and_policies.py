"""Addresses, routes, policies, name servers: real objects, some changed by the helper `changed` as each test says."""

from __future__ import annotations

import copy

import pytest

from diagnosis.workloads.addresses import addresses_of
from diagnosis.workloads.diagnose import diagnose
from diagnosis.workloads.fields import Object
from diagnosis.workloads.near_miss import closest
from diagnosis.workloads.policies import matches
from diagnosis.workloads.routes import backends_of
from diagnosis.workloads.services import named_place
from diagnosis.workloads.snapshot import LogKey, Snapshot
from incidents.models import CauseClass, DiagnosisStatus, ObjectRef
from tests.snapshot_cases import changed, classes, key_of, loaded, of_case, only, pod_of, the, truth

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
    caller = pod_of(name, "shop-")
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


def http_route(space: str, service: str, **status: object) -> Object:
    """Made up: the cluster has no Gateway kinds."""
    parent = {"name": "outer"}
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": "r", "namespace": space},
        "spec": {"parentRefs": [parent], "rules": [{"backendRefs": [{"name": service}]}]},
        "status": {"parents": [{"parentRef": parent, **status}]},
    }


def test_a_route_to_a_service_without_endpoints_is_its_victim() -> None:
    """The Service selects nothing: asked about the Gateway in front of its route, the answer is the Service."""
    name = "service_selector_value"
    space, service = truth(name)["namespace"], truth(name)["object"]["name"]
    route = http_route(space, service)
    gateway = {**route, "kind": "Gateway", "metadata": {"name": "outer", "namespace": space}, "spec": {"listeners": []}}
    snapshot = changed(name, lambda item: True, more=[route, {**gateway, "status": {}}])
    for asked in (
        {},
        {"target": ObjectRef(kind="Gateway", namespace=space, name="outer")},
        {"target": ObjectRef(kind="HTTPRoute", namespace=space, name="r")},
        {"symptom": "gateway outer 503"},
    ):
        found = diagnose(snapshot, namespace=space, **asked)
        assert [cause.cause_class for cause in found.causes] == [CauseClass.SERVICE_SELECTOR_MISMATCH]
        assert found.causes[0].object.name == service
    assert any(line.startswith("HTTPRoute r") or "outer" in line for line in found.causes[0].chain)


def test_what_a_gateway_refuses_is_quoted() -> None:
    name = "service_healthy"
    space = truth(name)["namespace"]
    service = loaded(name).all("Service", space)[0]["metadata"]["name"]
    refused = {"type": "Accepted", "status": "False", "reason": "NoMatchingParent", "message": "No listener fits"}
    accepted = {**refused, "status": "True", "reason": "Accepted", "message": ""}
    found = of_case(name, changed(name, lambda item: True, more=[http_route(space, service, conditions=[refused])]))
    assert (found.status, found.causes[0].object.kind) == (DiagnosisStatus.UNKNOWN, "HTTPRoute")
    assert "«No listener fits»" in found.causes[0].summary
    found = of_case(name, changed(name, lambda item: True, more=[http_route(space, service, conditions=[accepted])]))
    assert found.status is DiagnosisStatus.HEALTHY


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
    caller = pod_of(name, "shop-")
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
    caller = pod_of(name, "shop-")
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
