"""Mangled names are read as people write them; any other text stays as it is."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diagnosis.crashes.demangle import demangle, demangle_type

TYPES = [
    ("7DbError", "DbError"),
    ("N3app7DbErrorE", "app::DbError"),
    ("St12out_of_range", "std::out_of_range"),
    ("N12_GLOBAL__N_15OopsyE", "(anonymous namespace)::Oopsy"),
    ("St6vectorIiSaIiEE", "std::vector<int, std::allocator<int>>"),
    ("i", "int"),
    ("PKc", "const char*"),
    ("3ab", "3ab"),
    ("bad", "bad"),
    ("", ""),
]
FUNCTIONS = [
    "_ZN4Shop4workEPv",
    "_ZNK4Shop6LedgerI5OrderE5totalEi",
    "_ZNSt6vectorIiSaIiEE9push_backERKi",
    "_ZN4ShoplsERSoRKNS_5OrderE",
]


@pytest.mark.parametrize(("mangled", "name"), TYPES)
def test_types(mangled: str, name: str) -> None:
    assert demangle_type(mangled) == name


@pytest.mark.parametrize("mangled", FUNCTIONS)
def test_functions_are_as_binutils_has_them(mangled: str) -> None:
    if shutil.which("c++filt") is None:
        pytest.skip("c++filt not installed: apt-get install binutils")
    theirs = subprocess.run(["c++filt", mangled], check=True, capture_output=True, text=True, timeout=60).stdout.strip()
    assert demangle(mangled).split("(")[0] == theirs.replace("> >", ">>").split("(")[0]


def test_what_is_no_mangled_name_stays() -> None:
    for name in ("main", "__libc_start_main", "_Znonsense", "_Z", "Shop::work", "_ZZN4Shop3runEvENKUlvE_clEv"):
        assert demangle(name) == name


def test_a_rust_name_loses_its_hash() -> None:
    assert demangle("_ZN8crashing4look17h0123456789abcdefE") == "crashing::look"


@given(st.text(alphabet="NStE_0123456789abcI*SZLT", max_size=60))
def test_any_name(name: str) -> None:
    assert isinstance(demangle_type(name), str)
    assert isinstance(demangle("_Z" + name), str)


def test_a_name_that_grows_without_bound_is_not_tried() -> None:
    doubling = "_Z1fI1a" + "".join(f"1{chr(98 + n % 20)}IS_S_E" for n in range(40)) + "Ev"
    assert demangle(doubling) == doubling
    deep = "_Z1f" + "P" * 490
    assert demangle(deep) == deep
