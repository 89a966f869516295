"""The LangChain client of a model string. Everything heavy is imported here, when the first call is made."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from errors import InvalidInput
from settings import LlmSettings
from tools.trust import trusted

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

OPENAI_URL = "https://api.openai.com/v1"
MAX_OUTPUT_TOKENS = 4096
"""Of one answer. It bounds what a call can cost before it is made."""


def parse_model(settings: LlmSettings) -> tuple[str, str]:
    """Provider and name of `settings.model`. Raises InvalidInput, in one sentence, when they cannot be used."""
    provider, _, name = (settings.model or "").partition(":")
    if provider not in ("openai", "ollama") or not name.strip():
        raise InvalidInput(f"llm.model is {settings.model!r}; write openai:NAME or ollama:NAME")
    if settings.base_url is not None:
        url = urlsplit(settings.base_url)
        if url.scheme not in ("http", "https") or not url.hostname:
            raise InvalidInput(f"llm.base_url is {settings.base_url!r}; write http://HOST:PORT or https://…")
    if provider == "openai" and settings.base_url is None and settings.api_key is None:
        raise InvalidInput(f"llm.model {settings.model!r} needs llm.api_key, or llm.base_url of a server without keys")
    return provider, name


def build_client(settings: LlmSettings) -> BaseChatModel:
    """The chat client, without any retry of its own. Slow (imports, certificates): call it in a thread."""
    provider, name = parse_model(settings)
    key = settings.api_key.get_secret_value() if settings.api_key else None
    if provider == "ollama":
        import httpx
        from langchain_ollama import ChatOllama

        # connections are not kept: a pool would belong to the event loop that made it, and a call takes seconds anyway
        once: dict[str, object] = {"limits": httpx.Limits(max_keepalive_connections=0), "timeout": settings.timeout}
        once["verify"] = trusted()
        if key:
            once["headers"] = {"Authorization": f"Bearer {key}"}
        return ChatOllama(
            model=name,
            base_url=settings.base_url,
            temperature=settings.temperature,
            num_ctx=settings.num_ctx,
            num_predict=MAX_OUTPUT_TOKENS,
            client_kwargs=once,
        )
    import openai
    from httpx2 import Limits
    from langchain_openai import ChatOpenAI
    from pydantic import SecretStr

    return ChatOpenAI(
        model=name,
        base_url=settings.base_url or OPENAI_URL,  # given always: else an environment variable would decide
        api_key=SecretStr(key or "none"),
        temperature=settings.temperature,
        max_completion_tokens=MAX_OUTPUT_TOKENS,
        max_retries=0,
        timeout=settings.timeout,
        stream_usage=True,
        stream_chunk_timeout=None,
        use_responses_api=False,
        http_async_client=openai.DefaultAsyncHttpxClient(limits=Limits(max_keepalive_connections=0), verify=trusted()),
    )
