"""A Markdown template per agent, rendered with Jinja2.

Templates hold the project's own words. Outside text enters a prompt only fenced, as a value that is never a template.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jinja2.sandbox import SandboxedEnvironment


def render(name: str, **values: object) -> str:
    """The template `name` (without `.md`) with its values.

    A value that the template needs and was not given raises jinja2.UndefinedError: a mistake of ours, found by tests.
    """
    return _environment().get_template(f"{name}.md").render(**values)


@cache
def _environment() -> SandboxedEnvironment:
    from jinja2 import FunctionLoader, StrictUndefined
    from jinja2.sandbox import SandboxedEnvironment

    return SandboxedEnvironment(
        loader=FunctionLoader(_source),
        undefined=StrictUndefined,
        autoescape=False,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=False,
    )


def _source(name: str) -> str | None:
    file = files(__package__).joinpath(name)
    return file.read_text("utf-8") if file.is_file() else None
