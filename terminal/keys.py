"""`paramedic keys new`: make an API key. Only its hash goes into the configuration."""

from __future__ import annotations

import hashlib
import secrets
from typing import Annotated

import typer


def new(
    name: Annotated[str, typer.Argument(help="The identity it stands for: approvals carry it as `api:NAME`")],
    scope: Annotated[list[str] | None, typer.Option("--scope", help="read, autofix or approve; repeatable")] = None,
) -> None:
    """Print a new key once, and the configuration that lets it in."""
    key = f"pmk_{secrets.token_urlsafe(32)}"
    scopes = ", ".join(f'"{item}"' for item in scope or ["read"])
    typer.echo(key)
    typer.echo(
        f'\n# paramedic.toml\n[[api.keys]]\nname = "{name}"\n'
        f'sha256 = "{hashlib.sha256(key.encode()).hexdigest()}"\nscopes = [{scopes}]',
        err=True,
    )
