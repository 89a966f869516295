"""Real programs' last words in real captured pods: what is told of them there, and that healthy pods may say anything.

The pods are captured ones; their logs are replaced by the lines of `program_lines.json` or by those given.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import pytest

from diagnosis.workloads.diagnose import diagnose
from diagnosis.workloads.load import load_snapshot
from diagnosis.workloads.snapshot import Snapshot
from incidents.models import Cause, CauseClass, Diagnosis

FIXTURES = Path(__file__).parents[2] / "fixtures"
ENTRIES = json.loads((FIXTURES / "program_lines.json").read_text())
TOLD = {
    "wrong_credentials", "database_read_only", "connections_exhausted", "disk_full", "too_many_open_files",
    "port_conflict", "permission_denied", "wrong_dependency_address",
}  # fmt: skip


@cache
def loaded(name: str) -> Snapshot:
    return load_snapshot(FIXTURES / "snapshots" / name)


def saying(name: str, lines: list[str]) -> Diagnosis:
    """The captured case with `lines` as the log of every container but its first."""
    original = loaded(name)
    logs = {}
    for pod in original.all("Pod"):
        for spec in pod["spec"]["containers"][1:]:
            for previous in (False, True):
                key = (pod["metadata"]["namespace"], pod["metadata"]["name"], spec["name"], previous)
                logs[key] = "\n".join(lines)
    return diagnose(Snapshot(original.items(), logs=logs, observed_at=original.observed_at, complete=original.complete))


def first(lines: list[str]) -> Cause:
    return saying("application_error", lines).causes[0]


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: f"{entry['program']}: {entry['cause'] or 'nothing'}")
def test_the_words_are_told_in_a_pod_that_ends_and_mean_nothing_in_one_that_is_well(entry: dict) -> None:  # type: ignore[type-arg]
    found = saying("application_error", entry["lines"])
    if entry["cause"] in TOLD:
        assert found.causes[0].cause_class.value == entry["cause"]
        assert found.causes[0].object.kind == "DaemonSet"
        assert found.causes[0].object.container
    else:
        assert {cause.cause_class.value for cause in found.causes} & TOLD == set()
    assert saying("healthy", entry["lines"]).causes == []


def test_the_words_do_not_explain_another_ending() -> None:
    """Killed for memory or by a crash: what the program complained of before did not end it."""
    lines = ['FATAL: password authentication failed for user "app"']
    assert saying("oom_killed", lines).causes[0].cause_class is CauseClass.OOM_KILLED
    assert saying("native_crash", lines).causes[0].cause_class is CauseClass.NATIVE_CRASH


@pytest.mark.parametrize(
    "line",
    [
        '10.0.0.7 - - [21/Nov/2026:07:00:00 +0000] "GET /api HTTP/1.1" 401 Unauthorized',
        "GET /v1/users 401 Unauthorized in 3 ms",
        '[GIN] 2026/11/21 - 07:00:00 | 401 | 1.2ms | 10.0.0.7 | GET "/v1/users" 401 Unauthorized',
        "ERROR:  permission denied for table orders",
        "rpc error: code = PermissionDenied desc = no",
    ],
)
def test_what_is_said_of_others_is_no_cause(line: str) -> None:
    assert first([line, "bye"]).cause_class is CauseClass.APPLICATION_ERROR


@pytest.mark.parametrize(
    ("line", "facts"),
    [
        ("OSError: [Errno 98] Address already in use (while attempting to bind on address ('', 8080))", {"port": 8080}),
        ("listen tcp :9090: bind: address already in use", {"port": 9090}),
        ("Error: listen EADDRINUSE: address already in use 0.0.0.0:3000", {"port": 3000}),
        ("Web server failed to start. Port 8443 was already in use.", {"port": 8443}),
        ("[emerg] bind() to [::]:80 failed (98: Address already in use)", {"port": 80}),
        ("PermissionError: [Errno 13] Permission denied: '/srv/store/x'", {"problem": "path", "path": "/srv/store/x"}),
        ("bind() to 0.0.0.0:80 failed (13: Permission denied)", {"problem": "low_port", "port": 80}),
        ("OSError: [Errno 30] Read-only file system: '/srv/x'", {"problem": "read_only", "path": "/srv/x"}),
        ("write /var/lib/store/wal: no space left on device", {"path": "/var/lib/store/wal"}),
        ("fsnotify: too many open files", {"resource": "inotify"}),
        ("Error: ENOSPC: System limit for number of file watchers reached, watch '/app'", {"resource": "inotify"}),
        ("FATAL: database \"shopp\" does not exist", {"problem": "name", "observed": "shopp"}),
        (
            'connection to server at "db.shop.example" (10.0.0.5), port 5432 failed: FATAL:  password authentication '
            'failed for user "app"',
            {"dependency": "db.shop.example", "dependency_port": 5432, "dependency_product": "PostgreSQL"},
        ),
        ("pymysql.err.OperationalError: (1045, \"Access denied for user 'app'@'10.0.0.9' (using password: YES)\")",
         {"dependency": "MySQL", "dependency_product": "MySQL"}),
    ],
)  # fmt: skip
def test_the_particulars_are_read_from_the_line(line: str, facts: dict[str, object]) -> None:
    cause = first(["starting", line])
    assert {key: cause.facts.get(key) for key in facts} == facts


@pytest.mark.parametrize(
    "line",
    [
        "inotify_add_watch(7, /srv): No space left on device",
        "FATAL:  could not create semaphores: No space left on device",
        "Error: ENOSPC: System limit for number of file watchers reached, watch '/app'",
    ],
)
def test_other_limits_are_no_full_disk(line: str) -> None:
    assert first([line]).cause_class is not CauseClass.DISK_FULL


def test_a_pool_of_its_own_is_the_clients() -> None:
    line = "sqlalchemy.exc.TimeoutError: QueuePool limit of size 5 overflow 10 reached, connection timed out"
    cause = first([line])
    assert cause.cause_class is CauseClass.CONNECTIONS_EXHAUSTED
    assert "The pool of connections of container" in cause.summary


def test_two_that_declare_one_port_are_named_where_the_log_is_silent() -> None:
    """The captured port conflict without its logs."""
    original = loaded("port_of_a_sidecar")
    found = diagnose(Snapshot(original.items(), observed_at=original.observed_at, complete=original.complete))
    assert found.causes[0].cause_class is CauseClass.PORT_CONFLICT
    assert found.causes[0].facts["port"] == 8080
    assert found.causes[0].confidence < 0.7


def test_a_program_that_says_why_it_ends_has_no_conflict_by_declaration() -> None:
    found = saying("port_of_a_sidecar", ["ERROR option listen-port is not a number"])
    assert found.causes[0].cause_class is CauseClass.APPLICATION_ERROR
