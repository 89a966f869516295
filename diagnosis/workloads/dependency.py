"""What a container depends on, as far as a log line and its own settings name it: the Service, and what is behind."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial

from diagnosis.workloads.containers import Container
from diagnosis.workloads.contract import Claim
from diagnosis.workloads.evidence import of_object
from diagnosis.workloads.fields import Object, mapping, objects, strings, text
from diagnosis.workloads.scope import Scope
from diagnosis.workloads.services import ports_of, services_of
from diagnosis.workloads.snapshot import Snapshot
from incidents.models import Fact, ObjectRef, Severity


@dataclass(frozen=True)
class Product:
    """A product by its usual port numbers, the words in names, variables and images that mean it, and the line by
    which its own server is known."""

    name: str
    ports: tuple[int, ...] = ()
    words: tuple[str, ...] = ()
    server: re.Pattern[str] | None = None


PRODUCTS = {
    "postgresql": Product(
        "PostgreSQL", (5432, 6432), ("postgres", "pg", "psql", "timescale"),
        re.compile(r"database system (?:is ready|was shut|is shut)|starting PostgreSQL \d|UTC \[\d+\] (?:LOG"
        r"|FATAL|ERROR): "),
    ),
    "mysql": Product(
        "MySQL", (3306, 33060), ("mysql", "mariadb", "percona"),
        re.compile(r"mysqld|mariadbd|ready for connections|InnoDB: |\d \[(?:Warning|Note|ERROR|System)\] "),
    ),
    "redis": Product(
        "Redis", (6379, 26379), ("redis", "valkey", "keydb"),
        re.compile(r"Redis is starting|Server initialized|\* Ready to accept connections|Redis version="),
    ),
    "mongodb": Product("MongoDB", (27017,), ("mongo",), re.compile(r"Waiting for connections|\"c\":\"NETWORK\"")),
    "rabbitmq": Product("RabbitMQ", (5672, 5671), ("rabbit", "amqp"), re.compile(r"Starting RabbitMQ")),
    "kafka": Product("Kafka", (9092, 9093), ("kafka",), re.compile(r"\[KafkaServer id=|\[KafkaRaftServer")),
    "elasticsearch": Product("Elasticsearch", (9200,), ("elastic", "opensearch"), re.compile(r"\[o\.e\.n\.Node")),
    "cassandra": Product("Cassandra", (9042,), ("cassandra", "scylla")),
    "clickhouse": Product("ClickHouse", (9000, 8123), ("clickhouse",)),
    "sqlserver": Product("SQL Server", (1433,), ("mssql", "sqlserver")),
    "oracle": Product("Oracle", (1521,), ("oracle",)),
    "etcd": Product("etcd", (2379,), ("etcd",)),
    "nats": Product("NATS", (4222,), ("nats",)),
    "mqtt": Product("MQTT", (1883, 8883), ("mqtt", "mosquitto", "emqx")),
    "ldap": Product("LDAP", (389, 636), ("ldap",)),
    "smtp": Product("SMTP", (25, 465, 587), ("smtp", "mail")),
    "vault": Product("Vault", (8200,), ("vault",)),
    "aws": Product("AWS", (), ("aws", "s3", "minio", "oss")),
    "gcp": Product("Google Cloud", (), ("google", "gcp")),
    "azure": Product("Azure", (), ("azure",)),
    "grpc": Product("a gRPC service"),
    "http": Product("an HTTP service"),
    "ssh": Product("SSH", (22,), ("ssh", "git")),
    "sqlite": Product("SQLite"),
    "database": Product("the database", (5432, 3306, 1433, 1521, 27017), ("db", "database", "sql")),
    "": Product("it"),
}  # fmt: skip

_ADDRESSES = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"server at \"(?P<host>[\w.-]{1,200})\"(?: \([^)]{1,60}\))?, port (?P<port>\d{1,5})",  # libpq
        r"[a-z][a-z0-9+.-]{1,20}://(?:[^\s/@]{0,200}@)?(?P<host>[\w.-]{1,200})(?::(?P<port>\d{1,5}))?",
        r"\(address=\(?host\)?=(?P<host>[\w.-]{1,200})",
        r"(?<![\w.:/@'-])(?P<host>[A-Za-z0-9][\w.-]{0,200}):(?P<port>\d{2,5})(?![\d:])",
    )
)
_HOST_IN_VALUE = re.compile(r"(?:^|//|@|[\s,(=])(?P<host>[A-Za-z0-9][\w.-]{0,200})(?::(?P<port>\d{1,5}))?")


@dataclass
class Dependency:
    """`service` and `workload` are None when nothing of it is in the snapshot. `claims` say how it was found."""

    name: str
    host: str | None = None
    port: int | None = None
    service: Object | None = None
    workload: ObjectRef | None = None
    claims: list[Claim] = field(default_factory=list)

    def facts(self) -> dict[str, Fact]:
        facts: dict[str, Fact] = {"dependency": self.host or self.name, "dependency_product": self.name}
        if self.port:
            facts["dependency_port"] = self.port
        if self.service is not None:
            facts["dependency_service"] = text(self.service, "metadata", "name")
            facts["dependency_namespace"] = text(self.service, "metadata", "namespace")
        if self.workload is not None:
            facts["dependency_workload"] = f"{self.workload.kind}/{self.workload.name}"
        return facts

    def __str__(self) -> str:
        where = f" at {self.host}{f':{self.port}' if self.port else ''}" if self.host else ""
        return f"{self.name}{where}"


def is_server(product: str, lines: list[str]) -> bool:
    """Whether a log is that of the product's own server."""
    banner = PRODUCTS[product].server
    return banner is not None and any(banner.search(line[:400]) for line in lines[:400])


