"""What an analysis of metrics answers: which workload, since when, by which measurements; or that there is none."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from pydantic import Field

from incidents.models import Evidence, Frozen, Moment, ObjectRef

METRIC_SCHEMA_VERSION = "1.0"


class MetricStatus(StrEnum):
    FOUND = "found"
    NO_ROOT_CAUSE = "no_root_cause"  # enough was seen, and nothing changed more than it does by itself
    UNKNOWN = "unknown"  # too little was seen to say


class Direction(StrEnum):
    UP = "up"
    DOWN = "down"
    BEGAN = "began"  # the series itself: it has no values before
    ENDED = "ended"


class Span(Frozen):
    """From `start` to `end`, UTC."""

    start: datetime
    end: datetime


class Episode(Frozen):
    """Points that one detector found, near each other in time, as one alert."""

    detector: str
    start: datetime
    end: datetime
    points: int = Field(ge=1)
    peak: float | None = Field(default=None, description="The value that is farthest from usual")


class MetricChange(Frozen):
    """One series that changed. Values are in the series' own unit, a counter's per second."""

    name: str
    labels: dict[str, str]
    unit: str | None = None
    rate: bool = Field(default=False, description="Whether values are a counter's rates per second")
    score: float = Field(ge=0, description="How far from usual, in robust standard deviations, bounded; no unit")
    direction: Direction
    baseline_median: float | None = None
    incident_value: float | None = Field(default=None, description="Median of the incident window")
    onset: datetime | None = Field(default=None, description="When this series changed, as far as its step tells")
    detectors: list[str] = Field(default_factory=list, description="Detectors that fired after the onset")
    episodes: list[Episode] = Field(default_factory=list)
    evidence_id: str


class RankedWorkload(Frozen):
    """A candidate. `path` leads from the symptom to it along calls: the first entry shows the symptom."""

    rank: int = Field(ge=1)
    object: ObjectRef
    entity: str = Field(description="The name by which edges and events know it: namespace/name, or name")
    score: float = Field(ge=0, le=1, description="How clearly it stands out, against the report's `threshold`")
    onset: datetime | None = None
    path: list[str] = Field(default_factory=list)
    pods: list[str] = Field(default_factory=list, description="Pods that differ from their peers; empty: all alike")
    because: str = Field(description="One sentence on why it stands here")
    metrics: list[MetricChange] = Field(default_factory=list, description="Strongest first")
    evidence_ids: list[str] = Field(default_factory=list)


class Association(Frozen):
    """Two series that moved together. It says nothing about which of them is the cause."""

    first: str
    second: str
    lag_seconds: float = Field(description="How much later the second moved; 0 when below the step")
    coefficient: float = Field(ge=-1, le=1, description="Spearman's, of differences from one sample to the next")
    q_value: float = Field(ge=0, le=1, description="False-discovery rate at which it is kept (Benjamini-Hochberg)")


class EventBeside(Frozen):
    """Something that happened near the onset."""

    moment: Moment
    seconds_before_onset: float = Field(description="Negative: after it")
    entity: str = Field(default="", description="The ranked workload that it happened to or upstream of")
    upstream: bool = Field(default=False, description="It happened to a workload that this one leans on")


class DataQuality(Frozen):
    """What the answer rests on, and what weakens it."""

    series: int = Field(ge=0, description="Given")
    used: int = Field(ge=0)
    cut: int = Field(default=0, ge=0, description="Left out because there were too many")
    unusable: int = Field(default=0, ge=0, description="Too few values, or none in the baseline")
    step_seconds: float | None = Field(default=None, description="The median distance of samples")
    missing_share: float = Field(default=0, ge=0, le=1, description="Of the samples that the step promises")
    baseline_samples: int = Field(default=0, ge=0)
    incident_samples: int = Field(default=0, ge=0)
    baseline_too_short: bool = False
    baseline_contaminated: bool = Field(default=False, description="It holds an earlier disturbance")
    warnings: list[str] = Field(default_factory=list, description="One sentence each")


class MetricReport(Frozen):
    """An analysis of metrics. Like a diagnosis, each of its claims cites evidence that is in it."""

    schema_version: str = METRIC_SCHEMA_VERSION
    status: MetricStatus
    onset: datetime | None = Field(default=None, description="When the system changed; null: it did not, or unknown")
    onset_given: bool = Field(default=False, description="The caller named it; nothing was searched")
    window: Span | None = Field(default=None, description="What was asked about")
    baseline: Span | None = Field(default=None, description="What it was compared with")
    symptom: str = ""
    threshold: float = Field(default=0, ge=0, description="The score from which one is a root cause here")
    workloads: list[RankedWorkload] = Field(default_factory=list, description="Candidates, likeliest first")
    considered: list[RankedWorkload] = Field(
        default_factory=list, description="Without a root cause: what changed most all the same, strongest first"
    )
    associations: list[Association] = Field(default_factory=list)
    events: list[EventBeside] = Field(default_factory=list, description="Nearest to the onset first")
    data_quality: DataQuality
    summary: str
    explanation: str | None = Field(default=None, description="A model's words, each line borne by the evidence")
    evidence: list[Evidence] = Field(default_factory=list)
