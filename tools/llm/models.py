"""The configured language model."""

from __future__ import annotations

from incidents.usage import UsageStore
from settings import LlmSettings


class Models:
    def __init__(self, settings: LlmSettings, usage: UsageStore) -> None:
        self.settings = settings
        self._usage = usage

    @classmethod
    def from_settings(cls, settings: LlmSettings, usage: UsageStore) -> Models | None:
        return cls(settings, usage) if settings.model else None
