"""What can go wrong with a model server, in one vocabulary.

langchain-openai talks through httpx2, ollama through httpx, and both raise their own errors on top: this is the only
module that knows them. langgraph's own `default_retry_on` would repeat a refused key and not repeat a 429.
"""

from __future__ import annotations

import sys

from diagnosis.redaction import redact
from errors import ParamedicError, ToolFailed, ToolTimeout

_MESSAGE_CHARS = 300


class ToolsUnsupported(ToolFailed):
    """The model cannot call tools (a property of the model, not of the server)."""


def is_transient(error: BaseException) -> bool:
    """Whether the same request may succeed in a moment: rate limits, 5xx, lost and refused connections, timeouts.

    An exhausted quota is a 429 that waiting does not cure.
    """
    if isinstance(error, ParamedicError):
        return False
    code = status_code(error)
    if code is not None:
        return (
            (code == 429 and getattr(error, "code", None) != "insufficient_quota") or code in (408, 409) or code >= 500
        )
    return _is_connection(error) or _is_timeout(error)


def was_refused(error: BaseException) -> bool:
    """Whether the server certainly did not work on the request: it answered with an error, or could not be reached.

    A connection that broke later may have cost tokens.
    """
    if status_code(error) is not None:
        return True
    refusals = (*_known("httpx", "ConnectError"), *_known("httpx2", "ConnectError"), ConnectionRefusedError)
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, refusals):
            return True
        # the ollama client replaces the cause by a plain ConnectionError of its own
        if type(cause) is ConnectionError:
            return True
        cause = cause.__cause__ or cause.__context__
    return False


def status_code(error: BaseException) -> int | None:
    """The HTTP status that the server answered with, or None when there was no such answer."""
    if isinstance(error, _known("openai", "APIStatusError") + _known("ollama", "ResponseError")):
        code = int(getattr(error, "status_code", -1))
        return code if code > 0 else None  # -1: an error inside a stream of ollama's
    if isinstance(error, _known("httpx", "HTTPStatusError") + _known("httpx2", "HTTPStatusError")):
        return int(error.response.status_code)  # type: ignore[attr-defined]
    return None


def retry_after(error: BaseException) -> float | None:
    """Seconds that the server asked to wait, where it said so as a number."""
    headers = getattr(getattr(error, "response", None), "headers", None)
    try:
        return max(0.0, float(headers["retry-after"])) if headers else None
    except (KeyError, ValueError):
        return None


def translate(error: BaseException, model: str) -> ParamedicError:
    """The error of our own tree for one of a model client's. `model` is the configured string, `provider:NAME`."""
    if isinstance(error, ParamedicError):
        return error
    if _is_timeout(error):
        return ToolTimeout(f"the model {model} did not answer in time")
    said = redact(str(error))[:_MESSAGE_CHARS]
    code = status_code(error)
    if code == 400 and "does not support tools" in said:
        return ToolsUnsupported(f"the model {model} cannot call tools")
    if code in (401, 403):
        return ToolFailed(f"the model server refused the API key for {model} ({code}); check llm.api_key")
    if code == 404:
        provider, _, name = model.partition(":")
        hint = f"; `paramedic models pull {name}` fetches it" if provider == "ollama" else ""
        return ToolFailed(f"the model server knows no {model}{hint}")
    if code == 429:
        return ToolFailed(f"the model server limits requests to {model} (429): {said}")
    if code is not None:
        return ToolFailed(f"the model server answered {code} for {model}: {said}")
    if _is_connection(error):
        return ToolFailed(f"the connection to the model server of {model} failed; check llm.base_url: {said}")
    return ToolFailed(f"the model server of {model} gave an answer that cannot be used: {type(error).__name__}: {said}")


def _is_timeout(error: BaseException) -> bool:
    families = (("openai", "APITimeoutError"), ("httpx", "TimeoutException"), ("httpx2", "TimeoutException"))
    return isinstance(error, (TimeoutError, *(kind for family in families for kind in _known(*family))))


def _is_connection(error: BaseException) -> bool:
    families = (("openai", "APIConnectionError"), ("httpx", "TransportError"), ("httpx2", "TransportError"))
    return isinstance(error, (ConnectionError, *(kind for family in families for kind in _known(*family))))


def _known(module: str, name: str) -> tuple[type[BaseException], ...]:
    """The error class, if its library is loaded: one that is not cannot have raised it, and importing it takes seconds
    in which the event loop would stand still."""
    loaded = sys.modules.get(module)
    return (getattr(loaded, name),) if loaded is not None else ()
