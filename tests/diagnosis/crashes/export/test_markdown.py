"""Outside text in a ticket stays text."""

from __future__ import annotations

import re

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from diagnosis.crashes.export.markdown import fenced, text, to_markdown
from incidents.crash_report import CrashInfo, CrashReport
from incidents.models import CauseClass, Diagnosis, DiagnosisStatus, Hypothesis, ObjectRef


def test_nothing_is_a_link_a_mention_an_image_or_a_tag() -> None:
    shown = text(
        "<img src=x onerror=alert(1)> @team see #1 [a](https://evil.example) ![x](y) `code` **bold** www.evil.example"
    )
    for piece in ("<", ">", "@team", " #1", "](", "://", "www.", "`code`", "**b**"):
        assert piece not in re.sub(r"\\.", "", shown)


def test_what_a_model_tested_stays_text() -> None:
    tested = Hypothesis(
        cause_class=CauseClass.DISK_FULL,
        object=ObjectRef(kind="Process", name="server"),
        verdict="refuted",
        because="<b>@team</b> see https://evil.example",
    )
    report = CrashReport(crash_info=CrashInfo(type="SIGSEGV"))
    found = Diagnosis(status=DiagnosisStatus.UNKNOWN, crash=report, hypotheses=[tested], closure=0.5)
    shown = to_markdown(found)
    assert "## Hypotheses of a model\n\n- refuted: disk\\_full in Process server: " in shown
    assert "The evidence bears 50% of what was stated" in shown
    assert "<b>" not in shown and "@team" not in shown and "://" not in shown


def test_a_line_break_starts_no_new_block() -> None:
    assert "\n" not in text("a\n# heading\n- item")


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.lists(st.text(), max_size=5))
def test_a_code_block_ends_where_it_should(lines: list[str]) -> None:
    block = fenced(lines).split("\n")
    fence = block[0].removesuffix("text")
    assert block[-1] == fence
    assert all(not line.startswith(fence) for line in block[1:-1])
