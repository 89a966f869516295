"""Models, runbooks and web search: outside knowledge that is asked."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, SecretStr

from settings.section import Section


class ModelPrice(Section):
    """US dollars for a million tokens."""

    input: float = Field(ge=0)
    output: float = Field(ge=0)


class LlmSettings(Section):
    model: str | None = Field(
        default=None, description="`openai:NAME` or `ollama:NAME`; empty: no model is ever called"
    )
    base_url: str | None = None
    api_key: SecretStr | None = None
    temperature: float = 0.0
    timeout: float = 60.0
    num_ctx: int = Field(default=16_384, description="Ollama's context window; its own default cuts prompts silently")
    max_steps: int = Field(default=8, ge=1, description="Tool rounds of one specialist, for all its hypotheses")
    tokens_per_incident: int = 200_000
    calls_per_hour: int = 50
    usd_per_month: float = 100.0
    min_value: float = Field(
        default=0.0, ge=0, le=10, description="A crash whose value is below this is not given to the model"
    )
    prices: dict[str, ModelPrice] = Field(default_factory=dict, description="A model without a price costs `unknown`")


class RunbookSettings(Section):
    folder: Path | None = Field(default=None, description="The team's runbooks, Markdown files; empty: there are none")
    max_files: int = Field(default=2000, ge=1)
    max_bytes: int = Field(default=1 << 20, ge=1, description="Of one file; larger ones are left out, and named")
    embeddings: str = Field(
        default="", description="`openai:NAME` or `ollama:NAME` on the model server of [llm]; empty: words alone"
    )


class SearchSettings(Section):
    searxng_url: Annotated[str, Field(pattern=r"^https?://[^@\s?#]+$")] | None = Field(
        default=None, description="A SearxNG server whose settings allow the format json; empty: no web search"
    )
    max_results: int = Field(default=5, ge=1, le=20)
    timeout: float = Field(default=10.0, gt=0)
