"""A model server on a loopback port, and models that talk to it in each wire format."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from incidents.database import Database
from incidents.usage import UsageStore
from settings import LlmSettings
from tests.standins.llm import KEY, OPENAI_MODEL, LlmStandIn
from tools.llm import models as models_module
from tools.llm.models import Models

MakeModels = Callable[..., Models]


@pytest.fixture(scope="session")
def _standin() -> Iterator[LlmStandIn]:
    with LlmStandIn() as standin:
        yield standin


@pytest.fixture
def server(_standin: LlmStandIn) -> LlmStandIn:
    _standin.reset()
    return _standin


@pytest.fixture
def usage(database: Database) -> UsageStore:
    return UsageStore(database)


@pytest.fixture(autouse=True)
def _no_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models_module, "_BACKOFF", 0.01)


@pytest.fixture
def openai(server: LlmStandIn, usage: UsageStore) -> MakeModels:
    def make(**options: object) -> Models:
        fixed = {"model": f"openai:{OPENAI_MODEL}", "base_url": server.openai_url, "api_key": KEY, "timeout": 60.0}
        return Models(LlmSettings.model_validate(fixed | options), usage)

    return make


@pytest.fixture
def ollama(server: LlmStandIn, usage: UsageStore) -> MakeModels:
    def make(**options: object) -> Models:
        fixed = {"model": "ollama:scripted:8b", "base_url": server.ollama_url, "timeout": 60.0}
        return Models(LlmSettings.model_validate(fixed | options), usage)

    return make


@pytest.fixture(params=["openai", "ollama"])
def make_models(request: pytest.FixtureRequest) -> MakeModels:
    """Runs a test once in each wire format."""
    made: MakeModels = request.getfixturevalue(request.param)
    return made


REPLAY_PORT = 8712
"""Fixed, so that recorded addresses match. Nothing listens there when cassettes are replayed."""
_NOISE = ("user-agent", "accept-encoding", "connection", "content-length", "x-stainless-arch", "x-stainless-async",
          "x-stainless-lang", "x-stainless-os", "x-stainless-package-version", "x-stainless-raw-response",
          "x-stainless-read-timeout", "x-stainless-retry-count", "x-stainless-runtime",
          "x-stainless-runtime-version", "x-stainless-helper-method")  # fmt: skip


def _scrub_response(response: dict[str, Any]) -> dict[str, Any]:
    """Drop headers that change with every recording or could identify somebody."""
    for name in list(response["headers"]):
        if name.lower() in ("date", "server", "set-cookie", "x-request-id", "openai-organization"):
            del response["headers"][name]
    return response


@pytest.fixture(scope="module")
def vcr_config() -> dict[str, Any]:
    return {
        # without the body, two questions to one address would be taken for each other
        "match_on": ["method", "scheme", "host", "port", "path", "query", "body"],
        "filter_headers": [("authorization", "SCRUBBED"), *((name, None) for name in _NOISE)],
        "before_record_response": _scrub_response,
        "decode_compressed_response": True,
    }
