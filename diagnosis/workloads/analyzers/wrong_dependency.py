"""A dependency that is reached and is not what the program takes it for: another protocol behind the port, TLS where
there is none, or no database, bucket or queue of the name.

The client's own words say it. An address that is wrong by itself (no such Service, no such port) is found by the
analyzer of configured addresses, which also reads HTTP against TLS in the log of a URL that is configured.
"""

from __future__ import annotations

from collections.abc import Iterable

from diagnosis.workloads.addresses import addresses_of
from diagnosis.workloads.contract import Claim, Documented, Found
from diagnosis.workloads.dependency import dependency_of, is_server
from diagnosis.workloads.log_rules import Complaint, complaints, rule
from diagnosis.workloads.scope import Scope
from incidents.models import CauseClass, Fact

NAME = "wrong_dependency"
READS = ("Pod", "Service")
RULED_OUT = "protocols: no failing container's log tells of a dependency that speaks differently or lacks a name"
CAUSES = {
    CauseClass.WRONG_DEPENDENCY_ADDRESS: Documented(
        "A program reaches something that speaks another protocol, has no TLS or only TLS, or has no database of the "
        "name that it asks for.",
        "The client's own log line in the words of its protocol, and its failing container.",
        "None by itself: which side is meant to change is not observed; the address and the name are told.",
    )
}

RULES = (
    rule("", r"SSL routines:[^:]{0,40}:wrong version number|WRONG_VERSION_NUMBER|first record does not look like a TLS"
         r" handshake|unrecognized SSL message, plaintext connection|Unsupported or unrecognized SSL message"
         r"|gave HTTP response to HTTPS client|EPROTO.{0,80}wrong version|packet length too long|record layer failure",
         "no_tls"),
    rule("postgresql", r"server does not support SSL, but SSL was required|server refused TLS connection"
         r"|SSL is not enabled on the server|The server does not support SSL", "no_tls"),
    rule("mysql", r"TLS requested but server does not support TLS|SSL connection error: SSL is required"
         r"|Server does not support secure connection", "no_tls"),
    rule("", r"malformed HTTP response|sent an HTTP request to an HTTPS server|plain HTTP request was sent to HTTPS"
         r"|Received HTTP/0\.9 when not allowed|BadStatusLine|Parse Error: Expected HTTP/|HPE_INVALID_CONSTANT"
         r"|not a valid HTTP response|invalid HTTP version", "other_protocol"),
    rule("redis", r"Protocol error, got \"?.{1,8}\"? as reply type byte|redis.{0,40}unexpected (?:response"
                  r"|reply)", "other_protocol"),
    rule("mysql", r"malformed packet|Packets out of order|Got packets out of order|unexpected sequence nr",
         "other_protocol"),
    rule("postgresql", r"received invalid response to (?:SSL|GSSAPI) negotiation|unexpected message type 0x"
                       r"|unsupported frontend"
         r" protocol", "other_protocol"),
    rule("postgresql", r"database \"(?P<name>[^\"]{1,64})\" does not exist|\(SQLSTATE 3D000\)", "name"),
    rule("mysql", r"unknown database '(?P<name>[^']{1,64})'", "name"),
    rule("rabbitmq", r"vhost '?(?P<name>[^' ]{1,64})'? (?:not found|does not exist)", "name"),
    rule("aws", r"NoSuchBucket|the specified bucket does not exist", "name"),
    rule("kafka", r"UNKNOWN_TOPIC_OR_PARTITION", "name"),
    rule("redis", r"ERR DB index is out of range|invalid DB index", "name"),
    rule("sqlserver", r"cannot open database \"(?P<name>[^\"]{1,64})\"", "name"),
)  # fmt: skip
_WORDS = {
    "no_tls": "asks for TLS where none is spoken",
    "other_protocol": "gets an answer in another protocol than it speaks",
    "name": "asks for a name that is not there",
}


def find(scope: Scope) -> Iterable[Found]:
    for complaint in complaints(scope, RULES):
        if not is_server(complaint.rule.product, complaint.log.lines):
            found = _found(scope, complaint)
            if found is not None:
                yield found


def _found(scope: Scope, complaint: Complaint) -> Found | None:
    container, owner, kind = complaint.container, scope.owner(complaint.container), complaint.rule.kind
    dependency = dependency_of(scope, container, complaint.line.text, complaint.rule.product)
    configured = {
        address.host.lower() for address in addresses_of(container.pod) if address.container == container.name
    }
    if complaint.rule.product == "" and dependency.host in configured:
        return None  # told with its address by the analyzer of configured addresses
    facts: dict[str, Fact] = {"problem": "name" if kind == "name" else "protocol", "log_line": complaint.line.text}
    facts |= dependency.facts()
    name = complaint.match.groupdict().get("name")
    if kind == "name" and name:
        facts["observed"] = name
    asked = f" ({name})" if name else ""
    claims: list[Claim] = [*complaint.claims(scope), *dependency.claims]
    return Found(
        CauseClass.WRONG_DEPENDENCY_ADDRESS,
        owner,
        complaint.confidence,
        f"Container {container.name} of {owner.kind} {owner.name} reaches {dependency} and {_WORDS[kind]}{asked}.",
        claims,
        facts=facts,
        place=container.pod_name,
        subject=dependency.host or dependency.name,
        next_steps=[_step(kind, owner.name, str(dependency), name)],
    )


def _step(kind: str, owner: str, dependency: str, name: str | None) -> str:
    if kind == "name":
        return f"Compare the name that {owner} asks for{f' ({name})' if name else ''} with those that {dependency} has"
    if kind == "no_tls":
        return f"Switch TLS on at {dependency}, or off in what {owner} is configured with (scheme, sslmode, port)"
    return f"See what listens at {dependency} and correct the port or the protocol that {owner} is configured with"
