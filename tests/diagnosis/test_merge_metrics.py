"""Measurements beside what was found: they add causes, and never health."""

from __future__ import annotations

import pytest

from agents.analyst import as_diagnosis
from diagnosis.merge import merge
from incidents.metric_report import DataQuality, MetricReport, MetricStatus
from incidents.models import Diagnosis, DiagnosisStatus

CALM = MetricReport(
    status=MetricStatus.NO_ROOT_CAUSE,
    window=None,
    symptom="",
    data_quality=DataQuality(series=1, used=1),
    summary="nothing changed",
)


@pytest.mark.parametrize(
    ("known", "together"),
    [
        (DiagnosisStatus.FAILED, DiagnosisStatus.FAILED),
        (DiagnosisStatus.HEALTHY, DiagnosisStatus.HEALTHY),
        (DiagnosisStatus.UNKNOWN, DiagnosisStatus.UNKNOWN),
    ],
)
def test_calm_measurements_change_no_status(known: DiagnosisStatus, together: DiagnosisStatus) -> None:
    assert merge(Diagnosis(status=known), None, as_diagnosis(CALM)).status is together


def test_calm_measurements_alone_are_no_health() -> None:
    assert merge(None, None, as_diagnosis(CALM)).status is DiagnosisStatus.UNKNOWN
