"""What every section of the configuration has in common."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid")


def distinct(what: str, names: list[str]) -> None:
    """Raises ValueError when two of these have the same name."""
    if len(set(names)) < len(names):
        raise ValueError(f"two {what} have the same name")
