"""Templates: `<<word>>` is a random name, the same one for the same word within a run; no rule can learn from names.

Values that are no names are given: `<<namespace>>`, `<<registry>>`, `<<image:web>>`. `<<ago:24>>` was 24 minutes ago,
and so was `<<ago_micro:24>>`, for fields of the type MicroTime.
"""

from __future__ import annotations

import random
import re
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

_WORDS = (
    "acorn", "anvil", "apron", "basil", "beacon", "bramble", "cask", "cinder", "cobalt", "copper", "crane", "delta",
    "drift", "elder", "falcon", "fennel", "ferry", "fjord", "gable", "ginger", "glade", "harbor", "heath", "iris",
    "jasper", "kelp", "lantern", "ledger", "lichen", "maple", "mesa", "nettle", "nimbus", "orchard", "paddle",
    "pepper", "poplar", "prairie", "quill", "rapids", "ridge", "saddle", "sedge", "spindle", "summit", "thicket",
    "timber", "tundra", "velvet", "willow", "yonder", "zephyr",
)  # fmt: skip
PLACE = re.compile(r"<<([a-z][a-z0-9_]*(?::[a-z0-9_-]+)?)>>")


def random_name() -> str:
    """Two words and a number, fit for any Kubernetes name or label."""
    return f"{random.choice(_WORDS)}-{random.choice(_WORDS)}-{secrets.token_hex(2)}"


class Names:
    """The names of one run. `given` are the values that are not made up."""

    def __init__(self, given: Mapping[str, str]) -> None:
        self._known = dict(given)

    def fill(self, template: str) -> str:
        """The text with every place filled in. Raises KeyError for a `kind:word` place that is not given."""
        return PLACE.sub(lambda place: self[place[1]], template)

    def __getitem__(self, word: str) -> str:
        kind, _, value = word.partition(":")
        if kind in ("ago", "ago_micro") and value.isdecimal():
            fraction = ".%f" if kind == "ago_micro" else ""  # a MicroTime wants one, a Time must not have one
            return (datetime.now(UTC) - timedelta(minutes=int(value))).strftime(f"%Y-%m-%dT%H:%M:%S{fraction}Z")
        if word not in self._known:
            if value:
                raise KeyError(word)
            self._known[word] = random_name()
        return self._known[word]
