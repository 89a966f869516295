"""Selectors of PromQL with names from outside in them: https://prometheus.io/docs/prometheus/latest/querying/basics/."""

from __future__ import annotations

import re

from errors import InvalidInput

_METRIC = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]{0,199}")
_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]{0,99}")
_SPECIAL = re.compile(r"[\\.+*?()|\[\]{}^$]")


def quoted(value: str) -> str:
    """A text as a PromQL string, whatever is in it."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\r", "\\r")
    return f'"{escaped.replace(chr(0), "")}"'


def one_of(values: list[str]) -> str:
    """A regular expression that matches exactly these texts, as a PromQL string (RE2; matches are anchored)."""
    return quoted("|".join(_SPECIAL.sub(r"\\\g<0>", value) for value in values))


def selector(metric: str, *matchers: tuple[str, str, str]) -> str:
    """`metric{label<operator>value,…}`; a matcher is (label, one of = != =~ !~, a value of `quoted` or `one_of`).

    Raises InvalidInput for what is no name.
    """
    if not _METRIC.fullmatch(metric):
        raise InvalidInput(f"{metric[:60]!r} is no name of a metric")
    for label, operator, value in matchers:
        if not _LABEL.fullmatch(label) or operator not in ("=", "!=", "=~", "!~") or not value.startswith('"'):
            raise InvalidInput(f"{label[:60]!r} {operator[:2]} is no matcher")
    return f"{metric}{{{','.join(f'{label}{operator}{value}' for label, operator, value in matchers)}}}"
