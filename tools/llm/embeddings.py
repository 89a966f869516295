"""Vectors of texts from the configured model server: OpenAI's `/v1/embeddings`, or Ollama's `/api/embed`.

The same server, key, timeout and budgets as the language model's. One attempt a call: whoever asks can do without.
"""

from __future__ import annotations

import asyncio
import json
import math
from array import array
from collections.abc import Sequence
from operator import mul
from typing import Any

from errors import InvalidInput, ToolFailed
from incidents.usage import UsageStore
from settings import LlmSettings
from tools.llm.budget import Budget
from tools.llm.clients import OPENAI_URL, parse_model
from tools.llm.errors import translate, was_refused
from tools.trust import trusted

_TEXT_CHARS = 2000
"""Of one text; its beginning stands for the rest. Small embedding models take no more."""
_MOST_NUMBERS = 8192
_ANSWER_BYTES = 64 << 20


class Embeddings:
    """Raises BudgetExhausted before a call, ToolFailed or ToolTimeout after it; never a client library's error."""

    def __init__(self, settings: LlmSettings, model: str, usage: UsageStore) -> None:
        """`model` is `openai:NAME` or `ollama:NAME`. Raises InvalidInput for another string."""
        self._settings = settings.model_copy(update={"model": model})
        if model.partition(":")[0] not in ("openai", "ollama"):
            raise InvalidInput(f"runbooks.embeddings is {model!r}; write openai:NAME or ollama:NAME")
        self._provider, self._model = parse_model(self._settings)
        self.name = model
        self._budget = Budget(model, settings, usage)

    @classmethod
    def from_settings(cls, settings: LlmSettings, model: str, usage: UsageStore) -> Embeddings | None:
        return cls(settings, model, usage) if model else None

    async def embed(self, texts: Sequence[str], *, incident_id: str | None = None) -> list[bytes]:
        """A vector of length one for each text, as 32-bit floats. Texts must be redacted already."""
        texts = [text[:_TEXT_CHARS] or " " for text in texts]
        estimate = sum(len(text.encode("utf-8", "backslashreplace")) // 3 + 4 for text in texts)
        claim = await self._budget.reserve(incident_id, input_tokens=estimate, output_tokens=0)
        try:
            async with asyncio.timeout(self._settings.timeout):
                numbers, used = await (self._ollama(texts) if self._provider == "ollama" else self._openai(texts))
            vectors = _vectors(numbers, len(texts))
        except Exception as error:
            if was_refused(error):
                await self._budget.settle(claim, input_tokens=0, output_tokens=0)
            raise translate(error, self.name) from error
        await self._budget.settle(claim, input_tokens=used if used is not None else estimate, output_tokens=0)
        return vectors

    async def _openai(self, texts: list[str]) -> tuple[Any, int | None]:
        import httpx

        key = self._settings.api_key.get_secret_value() if self._settings.api_key else "none"
        url = f"{(self._settings.base_url or OPENAI_URL).rstrip('/')}/embeddings"
        body = {"model": self._model, "input": texts, "encoding_format": "float"}
        headers = {"Authorization": f"Bearer {key}"}
        async with (
            httpx.AsyncClient(timeout=self._settings.timeout, verify=trusted()) as client,
            client.stream("POST", url, json=body, headers=headers) as response,
        ):
            response.raise_for_status()
            document = _json(await _limited(response))
        rows = document.get("data")
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise ToolFailed(f"the model server sent no vectors for {self.name}")
        rows = sorted(rows, key=lambda row: row["index"] if isinstance(row.get("index"), int) else 0)
        usage = document.get("usage")
        used = usage.get("prompt_tokens") if isinstance(usage, dict) else None
        return [row.get("embedding") for row in rows], used if isinstance(used, int) else None

    async def _ollama(self, texts: list[str]) -> tuple[Any, int | None]:
        from ollama import AsyncClient

        key = self._settings.api_key.get_secret_value() if self._settings.api_key else None
        headers = {"Authorization": f"Bearer {key}"} if key else None
        async with AsyncClient(host=self._settings.base_url, timeout=self._settings.timeout, headers=headers) as client:
            found = await client.embed(model=self._model, input=texts, truncate=True)
        return found.embeddings, found.prompt_eval_count


def similarity(one: bytes, other: bytes) -> float:
    """The cosine of two vectors of `embed`; 0 for vectors of different lengths (of another model of the same name)."""
    if len(one) != len(other):
        return 0.0
    return float(sum(map(mul, memoryview(one).cast("f"), memoryview(other).cast("f"))))


def _vectors(numbers: Any, count: int) -> list[bytes]:
    if not isinstance(numbers, Sequence) or len(numbers) != count:
        raise ToolFailed("the model server sent another number of vectors than of texts")
    return [_unit(row) for row in numbers]


def _unit(row: Any) -> bytes:
    if not isinstance(row, Sequence) or isinstance(row, str) or not 0 < len(row) <= _MOST_NUMBERS:
        raise ToolFailed("the model server sent a vector of no usable length")
    if not all(isinstance(number, int | float) and math.isfinite(number) for number in row):
        raise ToolFailed("the model server sent a vector that holds no numbers")
    length = math.hypot(*row)
    if not math.isfinite(length) or length == 0:
        raise ToolFailed("the model server sent a vector without a direction")
    return array("f", [number / length for number in row]).tobytes()


def _json(data: bytes) -> dict[str, Any]:
    try:
        document = json.loads(data)
    except ValueError:
        raise ToolFailed("the model server's answer is no JSON") from None
    if not isinstance(document, dict):
        raise ToolFailed("the model server's answer is no JSON object")
    return document


async def _limited(response: Any) -> bytes:
    data = bytearray()
    async for piece in response.aiter_bytes():
        data += piece
        if len(data) > _ANSWER_BYTES:
            raise ToolFailed("the model server's answer is too long")
    return bytes(data)
