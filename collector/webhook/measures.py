"""What the webhook measures, as Prometheus metrics: reviews by their result, and how long they took."""

from __future__ import annotations

from typing import get_args

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from collector.webhook.review import Result

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)  # the API server waits for 5 s


class WebhookMeasures:
    """Counts since the start of the process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry(auto_describe=False)
        self._reviews = Counter(
            "paramedic_webhook_reviews", "Admission reviews, by result", ("result",), registry=self.registry
        )
        self.seconds = Histogram(
            "paramedic_webhook_review_seconds", "Time to answer a review", buckets=_SECONDS, registry=self.registry
        )
        for result in (*get_args(Result), "invalid"):
            self._reviews.labels(result)

    def count(self, result: Result) -> None:
        self._reviews.labels(result).inc()

    def invalid(self) -> None:
        """What came was no review."""
        self._reviews.labels("invalid").inc()

    def render(self) -> bytes:
        """The text exposition."""
        return generate_latest(self.registry)
