"""An Ollama server's own models: list them, fetch one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from errors import InvalidInput
from settings import LlmSettings
from tools.llm.errors import translate

if TYPE_CHECKING:
    from ollama import AsyncClient

_LIST_SECONDS = 15.0
_EVENT_SECONDS = 600.0
"""Between two progress events; checking the digest of a large file is silent for minutes."""


@dataclass(frozen=True)
class LocalModel:
    """A model on the server; `size` in bytes."""

    name: str
    size: int
    parameters: str
    quantization: str
    modified_at: datetime | None


@dataclass(frozen=True)
class PullProgress:
    """One event of a download; `layer` is the digest of the part that is being fetched, sizes are in bytes."""

    status: str
    layer: str | None
    completed: int
    total: int


class OllamaAdmin:
    """Talks to the server at `llm.base_url` when an Ollama model is configured, else where `OLLAMA_HOST` says."""

    def __init__(self, settings: LlmSettings) -> None:
        ours = (settings.model or "").startswith("ollama:")
        self._host = settings.base_url if ours else None
        self._key = settings.api_key if ours else None

    async def list(self) -> list[LocalModel]:
        """The models on the server, by name. Raises ToolFailed or ToolTimeout."""
        try:
            async with self._client(_LIST_SECONDS) as client:
                found = (await client.list()).models
        except Exception as error:
            raise translate(error, "ollama") from error
        models = [
            LocalModel(
                name=item.model or "",
                size=int(item.size or 0),
                parameters=(item.details and item.details.parameter_size) or "",
                quantization=(item.details and item.details.quantization_level) or "",
                modified_at=item.modified_at,
            )
            for item in found
        ]
        return sorted(models, key=lambda model: model.name)

    async def pull(self, name: str) -> AsyncIterator[PullProgress]:
        """Fetch a model, giving the server's own progress events. Raises InvalidInput, ToolFailed or ToolTimeout."""
        if not name.strip() or any(character.isspace() for character in name):
            raise InvalidInput(f"{name!r} is no model name; write NAME or NAME:TAG")
        try:
            async with self._client(_EVENT_SECONDS) as client:
                async for event in await client.pull(name, stream=True):
                    done, total = int(event.completed or 0), int(event.total or 0)
                    yield PullProgress(event.status or "", event.digest, done, total)
        except Exception as error:
            raise translate(error, f"ollama:{name}") from error

    def _client(self, timeout: float) -> AsyncClient:
        from ollama import AsyncClient

        headers = {"Authorization": f"Bearer {self._key.get_secret_value()}"} if self._key else None
        return AsyncClient(host=self._host, timeout=timeout, headers=headers)
