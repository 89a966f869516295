"""The configured language model: one request at a time, within budgets, with one layer of retries.

Nothing in here decides anything: callers get text and tool calls, and treat both as claims to be checked.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, cast

import structlog

from errors import ToolFailed, ToolTimeout
from incidents.database import utcnow
from incidents.usage import UsageStore
from settings import LlmSettings
from tools.llm.budget import Budget, Reservation
from tools.llm.clients import MAX_OUTPUT_TOKENS, build_client, parse_model
from tools.llm.errors import is_transient, retry_after, translate, was_refused

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel
    from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage

_ATTEMPTS = 3
_BACKOFF = 0.5
"""Seconds before the first repeat, when the server names no time; doubled after."""
_MAX_WAIT = 20.0
_OPENAI_PROMPT_CHARS = 150_000
"""Fits the context windows of hosted models; a smaller one answers with an error, and the rules stand."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class ToolSpec:
    """A function that the model may ask for. `schema` is the JSON schema of its arguments."""

    name: str
    description: str
    schema: dict[str, Any]

    def wire(self) -> dict[str, Any]:
        function = {"name": self.name, "description": self.description, "parameters": self.schema}
        return {"type": "function", "function": function}


class Models:
    """Asks the model of `settings.llm`.

    Every call raises BudgetExhausted before it is made, or ToolFailed/ToolTimeout; never a client library's error.
    """

    def __init__(
        self,
        settings: LlmSettings,
        usage: UsageStore,
        *,
        client: BaseChatModel | None = None,
        now: Callable[[], datetime] = utcnow,
    ) -> None:
        self.provider, _ = parse_model(settings)
        self.name = settings.model or ""
        self.settings = settings
        self.budget = Budget(self.name, settings, usage, now)
        self._client = client
        self._building = asyncio.Lock()

    @classmethod
    def from_settings(cls, settings: LlmSettings, usage: UsageStore) -> Models | None:
        """The model, or None when none is configured. Raises InvalidInput for a model string that is wrong."""
        return cls(settings, usage) if settings.model else None

    @property
    def prompt_chars(self) -> int:
        """Characters that a prompt may have. Ollama cuts longer ones from the front without saying so."""
        if self.provider == "openai":
            return _OPENAI_PROMPT_CHARS
        return max(self.settings.num_ctx - MAX_OUTPUT_TOKENS, self.settings.num_ctx // 2) * 3

    async def tokens_left(self, incident_id: str) -> int:
        """Of the incident's token budget."""
        return await self.budget.tokens_left(incident_id)

    async def ask(
        self,
        messages: Sequence[BaseMessage],
        *,
        incident_id: str | None = None,
        tools: Sequence[ToolSpec] = (),
        answer: ToolSpec | None = None,
    ) -> AIMessage:
        """One answer. With `tools` the model may call any of them; with `answer` it must answer in that shape.

        An enforced answer comes back as a call of that tool, or as JSON text: servers differ (`parse` either).
        """
        client = await self._ready()
        bound: Any = client
        if answer is not None and self.provider == "ollama":
            bound = client.bind(format=answer.schema)
        elif answer is not None:
            bound = client.bind_tools([answer.wire()], tool_choice=answer.name)
        elif tools:
            bound = client.bind_tools([tool.wire() for tool in tools])
        estimate = _estimate(messages, [*tools, *([answer] if answer else [])])
        for attempt in range(1, _ATTEMPTS + 1):
            claim = await self.budget.reserve(incident_id, input_tokens=estimate, output_tokens=MAX_OUTPUT_TOKENS)
            try:
                async with asyncio.timeout(self.settings.timeout):
                    with _untraced():
                        message = cast("AIMessage", await bound.ainvoke(list(messages)))
                _refuse_half(message)
            except Exception as error:
                await self._failed(error, claim, attempt)
            else:
                await self._settle(claim, message)
                return message
        raise AssertionError("unreachable")

    async def stream(self, messages: Sequence[BaseMessage], *, incident_id: str | None = None) -> AsyncGenerator[str]:
        """The answer's text in pieces. It is repeated after a failure only as long as nothing was given out."""
        client = await self._ready()
        estimate = _estimate(messages, [])
        for attempt in range(1, _ATTEMPTS + 1):
            claim = await self.budget.reserve(incident_id, input_tokens=estimate, output_tokens=MAX_OUTPUT_TOKENS)
            whole: AIMessageChunk | None = None
            given = False
            try:
                async with aclosing(self._chunks(client, messages)) as chunks:
                    async for chunk in chunks:
                        whole = chunk if whole is None else whole + chunk
                        if chunk.text:
                            given = True
                            yield chunk.text
                _refuse_half(whole)
            except Exception as error:
                await self._failed(error, claim, _ATTEMPTS if given else attempt)
            else:
                await self._settle(claim, whole)
                return

    async def _chunks(self, client: BaseChatModel, messages: Sequence[BaseMessage]) -> AsyncGenerator[AIMessageChunk]:
        deadline = asyncio.get_running_loop().time() + self.settings.timeout
        # typed as an iterator, but a generator: closing it closes the connection of an answer nobody waits for
        async with aclosing(cast("AsyncGenerator[AIMessageChunk]", client.astream(list(messages)))) as chunks:
            while True:
                # the guards hold one piece long: a generator may be resumed in another context
                async with asyncio.timeout_at(deadline):
                    with _untraced():
                        chunk = await anext(chunks, None)
                if chunk is None:
                    return
                yield chunk

    async def _ready(self) -> BaseChatModel:
        async with self._building:
            if self._client is None:
                try:
                    self._client = await asyncio.to_thread(build_client, self.settings)
                except (ValueError, OSError) as error:
                    raise ToolFailed(f"the client of {self.name} cannot be made: {error}") from error
            return self._client

    async def _failed(self, error: Exception, claim: Reservation, attempt: int) -> None:
        """Wait before another attempt, or raise the error that callers know."""
        if was_refused(error):
            await self.budget.settle(claim, input_tokens=0, output_tokens=0)
        known = translate(error, self.name)
        # our own deadline has passed then: a second wait of the same length helps nobody who is on call
        if attempt >= _ATTEMPTS or isinstance(known, ToolTimeout) or not is_transient(error):
            raise known from error
        asked = retry_after(error)
        wait = _BACKOFF * 2 ** (attempt - 1) * random.uniform(0.8, 1.2) if asked is None else asked  # noqa: S311
        if wait > _MAX_WAIT:
            raise known from error
        log.info("model call is repeated", model=self.name, attempt=attempt, wait=wait, error=str(known))
        await asyncio.sleep(wait)

    async def _settle(self, claim: Reservation, message: AIMessage | None) -> None:
        """A server that counts no tokens leaves the estimate of the input and the size of the output."""
        usage = message.usage_metadata if message is not None else None
        if usage:
            counts = usage["input_tokens"], usage["output_tokens"]
        else:
            counts = claim.input_tokens, _tokens(message.text if message is not None else "")
        await self.budget.settle(claim, input_tokens=counts[0], output_tokens=counts[1])


def _refuse_half(message: AIMessage | AIMessageChunk | None) -> None:
    """Raise for a stream that ended without the server's word that it was the end."""
    done = message.response_metadata if message is not None else {}
    if not (done.get("finish_reason") or done.get("done_reason") or done.get("done")):
        raise ConnectionError("the answer broke off")


def _untraced() -> Any:
    """LangSmith tracing stays off whatever the environment says: prompts hold what a cluster's logs hold."""
    from langsmith.run_helpers import tracing_context

    return tracing_context(enabled=False)


def _estimate(messages: Sequence[BaseMessage], tools: Sequence[ToolSpec]) -> int:
    total = sum(_tokens(message.text) + _tokens(str(getattr(message, "tool_calls", ""))) for message in messages)
    return total + sum(_tokens(json.dumps(tool.wire())) for tool in tools)


def _tokens(text: str) -> int:
    """An upper estimate: three bytes of UTF-8 a token (English has four or more, Chinese three)."""
    return len(text.encode("utf-8", "backslashreplace")) // 3 + 4
