"""An address that only a Secret can hold: named by its key, asked about, and never read. A captured case, its container
given references (`reading`)."""

from __future__ import annotations

import copy
from pathlib import Path

from agents.remedies.people import ask
from diagnosis.workloads.diagnose import diagnose
from diagnosis.workloads.fields import Object
from diagnosis.workloads.load import load_snapshot
from diagnosis.workloads.snapshot import Snapshot
from incidents.models import Cause, CauseClass

SNAPSHOTS = Path(__file__).parents[2] / "fixtures" / "snapshots"


def reading(case: str, *env: Object) -> Cause:
    """The cause of a captured case whose failing container has these variables."""
    captured = load_snapshot(SNAPSHOTS / case)
    items = copy.deepcopy(captured.items())
    for item in items:
        if item["kind"] == "Pod" and len(item["spec"]["containers"]) > 1:
            item["spec"]["containers"][1]["env"] = list(env)
    logs = {key: captured.log(*key) or "" for key in captured.log_keys()}
    known = captured.complete | {("Secret", item["metadata"].get("namespace", "")) for item in items}
    (cause,) = diagnose(Snapshot(items, logs=logs, observed_at=captured.observed_at, complete=known)).causes
    return cause


def secret(variable: str, key: str) -> Object:
    return {"name": variable, "valueFrom": {"secretKeyRef": {"name": "orders-db", "key": key}}}


def test_the_key_that_can_hold_the_address_is_asked_about() -> None:
    cause = reading("dependency_unresolved", secret("ORDERS_HOST", "host"), secret("ORDERS_PASSWORD", "password"))
    assert cause.cause_class is CauseClass.DEPENDENCY_UNAVAILABLE
    assert cause.facts["secret_address"] == "key host of Secret orders-db (variable ORDERS_HOST)"
    question, why = ask(cause)
    assert (
        question
        == f"Is {cause.facts['dependency']} what key host of Secret orders-db (variable ORDERS_HOST) should hold?"
    )
    assert "values of Secrets are never read" in why


def test_what_holds_no_address_or_was_read_elsewhere_is_not_asked_about() -> None:
    bare = reading("dependency_unresolved")
    host = str(bare.facts["dependency"])
    other = [secret("ORDERS_PASSWORD", "password"), secret("ORDERS_PORT", "port"), secret("TOKEN", "token")]
    literal = [{"name": "ORDERS_URL", "value": f"http://{host}/"}, secret("CACHE_HOST", "cache-host")]
    for variables in ([], other, literal):
        cause = reading("dependency_unresolved", *variables)
        assert "secret_address" not in cause.facts, variables
        assert "Secret" not in ask(cause)[0]


def test_a_dependency_that_is_here_and_down_is_no_matter_of_secrets() -> None:
    cause = reading("dependency_refused", secret("DB_HOST", "host"))
    assert cause.cause_class is CauseClass.APPLICATION_ERROR  # the database's own
    assert "secret_address" not in cause.facts
