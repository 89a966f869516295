"""A chat model that replays a script, for tests that need no wire.

LangChain's own fakes have neither `bind_tools` nor a record of what they were asked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import Runnable
from pydantic import Field


class ScriptedChatModel(BaseChatModel):
    """Each call takes the next item: a message, an exception, or a function from the messages to a message."""

    script: list[Any]
    calls: list[list[BaseMessage]] = Field(default_factory=list)
    offered: list[list[str]] = Field(default_factory=list)

    def bind_tools(self, tools: Sequence[Any], *, tool_choice: Any = None, **kwargs: Any) -> Runnable[Any, AIMessage]:
        return self.bind(tools=[tool["function"]["name"] for tool in tools], tool_choice=tool_choice)

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        self.calls.append(messages)
        self.offered.append(kwargs.get("tools") or [])
        item: Any = self.script.pop(0)
        if callable(item):
            item = item(messages)
        if isinstance(item, BaseException):
            raise item
        return ChatResult(generations=[ChatGeneration(message=item)])

    @property
    def _llm_type(self) -> str:
        return "scripted"


def says(
    text: str = "", *, calls: Sequence[tuple[str, dict[str, Any]]] = (), tokens: tuple[int, int] = (100, 20)
) -> AIMessage:
    """A finished answer with usage, as a server would give it."""
    return AIMessage(
        text,
        tool_calls=[{"name": name, "args": args, "id": f"call_{index}"} for index, (name, args) in enumerate(calls)],
        usage_metadata={"input_tokens": tokens[0], "output_tokens": tokens[1], "total_tokens": sum(tokens)},
        response_metadata={"model_name": "scripted", "finish_reason": "stop"},
    )


Script = list[AIMessage | BaseException | Callable[[list[BaseMessage]], AIMessage]]
