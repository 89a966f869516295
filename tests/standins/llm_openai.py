"""OpenAI's chat completions: what a request must look like, and how answers look.

Rules from the vendor's API reference: unknown fields and models are refused, every call of a tool is answered by a tool
message before the next turn, schemas of tools are objects, a forced tool is one of the given.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse

from tests.standins.llm_wire import Rejected, pieces

if TYPE_CHECKING:
    from tests.standins.llm import Behaviour

_FIELDS = {
    "model", "messages", "temperature", "max_completion_tokens", "max_tokens", "stream", "stream_options", "tools",
    "tool_choice", "response_format", "n", "stop", "seed", "user", "parallel_tool_calls", "top_p", "reasoning_effort",
}  # fmt: skip
_NAME = re.compile(r"^[a-zA-Z0-9_-]{1,64}$")
_BASE = {"id": "chatcmpl-standin", "created": 1750000000, "model": "scripted-large", "system_fingerprint": "fp_standin"}


def error(status: int, message: str, code: str | None = None, headers: dict[str, str] | None = None) -> JSONResponse:
    kind = {401: "authentication_error", 429: "rate_limit_error"}.get(status, "invalid_request_error")
    body = {
        "error": {"message": message, "type": kind if status < 500 else "server_error", "param": None, "code": code}
    }
    return JSONResponse(body, status, headers=headers)


def check(body: dict[str, Any], model: str) -> None:
    unknown = set(body) - _FIELDS
    if unknown:
        raise Rejected(f"Unrecognized request argument supplied: {sorted(unknown)[0]}")
    if body.get("model") != model:
        raise Rejected(f"The model `{body.get('model')}` does not exist", 404, "model_not_found")
    if "max_tokens" in body and "max_completion_tokens" in body:
        raise Rejected("Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported.")
    if "stream_options" in body and not body.get("stream"):
        raise Rejected("The 'stream_options' parameter is only allowed when 'stream' is enabled.")
    temperature = body.get("temperature", 1)
    if not isinstance(temperature, int | float) or not 0 <= temperature <= 2:
        raise Rejected("Invalid 'temperature': expected a number from 0 to 2.")
    _check_tools(body)
    _check_messages(body.get("messages"))


def check_embeddings(body: dict[str, Any], model: str) -> None:
    """`POST /v1/embeddings`: unknown fields and models, empty inputs and more than 2048 of them are refused."""
    if unknown := set(body) - {"model", "input", "encoding_format", "dimensions", "user"}:
        raise Rejected(f"Unrecognized request argument supplied: {sorted(unknown)[0]}")
    if body.get("model") != model:
        raise Rejected(f"The model `{body.get('model')}` does not exist", 404, "model_not_found")
    texts = body.get("input")
    if not isinstance(texts, list) or not 0 < len(texts) <= 2048 or not all(isinstance(t, str) and t for t in texts):
        raise Rejected("'$.input' is invalid. Please check the API reference.")
    if body.get("encoding_format", "float") not in ("float", "base64"):
        raise Rejected("Invalid value for 'encoding_format'.")


def embeddings(vectors: list[list[float]], tokens: int) -> dict[str, Any]:
    rows = [{"object": "embedding", "index": at, "embedding": vector} for at, vector in enumerate(vectors)]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "data": rows, "model": "scripted-embedding", "usage": usage}


def _check_tools(body: dict[str, Any]) -> None:
    tools = body.get("tools")
    if tools is not None and (not isinstance(tools, list) or not tools):
        raise Rejected("Invalid 'tools': empty array. Expected an array with minimum length 1.")
    names = set()
    for tool in tools or []:
        function = tool.get("function") or {}
        if tool.get("type") != "function" or not _NAME.match(str(function.get("name"))):
            raise Rejected("Invalid 'tools[0].function.name'.")
        if (function.get("parameters") or {}).get("type") != "object":
            raise Rejected(f"Invalid schema for function '{function['name']}': schema must be of type 'object'")
        names.add(function["name"])
    choice = body.get("tool_choice")
    if choice is None or choice in ("auto", "none", "required"):
        return
    if not names:
        raise Rejected("'tool_choice' is only allowed when 'tools' are specified.")
    if not isinstance(choice, dict) or choice.get("function", {}).get("name") not in names:
        raise Rejected("Tool choice not found in 'tools' parameter.")


def _check_messages(messages: Any) -> None:
    if not isinstance(messages, list) or not messages:
        raise Rejected("[] is too short - 'messages'")
    open_calls: set[str] = set()
    for index, message in enumerate(messages):
        role = message.get("role")
        if role not in ("system", "developer", "user", "assistant", "tool"):
            raise Rejected(f"Invalid value: '{role}'. Supported values are: 'system', 'assistant', 'user', 'tool'.")
        if role == "tool":
            if message.get("tool_call_id") not in open_calls:
                raise Rejected(
                    "Invalid parameter: messages with role 'tool' must be a response to a preceding message with "
                    "'tool_calls'."
                )
            open_calls.remove(message["tool_call_id"])
            continue
        if open_calls:
            raise Rejected(
                "An assistant message with 'tool_calls' must be followed by tool messages responding to each "
                f"'tool_call_id'. The following tool_call_ids did not have response messages: {sorted(open_calls)}"
            )
        if message.get("content") is None and not message.get("tool_calls"):
            raise Rejected(f"Invalid value for 'content' of messages[{index}]: expected a string, got null.")
        for call in message.get("tool_calls") or []:
            if not _NAME.match(call["function"]["name"]) or not isinstance(call["function"]["arguments"], str):
                raise Rejected(f"Invalid 'messages[{index}].tool_calls'.")
            open_calls.add(call["id"])
    if open_calls:
        raise Rejected("An assistant message with 'tool_calls' must be followed by tool messages.")


def completion(behaviour: Behaviour) -> dict[str, Any]:
    calls = getattr(behaviour, "calls", [])
    message: dict[str, Any] = {"role": "assistant", "content": behaviour.text or None, "refusal": None}  # type: ignore[union-attr]
    if calls:
        message["tool_calls"] = [_call(index, *call) for index, call in enumerate(calls)]
    finish = "tool_calls" if calls else getattr(behaviour, "finish", "stop")
    choice = {"index": 0, "message": message, "finish_reason": finish, "logprobs": None}
    usage = getattr(behaviour, "usage", None)
    return {**_BASE, "object": "chat.completion", "choices": [choice]} | ({"usage": _usage(usage)} if usage else {})


async def events(behaviour: Behaviour, with_usage: bool) -> AsyncIterator[str]:
    calls = getattr(behaviour, "calls", [])
    yield _event({"role": "assistant", "content": ""})
    for piece in pieces(behaviour.text):  # type: ignore[union-attr]
        yield _event({"content": piece})
    if type(behaviour).__name__ == "Cut":
        raise ConnectionResetError("scripted cut")
    for index, call in enumerate(calls):
        yield _event({"tool_calls": [{**_call(index, *call), "index": index}]})
    yield _event({}, "tool_calls" if calls else getattr(behaviour, "finish", "stop"))
    usage = getattr(behaviour, "usage", None)
    if with_usage and usage:
        chunk = {**_BASE, "object": "chat.completion.chunk", "choices": [], "usage": _usage(usage)}
        yield f"data: {json.dumps(chunk)}\n\n"
    yield "data: [DONE]\n\n"


def _event(delta: dict[str, Any], finish: str | None = None) -> str:
    choice = {"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}
    return f"data: {json.dumps({**_BASE, 'object': 'chat.completion.chunk', 'choices': [choice]})}\n\n"


def _call(index: int, name: str, arguments: dict[str, Any] | str) -> dict[str, Any]:
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    return {"id": f"call_{index}_{name}"[:40], "type": "function", "function": {"name": name, "arguments": text}}


def _usage(usage: tuple[int, int]) -> dict[str, int]:
    return {"prompt_tokens": usage[0], "completion_tokens": usage[1], "total_tokens": sum(usage)}