def dependency_of(scope: Scope, container: Container, line: str, product: str) -> Dependency:
    """The dependency that a line of a container complains about: by the address in the line, else by the one Service of
    that product that the container's settings name."""
    known, services = PRODUCTS[product], services_of(scope.snapshot)
    found = Dependency(known.name)
    for pattern in _ADDRESSES:
        if match := pattern.search(line[:800]):
            groups = match.groupdict()
            host, port = match["host"].lower(), int(groups["port"]) if groups.get("port") else None
            if "." not in host and services.resolve(container.namespace, host) is None and not port:
                continue
            found.host, found.port = host, port
            found.service = services.resolve(container.namespace, host)
            break
    if found.service is None:
        named: dict[str, tuple[str, int | None, Object, Claim]] = {}
        for host, port, claim in _settings(scope, container):
            service = services.resolve(container.namespace, host)
            if service is not None and _is_of(scope.snapshot, service, known, port):
                named.setdefault(text(service, "metadata", "uid") or host, (host, port, service, claim))
        if len(named) == 1:
            found.host, found.port, found.service, claim = next(iter(named.values()))
            found.claims.append(claim)
    if found.service is not None:
        workloads = {template.ref for template in services.selected_templates(found.service)}
        workloads |= {scope.snapshot.workload_of(pod) for pod in services.pods(found.service)}
        if len(workloads) == 1:
            found.workload = workloads.pop()
    return found


def _settings(scope: Scope, container: Container) -> Iterator[tuple[str, int | None, Claim]]:
    """Hosts in the environment and the command of a container, with where each stands."""
    now = scope.snapshot.observed_at
    for what, value, item, at in _values(scope, container):
        for match in _HOST_IN_VALUE.finditer(value[:2000]):
            said = f"{what} of container {container.name} names {match['host']}"
            claim = Claim(said, [of_object(item, at, now)], Severity.INFO)
            yield match["host"].lower(), _port(match["port"]), claim


def _values(scope: Scope, container: Container) -> Iterator[tuple[str, str, Object, str]]:
    """The texts that configure a container as (what it is, text, object, JSON pointer)."""
    config_map = partial(scope.snapshot.get, "ConfigMap", container.namespace)
    for index, variable in enumerate(objects(container.spec, "env")):
        name, source = text(variable, "name"), mapping(variable, "valueFrom", "configMapKeyRef")
        if source:
            held, key = config_map(text(source, "name")) or {}, text(source, "key")
            yield f"Variable {name}", text(held, "data", key), held, f"/data/{_escaped(key)}"
        else:
            yield f"Variable {name}", text(variable, "value"), container.pod, f"{container.spec_at}/env/{index}"
    for source in objects(container.spec, "envFrom"):
        held = config_map(text(source, "configMapRef", "name")) or {}
        for key in mapping(held, "data"):
            yield f"Variable {key}", text(held, "data", key), held, f"/data/{_escaped(key)}"
    for field_name in ("command", "args"):
        for index, argument in enumerate(strings(container.spec, field_name)):
            yield f"The {field_name}", argument, container.pod, f"{container.spec_at}/{field_name}/{index}"


def _escaped(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")


def _port(value: str | None) -> int | None:
    return int(value) if value and 0 < int(value) < 65536 else None


def _is_of(snapshot: Snapshot, service: Object, product: Product, port: int | None) -> bool:
    """Whether a Service is one of a product: by its port, its name, or the images behind it."""
    if {port, *(item.port for item in ports_of(service)), *(item.target for item in ports_of(service))} & set(
        product.ports
    ):
        return True
    names = [text(service, "metadata", "name")]
    names += [
        text(spec, "image").rpartition("/")[2]
        for template in services_of(snapshot).selected_templates(service)
        for spec in objects(template.spec, "containers")
    ]
    return any(re.search(rf"(?<![a-z]){re.escape(word)}", name.lower()) for name in names for word in product.words)
