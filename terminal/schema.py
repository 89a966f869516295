"""`paramedic schema`: the JSON Schemas of what `--json` prints and of what is approved."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Annotated

import typer


class Document(StrEnum):
    DIAGNOSIS = "diagnosis"
    CRASH = "crash"
    PLAN = "plan"
    METRICS = "metrics"


def schema(document: Annotated[Document, typer.Argument(help="Which document")]) -> None:
    """Print the JSON Schema of a document (its `schema_version` is in the document)."""
    from pydantic import BaseModel

    from incidents.crash_report import CrashReport
    from incidents.metric_report import MetricReport
    from incidents.models import Diagnosis
    from incidents.plan import Plan

    models: dict[Document, type[BaseModel]] = {
        Document.DIAGNOSIS: Diagnosis,
        Document.CRASH: CrashReport,
        Document.PLAN: Plan,
        Document.METRICS: MetricReport,
    }
    typer.echo(json.dumps(models[document].model_json_schema(by_alias=True, mode="serialization"), indent=2))
