"""`paramedic models`: the language models that can be used."""

from __future__ import annotations

import typer

app = typer.Typer(help="Language models: what is there, fetch one, try the configured one.", no_args_is_help=True)
