"""Ollama's chat: what a request must look like, and how answers look (one JSON document a line)."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from tests.standins.llm_wire import Rejected, pieces

if TYPE_CHECKING:
    from tests.standins.llm import Behaviour

_AT = "2026-01-01T00:00:00.000000Z"
_INTEGERS = ("num_ctx", "num_predict", "seed", "top_k")


def check(body: dict[str, Any], models: dict[str, bool]) -> None:
    name = body.get("model")
    if not name:
        raise Rejected("model is required")
    if name not in models:
        raise Rejected(f"model '{name}' not found", 404)
    if body.get("tools") and not models[name]:
        raise Rejected(f"registry.ollama.ai/library/{name} does not support tools")
    for key in _INTEGERS:
        value = (body.get("options") or {}).get(key)
        if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
            raise Rejected(f'option "{key}" must be of type integer')
    if not isinstance(body.get("messages"), list):
        raise Rejected("json: cannot unmarshal into Go struct field ChatRequest.messages")
    for message in body["messages"]:
        if message.get("role") not in ("system", "user", "assistant", "tool"):
            raise Rejected(f"invalid message role: {message.get('role')!r}")
        for call in message.get("tool_calls") or []:
            if not isinstance(call["function"]["arguments"], dict):
                raise Rejected("json: cannot unmarshal string into Go struct field ToolCallFunction.arguments")
    schema = body.get("format")
    if schema not in (None, "", "json") and not (isinstance(schema, dict) and schema.get("type") == "object"):
        raise Rejected("invalid format: expected 'json' or a JSON schema")


def check_embed(body: dict[str, Any], model: str) -> None:
    """`POST /api/embed`: a string or a list of strings."""
    if body.get("model") != model:
        raise Rejected(f"model '{body.get('model')}' not found", 404)
    texts = body.get("input")
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise Rejected("invalid input type")


async def events(behaviour: Behaviour, model: str) -> AsyncIterator[str]:
    for piece in pieces(behaviour.text):  # type: ignore[union-attr]
        yield _line(model, {"role": "assistant", "content": piece})
    if type(behaviour).__name__ == "Cut":
        raise ConnectionResetError("scripted cut")
    calls = [{"function": {"name": name, "arguments": args}} for name, args in getattr(behaviour, "calls", [])]
    if calls:
        yield _line(model, {"role": "assistant", "content": "", "tool_calls": calls})
    usage = getattr(behaviour, "usage", None)
    counts = {"prompt_eval_count": usage[0], "eval_count": usage[1]} if usage else {}
    end = {"done": True, "done_reason": getattr(behaviour, "finish", "stop"), "total_duration": 1000000, **counts}
    yield _line(model, {"role": "assistant", "content": ""}, end)


def tag(name: str) -> dict[str, Any]:
    details = {"format": "gguf", "family": "scripted", "parameter_size": "8.0B", "quantization_level": "Q4_K_M"}
    return {
        "name": name,
        "model": name,
        "modified_at": _AT,
        "size": 4_900_000_000,
        "digest": "0" * 64,
        "details": details,
    }


def pull_events(name: str) -> list[dict[str, Any]]:
    """As the server sends them; an unknown name is an error inside a stream of status 200."""
    if name.startswith("missing"):
        return [{"status": "pulling manifest"}, {"error": "pull model manifest: file does not exist"}]
    layer = {"status": "pulling aabbccddeeff", "digest": "sha256:aabbccddeeff00112233", "total": 1000}
    return [
        {"status": "pulling manifest"},
        layer,
        *({**layer, "completed": done} for done in (250, 500, 1000)),
        {"status": "verifying sha256 digest"},
        {"status": "writing manifest"},
        {"status": "success"},
    ]


def _line(model: str, message: dict[str, Any], end: dict[str, Any] | None = None) -> str:
    document = {"model": model, "created_at": _AT, "message": message, "done": False, **(end or {})}
    return json.dumps(document) + "\n"
