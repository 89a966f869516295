"""A program that what it depends on does not let in: a wrong or missing password, key or token.

The log of the client says so in its product's words. Named are the dependency and where the container reads its
credentials from; whether that value or the dependency's is the wrong one was not seen, as values of Secrets never are.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from diagnosis.workloads.containers import Container
from diagnosis.workloads.contract import Claim, Documented, Found
from diagnosis.workloads.dependency import Dependency, dependency_of, is_server
from diagnosis.workloads.evidence import of_object
from diagnosis.workloads.fields import mapping, objects, text
from diagnosis.workloads.log_rules import Complaint, complaints, rule
from diagnosis.workloads.scope import Scope
from diagnosis.workloads.services import services_of
from diagnosis.workloads.stale_values import stale_values
from incidents.models import CauseClass, Fact, Severity

NAME = "wrong_credentials"
READS = ("Pod", "Service")
RULED_OUT = "credentials: no failing container's log tells of a refused login"
CAUSES = {
    CauseClass.WRONG_CREDENTIALS: Documented(
        "What a program depends on refuses it for its user, password, key or token.",
        "The program's own log line in the words of the product, its failing container, and where the container reads "
        "its credentials from.",
        "A restart where the Secret was written after the container started, which so has the old value. Else none: "
        "values of Secrets are never read, so which side is wrong is not known; the Secrets and variables to compare "
        "are named.",
    )
}

RULES = (
    rule("postgresql", r"password authentication failed for user|fe_sendauth: no password supplied|\b28P01\b"
         r"|no pg_hba\.conf entry for|FATAL: {1,3}role \"[^\"]{1,64}\" does not exist|InvalidPasswordError"
         r"|server requested (?:a )?password-based authentication|SCRAM-SERVER-FIRST-MESSAGE: client password"),
    rule("mysql", r"access denied for user '|ER_ACCESS_DENIED_ERROR|ERROR 1045\b|\(1045,"),
    rule("redis", r"\bNOAUTH\b|\bWRONGPASS\b|invalid username-password pair"
                  r"|HELLO must be called with the client already"
         r" authenticated|ERR AUTH <password> called without any password|redis\S{0,40}AuthenticationError"
         r"|ERR invalid password"),
    rule("mongodb", r"mongo.{0,80}authentication failed|AuthenticationFailed\b.{0,40}code 18"
                    r"|\"?codeName\"?: ?'?\"?Authenticat"
         r"ionFailed|auth error: sasl conversation error|not authorized on \S{1,64} to execute command"
         r"|command \w{1,40} requires authentication"),
    rule("rabbitmq", r"ACCESS_REFUSED|ProbableAuthenticationError|username or password not allowed"),
    rule("kafka", r"SaslAuthenticationException|SASL authentication (?:error|failed)"
                  r"|invalid credentials with SASL mechanism"
         r"|TOPIC_AUTHORIZATION_FAILED|not authorized to access (?:topics|group)"),
    rule("elasticsearch", r"unable to authenticate user \[|missing authentication credentials for REST request"),
    rule("cassandra", r"provided username .{1,80} and/or password are incorrect|cassandra.{0,80}bad credentials"),
    rule("clickhouse", r"authentication failed: password is incorrect|\bCode: 516\b"),
    rule("sqlserver", r"login failed for user '"),
    rule("oracle", r"ORA-01017|ORA-28000|ORA-01005"),
    rule("etcd", r"etcdserver: (?:authentication failed|invalid auth token|user name (?:is empty|not found))"),
    rule("nats", r"nats: authorization violation|'Authorization Violation'"),
    rule("mqtt", r"connection refused: (?:not authori[sz]ed|bad user ?name or password)|MQTT.{0,60}not authori[sz]ed"),
    rule("ldap", r"LDAP: error code 49|ldap.{0,60}invalid credentials|invalid credentials \(49\)"),
    rule("smtp", r"SMTPAuthenticationError|\b535[ -]5\.7\.\d|535 authentication (?:failed|credentials)"),
    rule("vault", r"vault.{0,120}(?:permission denied|invalid token|missing client token|invalid role or secret id)"),
    rule("aws", r"InvalidAccessKeyId|SignatureDoesNotMatch|UnrecognizedClientException|InvalidClientTokenId"
         r"|ExpiredToken(?:Exception)?\b|unable to locate credentials|NoCredentialProviders|NoCredentialsError"
         r"|security token included in the request is (?:invalid|expired)|failed to refresh cached credentials"
         r"|access key id you provided does not exist|AccessDenied(?:Exception)?\b.{0,200}(?:aws|s3|arn:|when calling)"
         r"|(?:aws|s3|arn:|when calling).{0,200}\bAccessDenied"),
    rule("gcp", r"could not (?:find|load the) default credentials|DefaultCredentialsError|oauth2: .{0,40}invalid_grant"
         r"|google.{0,120}(?:UNAUTHENTICATED|invalid_grant|Unauthorized)"),
    rule("azure", r"AADSTS\d{4,7}|ClientAuthenticationError|DefaultAzureCredential failed"
                  r"|server failed to authenticate the request"),
    rule("ssh", r"permission denied \((?:publickey|password)|ssh: unable to authenticate"
                r"|fatal: authentication failed for"),
    rule("grpc", r"code = Unauthenticated|StatusCode\.UNAUTHENTICATED|UNAUTHENTICATED: "),
    rule("http", r"HTTP Error 401|401 Client Error|status ?code:? (?:was |of )?401\b|responded with 401"
                 r"|401 Unauthorized"
         r"|HTTP 401\b|response code:? 401|server returned HTTP response code: 401"),
    rule("database", r"(?:database|\bdb\b).{0,60}authentication failed|(?:database|\bdb\b).{0,60}login failed"
         r"|数据库.{0,60}认证失败|密码错误|用户名或密码(?:错误|不正确)"),
)  # fmt: skip
_ACCESS_LOG = re.compile(  # what a server notes of its own answers
    r"\b(?:GET|POST|PUT|HEAD|DELETE|PATCH|OPTIONS)\b[ \"]{1,3}/\S{0,500}(?: HTTP/[\d.]{1,4})?\"? (?:- )?\d{3}\b"
    r"|->\s?401\b|\|\s{0,3}401 \|",
    re.IGNORECASE,
)
_CREDENTIAL = re.compile(
    r"pass|pwd|secret|token|credential|api_?key|access_?key|private_?key|auth|dsn|user|login|_ur[il]$|_url_"
    r"|connection|密码",
    re.IGNORECASE,
)
_SECRETIVE = re.compile(r"pass|pwd|secret|token|credential|key|auth|dsn", re.IGNORECASE)


def find(scope: Scope) -> Iterable[Found]:
    for complaint in complaints(scope, RULES):
        product = complaint.rule.product
        if not _ACCESS_LOG.search(complaint.line.text) and not is_server(product, complaint.log.lines):
            yield _found(scope, complaint)


def _found(scope: Scope, complaint: Complaint) -> Found:
    container, owner = complaint.container, scope.owner(complaint.container)
    dependency = dependency_of(scope, container, complaint.line.text, complaint.rule.product)
    sources, claims = _sources(scope, container)
    facts: dict[str, Fact] = {**dependency.facts(), "log_line": complaint.line.text}
    facts["credentials_from"] = [source for source, _, _ in sources]
    secrets = list(dict.fromkeys((name, key) for _, name, key in sources if name))
    if len({name for name, _ in secrets}) == 1:
        facts |= {"reference_kind": "Secret", "reference_name": secrets[0][0]}
        keys = [key for _, key in secrets if key and _SECRETIVE.search(key)]
        facts |= {"key": keys[0]} if len(keys) == 1 else {}
    stale = stale_values(scope, container) if complaint.ended is None else None
    if stale is not None and stale.kind == "Secret" and stale.name in {name for name, _ in secrets}:
        facts |= stale.facts
        claims += stale.claims
    others = _of_dependency(scope, dependency)
    if others:
        facts["dependency_credentials_from"] = others
    read = f"; it reads its credentials from {', '.join(dict.fromkeys(s for s, _, _ in sources))}" if sources else ""
    return Found(
        CauseClass.WRONG_CREDENTIALS,
        owner,
        complaint.confidence,
        f"Container {container.name} of {owner.kind} {owner.name} is refused by {dependency} for its "
        f"credentials{read}.",
        [*complaint.claims(scope), *claims, *dependency.claims],
        facts=facts,
        place=container.pod_name,
        subject=dependency.host or dependency.name,
        next_steps=[
            f"Compare the user and password that {owner.name} has for {dependency}"
            + (f" ({', '.join(source for source, _, _ in sources[:3])})" if sources else "")
            + " with those that it accepts, then restart what reads the corrected one"
        ],
    )


def _sources(scope: Scope, container: Container) -> tuple[list[tuple[str, str, str | None]], list[Claim]]:
    """Where a container reads credentials from, as (in words, Secret or "", key)."""
    now = scope.snapshot.observed_at
    found: list[tuple[str, str, str | None]] = []
    claims: list[Claim] = []

    def add(words: str, secret: str, key: str | None, at: str) -> None:
        found.append((words, secret, key))
        shown = of_object(container.pod, at, now)
        claims.append(Claim(f"Container {container.name} reads {words}", [shown], Severity.INFO))

    for index, variable in enumerate(objects(container.spec, "env")):
        name, source = text(variable, "name"), mapping(variable, "valueFrom", "secretKeyRef")
        at = f"{container.spec_at}/env/{index}"
        if text(source, "name"):
            key = text(source, "key")
            add(f"Secret {text(source, 'name')} key {key} (variable {name})", text(source, "name"), key, at)
        elif text(variable, "value") and _CREDENTIAL.search(name):
            add(f"variable {name} (a value in the template)", "", None, at)
    for index, source in enumerate(objects(container.spec, "envFrom")):
        if name := text(source, "secretRef", "name"):
            add(f"Secret {name} (all its keys)", name, None, f"{container.spec_at}/envFrom/{index}")
    volumes = {text(v, "name"): text(v, "secret", "secretName") for v in objects(container.pod, "spec", "volumes")}
    for index, mount in enumerate(objects(container.spec, "volumeMounts")):
        name, path = volumes.get(text(mount, "name"), ""), text(mount, "mountPath")
        if name and not path.startswith("/var/run/secrets/kubernetes.io/"):
            add(f"Secret {name} (mounted at {path})", name, None, f"{container.spec_at}/volumeMounts/{index}")
    return found[:8], claims[:4]


def _of_dependency(scope: Scope, dependency: Dependency) -> list[str]:
    """The Secrets that the dependency itself reads passwords from, where it runs here."""
    if dependency.service is None:
        return []
    found = []
    for template in services_of(scope.snapshot).selected_templates(dependency.service):
        for spec in objects(template.spec, "containers"):
            for variable in objects(spec, "env"):
                source = mapping(variable, "valueFrom", "secretKeyRef")
                if text(source, "name"):
                    found.append(f"Secret {text(source, 'name')} key {text(source, 'key')}")
    return list(dict.fromkeys(found))[:6]
