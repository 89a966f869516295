"""What real programs write when something is wrong is understood, and only as what it is.

`program_lines.json` holds the lines with the commands that made them (tests/fixtures/make_program_lines.py).
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from diagnosis.workloads.analyzers import (
    database_state,
    disk_full,
    open_files,
    permission_denied,
    port_conflict,
    wrong_credentials,
    wrong_dependency,
)
from diagnosis.workloads.dependency import is_server
from diagnosis.workloads.log_rules import LogRule, last_complaint, marks_of
from diagnosis.workloads.logs import Log

ENTRIES = json.loads((Path(__file__).parents[2] / "fixtures" / "program_lines.json").read_text())
TABLES: dict[str, tuple[LogRule, ...]] = {
    "wrong_credentials": wrong_credentials.RULES,
    "database_read_only": database_state.READ_ONLY,
    "connections_exhausted": database_state.EXHAUSTED,
    "disk_full": disk_full.RULES,
    "too_many_open_files": open_files.RULES,
    "port_conflict": port_conflict.RULES,
    "permission_denied": permission_denied.RULES,
    "wrong_dependency_address": wrong_dependency.RULES,
}


def understood(lines: list[str]) -> set[str]:
    log = Log.of("ns", "pod", "app", True, "\n".join(lines))
    found = {cause: last_complaint(log, rules) for cause, rules in TABLES.items()}
    return {cause for cause, told in found.items() if told and not is_server(told[1].product, log.lines)}


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: f"{entry['program']}: {entry['cause'] or 'nothing'}")
def test_real_lines_are_understood_as_their_cause_only(entry: dict) -> None:  # type: ignore[type-arg]
    assert understood(entry["lines"]) == ({entry["cause"]} & set(TABLES))


@pytest.mark.parametrize(
    "entry", [e for e in ENTRIES if e["cause"] in TABLES], ids=lambda e: f"{e['program']}: {e['cause']}"
)
def test_what_a_program_got_over_is_not_believed(entry: dict) -> None:  # type: ignore[type-arg]
    assert understood([*entry["lines"], "server listening on 0.0.0.0:8080", "ERROR something else"]) == set()


@pytest.mark.parametrize(
    "line",
    [
        "INFO password authentication failed for user test is what the audit job looks for",
        'level=info msg="no space left on device is handled by the cleaner"',
        "2026-11-21 07:00:00,123 DEBUG pool: Too many connections? no",
        "WARN redis: READONLY You can't write against a read only replica, will retry",
        "I1121 07:00:00.123456       1 log.go:12] bind: address already in use is tested here",
        '{"level":"info","msg":"open /x: permission denied is expected"}',
    ],
)
def test_lines_that_call_themselves_harmless(line: str) -> None:
    assert understood([line, "the end"]) == set()


def test_a_warning_before_an_error_is_not_the_cause() -> None:
    warning = "WARN cache: open '/srv/cache': permission denied"
    assert understood([warning, "ERROR option listen-port is not a number"]) == set()
    assert understood([warning, "exiting"]) == {"permission_denied"}


def test_a_later_crash_of_its_own_takes_over() -> None:
    trace = ["Traceback (most recent call last):", *['  File "/app/m.py", line 3, in f'] * 4, "KeyError: 'mode'"]
    complaint = 'psycopg2.OperationalError: FATAL:  password authentication failed for user "app"'
    assert understood([complaint, "falling back to the cache", *trace]) == set()
    chained = [complaint, "", "During handling of the above exception, another exception occurred:", "", *trace]
    assert understood(chained) == {"wrong_credentials"}


@pytest.mark.parametrize("cause", TABLES)
def test_every_alternative_has_a_mark_to_look_for(cause: str) -> None:
    for rule in TABLES[cause]:
        assert all(len(mark) >= 2 for mark in rule.marks), (rule.pattern.pattern, rule.marks)


@pytest.mark.parametrize(
    ("pattern", "marks"),
    [
        (r"too many (?:open )?files|\bEMFILE\b", ("too many ", "emfile")),
        (r"colou?r of the sky", ("r of the sky",)),
        (r"\(1040, |a{2,3}bcd|[x|y]efg", ("(1040, ", "bcd", "efg")),
        (r"(?:one|two) of (?P<name>\w{1,9})", (" of ",)),
    ],
)
def test_marks_are_in_every_match(pattern: str, marks: tuple[str, ...]) -> None:
    assert marks_of(pattern) == marks


def test_patterns_are_quick_on_hostile_lines() -> None:
    """Linear in the line: no pattern may backtrack on long runs of what it repeats."""
    hostile = [
        "a" * 800,
        "x." * 400,
        "mongo" * 160,
        "redis" + "S" * 795,
        "aws" + " when calling" * 60,
        "cannot execute " + "A " * 380,
    ]
    for rules in TABLES.values():
        for rule in rules:
            assert isinstance(rule.pattern, re.Pattern)
            for line in hostile:
                rule.pattern.search(line)
