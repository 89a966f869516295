"""A model's structured answer, whichever way its server delivers it: a call of the answer tool, or JSON as text."""

from __future__ import annotations

import json
import re
from typing import Any, TypeVar

from langchain_core.messages import AIMessage
from pydantic import BaseModel, ValidationError

from tools.llm.models import ToolSpec

Answer = TypeVar("Answer", bound=BaseModel)

_THINKING = re.compile(r"<think>.*?(?:</think>|\Z)", re.DOTALL)
_FENCED = re.compile(r"```(?:json)?\s*(\{.*\})\s*```", re.DOTALL)


class Unusable(Exception):
    """The answer does not have the shape; the text tells the model what is wrong."""


def answer_spec(name: str, description: str, shape: type[BaseModel]) -> ToolSpec:
    """The tool by which a model gives an answer of this shape."""
    return ToolSpec(name, description, shape.model_json_schema(by_alias=True))


def parse_answer(message: AIMessage, name: str, shape: type[Answer]) -> Answer:
    """The answer in `message`. Raises Unusable."""
    for call in message.tool_calls:
        if call["name"] == name:
            return _validated(call["args"], shape)
    if message.tool_calls:
        raise Unusable(f"call {name}, and nothing else")
    for broken in message.invalid_tool_calls:
        if broken.get("name") == name:
            raise Unusable(f"the arguments of {name} were no JSON")
    text = _THINKING.sub("", message.text).strip()
    fenced = _FENCED.search(text)
    try:
        document = json.loads(fenced[1] if fenced else text)
    except ValueError:
        raise Unusable(f"the answer was neither a call of {name} nor JSON") from None
    return _validated(document, shape)


def _validated(document: Any, shape: type[Answer]) -> Answer:
    try:
        return shape.model_validate(document)
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, item['loc'])) or 'answer'}: {item['msg']}" for item in error.errors()[:5]]
        raise Unusable("; ".join(problems)) from None
