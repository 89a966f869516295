"""Chats and sinks that are told."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, field_validator, model_validator

from settings.section import Section, distinct


class FeishuSettings(Section):
    base_url: str = "https://open.feishu.cn"
    app_id: str | None = None
    app_secret: SecretStr | None = None
    encrypt_key: SecretStr | None = None
    verification_token: SecretStr | None = None
    chat_id: str | None = Field(default=None, description="The chat that cards go to")
    webhook_url: SecretStr | None = Field(default=None, description="Custom bot: notices without buttons")
    webhook_secret: SecretStr | None = None
    language: Literal["en", "zh"] = "en"


class NotifyChannel(Section):
    """A group that is told beside the one of `[feishu]`, and what it wants to hear: all filters must let it through."""

    name: str = Field(pattern="^[a-z0-9-]{1,24}$", description="In logs and metrics")
    kind: Literal["slack", "wecom", "feishu"] = Field(description="Incoming webhook, group robot or custom bot")
    webhook_url: SecretStr | None = None
    webhook_url_file: Path | None = None
    webhook_secret: SecretStr | None = Field(default=None, description="Feishu only: the bot's signature")
    namespaces: list[str] = Field(default_factory=list, description="Patterns (`team-*`); empty: all")
    owners: list[str] = Field(default_factory=list, description="Patterns of workloads: `Deployment/shop-*`, `shop`")
    min_severity: Literal["info", "warning", "error", "critical"] = "info"
    keyword: str | None = Field(default=None, min_length=1, description="In what is said of the incident")
    template: str | None = Field(
        default=None, min_length=1, max_length=2000, description="Slack and WeCom: the text, with variables in braces"
    )

    @model_validator(mode="after")
    def _one_address(self) -> NotifyChannel:
        if (self.webhook_url is None) == (self.webhook_url_file is None):
            raise ValueError(f"channel {self.name} needs webhook_url or webhook_url_file")
        return self


class NotifySettings(Section):
    channels: list[NotifyChannel] = Field(default_factory=list)

    @field_validator("channels")
    @classmethod
    def _names(cls, value: list[NotifyChannel]) -> list[NotifyChannel]:
        names = [channel.name for channel in value]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"two channels have the name {twice}; each needs its own, of whatever kind they are")
        return value


EventType = Literal[
    "io.paramedic.incident.opened",
    "io.paramedic.incident.diagnosed",
    "io.paramedic.approval.requested",
    "io.paramedic.incident.ended",
]


class EventSink(Section):
    """Who is told of incidents by CloudEvents over HTTP. Both filters must let an event through."""

    name: str = Field(pattern="^[a-z0-9-]{1,24}$", description="In logs and metrics")
    url: SecretStr = Field(description="Posted to as it is")
    key: SecretStr | None = Field(default=None, description="Sent as bearer token")
    key_file: Path | None = None
    mode: Literal["structured", "binary"] = "structured"
    types: list[EventType] = Field(default_factory=list, description="Empty: all")
    namespaces: list[str] = Field(default_factory=list, description="Patterns (`team-*`); empty: all")

    @field_validator("url")
    @classmethod
    def _address(cls, value: SecretStr) -> SecretStr:
        if not re.fullmatch(r"https?://[^/@\s]+(/[^@\s]*)?", value.get_secret_value()):
            raise ValueError("a sink of events is an http or https URL without credentials")
        return value


class EventsSettings(Section):
    source: str = Field(default="/paramedic", min_length=1, max_length=200, description="`source` of every event")
    sinks: list[EventSink] = Field(default_factory=list)

    @field_validator("sinks")
    @classmethod
    def _names(cls, value: list[EventSink]) -> list[EventSink]:
        distinct("sinks", [sink.name for sink in value])
        return value
