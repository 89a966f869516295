"""The formats of a crash report, by name."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the command line asks for the names alone
    from incidents.models import Diagnosis

TOOL_VERSION = "0.1.0"


class ReportFormat(StrEnum):
    TEXT = "text"
    JSON = "json"
    MARKDOWN = "markdown"
    CASREP = "casrep"
    SARIF = "sarif"


MEDIA_TYPES = {
    ReportFormat.JSON: "application/json",
    ReportFormat.MARKDOWN: "text/markdown; charset=utf-8",
    ReportFormat.CASREP: "application/json",
    ReportFormat.SARIF: "application/sarif+json",
}


def rendered(diagnosis: Diagnosis, format: ReportFormat) -> str:
    """The whole document, with a line break at its end. ValueError without a crash report, or for TEXT."""
    from diagnosis.crashes.export.casrep import to_casrep
    from diagnosis.crashes.export.markdown import to_markdown
    from diagnosis.crashes.export.sarif import to_sarif

    if diagnosis.crash is None or format is ReportFormat.TEXT:
        raise ValueError("there is no such document of this diagnosis")
    match format:
        case ReportFormat.JSON:
            return diagnosis.model_dump_json(by_alias=True, indent=2) + "\n"
        case ReportFormat.MARKDOWN:
            return to_markdown(diagnosis)
        case ReportFormat.CASREP:
            return json.dumps(to_casrep(diagnosis.crash), indent=2) + "\n"
        case ReportFormat.SARIF:
            return json.dumps(to_sarif(diagnosis, TOOL_VERSION), indent=2) + "\n"
