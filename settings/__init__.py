"""Configuration: one documented file (`paramedic.toml`) or environment variables (`PARAMEDIC_…`, nested with `__`).

Everything has a default that works embedded: SQLite and files in the data directory, no model, no channel, no cluster
until a kubeconfig is found. Unknown keys in the file are an error. Durations are in seconds, sizes in bytes.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from errors import InvalidInput
from settings.collecting import CollectorSettings, HandlerSettings, WebhookSettings
from settings.cores import CoreSettings, GdbSettings
from settings.knowing import LlmSettings, ModelPrice, RunbookSettings, SearchSettings
from settings.measuring import AlertmanagerSettings, ForecastService, ForecastSettings, PrometheusSettings
from settings.policy import InstanceRule, PolicySettings, milvus
from settings.service import ApiKey, ApiSettings, GateSettings, KubernetesSettings, Scope
from settings.storing import RetentionSettings, ShippingSettings, StoreSettings
from settings.telling import EventSink, EventsSettings, EventType, FeishuSettings, NotifyChannel, NotifySettings

__all__ = [
    "AlertmanagerSettings",
    "ApiKey",
    "ApiSettings",
    "CollectorSettings",
    "CoreSettings",
    "EventSink",
    "EventType",
    "EventsSettings",
    "FeishuSettings",
    "ForecastService",
    "ForecastSettings",
    "GateSettings",
    "GdbSettings",
    "HandlerSettings",
    "InstanceRule",
    "KubernetesSettings",
    "LlmSettings",
    "ModelPrice",
    "NotifyChannel",
    "NotifySettings",
    "PolicySettings",
    "PrometheusSettings",
    "RetentionSettings",
    "RunbookSettings",
    "Scope",
    "SearchSettings",
    "Settings",
    "ShippingSettings",
    "StoreSettings",
    "WebhookSettings",
    "load_settings",
]


class Settings(BaseSettings):
    """All of Paramedic's configuration. `load_settings()` turns mistakes into one clear sentence."""

    model_config = SettingsConfigDict(
        env_prefix="PARAMEDIC_", env_nested_delimiter="__", env_ignore_empty=True, extra="forbid"
    )

    data_dir: Path = Field(default_factory=lambda: _default_data_dir())
    language: Literal["en", "zh"] = "en"
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    max_concurrent_analyses: int = Field(default=4, ge=1, description="Snapshots and debuggers at the same time")
    api: ApiSettings = Field(default_factory=ApiSettings)
    kubernetes: KubernetesSettings = Field(default_factory=KubernetesSettings)
    core: CoreSettings = Field(default_factory=CoreSettings)
    store: StoreSettings = Field(default_factory=StoreSettings)
    shipping: ShippingSettings = Field(default_factory=ShippingSettings)
    retention: RetentionSettings = Field(default_factory=RetentionSettings)
    collector: CollectorSettings = Field(default_factory=CollectorSettings)
    webhook: WebhookSettings = Field(default_factory=WebhookSettings)
    gdb: GdbSettings = Field(default_factory=GdbSettings)
    prometheus: PrometheusSettings = Field(default_factory=PrometheusSettings)
    alertmanager: AlertmanagerSettings = Field(default_factory=AlertmanagerSettings)
    forecast: ForecastSettings = Field(default_factory=ForecastSettings)
    gate: GateSettings = Field(default_factory=GateSettings)
    instances: list[InstanceRule] = Field(default_factory=milvus, description="The first that matches a pod decides")
    policy: PolicySettings = Field(default_factory=PolicySettings)
    feishu: FeishuSettings = Field(default_factory=FeishuSettings)
    notify: NotifySettings = Field(default_factory=NotifySettings)
    events: EventsSettings = Field(default_factory=EventsSettings)
    llm: LlmSettings = Field(default_factory=LlmSettings)
    runbooks: RunbookSettings = Field(default_factory=RunbookSettings)
    search: SearchSettings = Field(default_factory=SearchSettings)

    @field_validator("data_dir")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return value.expanduser().absolute()

    @model_validator(mode="after")
    def _in_data_dir(self) -> Settings:
        if self.gdb.index_cache is None and self.gdb.index_cache_bytes:
            self.gdb = self.gdb.model_copy(update={"index_cache": self.data_dir / "gdb-index"})
        if self.store.url is None:
            self.store = self.store.model_copy(update={"url": (self.data_dir / "store").as_uri()})
        return self

    @property
    def sqlalchemy_url(self) -> str:
        return f"sqlite+aiosqlite:///{self.data_dir / 'paramedic.db'}"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        file = Path(os.environ.get("PARAMEDIC_CONFIG", "paramedic.toml"))
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, toml_file=file)


def load_settings(**overrides: object) -> Settings:
    """Settings from arguments, environment and file, in this order of precedence.

    Raises InvalidInput naming the first wrong key.
    """
    try:
        return Settings(**overrides)  # type: ignore[arg-type]
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise InvalidInput(f"configuration key {key!r}: {first['msg']}") from None
    except ValueError as error:  # a TOML file that does not parse
        raise InvalidInput(f"configuration: {error}") from None


def _default_data_dir() -> Path:
    base = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(base) / "paramedic"
