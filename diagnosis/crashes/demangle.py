"""C++ and Rust names as people write them, where no debugger does it.

The grammar is the Itanium C++ ABI's (5.1), read by the itanium-demangler package. Names are outside data: what it
cannot read stays as it is, and names that would grow without bound are not tried.
"""

from __future__ import annotations

import re
from functools import lru_cache

import itanium_demangler

_LIMIT = 500
_MAX_REPEATS = 12
"""References to earlier parts of a name. Each can double its length."""
_REFERENCE = re.compile(r"[ST][0-9A-Z]*_")
_CONST = re.compile(r"^([^()]*) const\((.*)\)$", re.DOTALL)
_RUST_HASH = re.compile(r"::h[0-9a-f]{16}$")
_TYPE = re.compile(r"[NSP0-9]|[a-z]$")
_TYPES = {"PKc": "const char*", "Pc": "char*"}


def demangle(name: str) -> str:
    """A linker's name such as `_ZN4Shop4workEPv`: `Shop::work(void*)`; any other text unchanged."""
    return _read(name) if name.startswith("_Z") else name


def demangle_type(name: str) -> str:
    """A type's name as std::type_info has it, such as `N3app7DbErrorE`: `app::DbError`."""
    if name in _TYPES or not _TYPE.match(name):
        return _TYPES.get(name, name)
    return _read(f"_ZTS{name}", name).removeprefix("typeinfo name for ")


@lru_cache(maxsize=4096)
def _read(mangled: str, otherwise: str | None = None) -> str:
    plain = mangled if otherwise is None else otherwise
    if len(mangled) > _LIMIT or len(_REFERENCE.findall(mangled)) > _MAX_REPEATS:
        return plain
    try:
        tree = itanium_demangler.parse(mangled)
        text = str(tree) if tree is not None else plain
    except (NotImplementedError, RecursionError, ValueError, LookupError, TypeError, AttributeError, AssertionError):
        return plain  # the package raises whatever its recursive descent runs into
    text = text.replace("_GLOBAL__N_1", "(anonymous namespace)").replace("std::__cxx11::", "std::")
    return _RUST_HASH.sub("", _CONST.sub(r"\1(\2) const", text))
