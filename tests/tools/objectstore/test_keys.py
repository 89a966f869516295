"""Names of objects are made of names from the outside."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from errors import InvalidInput
from incidents.collected import CollectedCore, Completeness, Origin
from incidents.models import ObjectRef
from tools.objectstore.keys import below, build_key, checked, core_key, record_key, segment


def _record(namespace: str, pod: str, owner: str | None = None) -> CollectedCore:
    ref = ObjectRef(kind="Deployment", namespace=namespace, name=owner) if owner else None
    return CollectedCore(
        id="core_1",
        completeness=Completeness.COMPLETE,
        collected_at=datetime(2026, 11, 21, 23, 59, tzinfo=UTC),
        node="n1",
        origin=Origin(namespace=namespace, pod=pod, owner=ref),
    )


def test_keys_say_whose_and_when() -> None:
    record = _record("prod", "api-7f9c-x2", "api")
    digest = "a" * 64
    assert core_key(record, "paramedic", digest, False) == f"paramedic/prod/api/2026-11-21/{digest}.core.zst"
    assert core_key(record, "paramedic", digest, True).endswith(".core.zst.enc")
    assert record_key(record, "p/q") == "p/q/prod/api/2026-11-21/core_1.json"
    host = record.model_copy(update={"origin": None})
    assert core_key(host, "p", digest, False).startswith("p/_host/n1/")
    assert build_key("abcdef", "p", digest, False) == f"p/build-id/ab/cdef/{digest}.zst"
    for bad in ("", "abc", "../..", "ABCDEF", "a" * 200, "abc/def0"):
        with pytest.raises(InvalidInput):
            build_key(bad, "p", digest, False)
    with pytest.raises(InvalidInput):
        below("other/x", "paramedic")
    with pytest.raises(InvalidInput):
        below("paramedicx/x", "paramedic")


@given(st.text(max_size=300), st.text(max_size=300))
def test_no_name_leaves_its_place(namespace: str, pod: str) -> None:
    key = core_key(_record(namespace, pod), "p", "a" * 64, True)
    assert re.fullmatch(r"p/[A-Za-z0-9._-]+/[A-Za-z0-9._-]+/2026-11-21/a{64}\.core\.zst\.enc", key)
    assert checked(key) == key
    assert not any(part.startswith(".") for part in key.split("/"))


@given(st.text(max_size=200), st.text(max_size=200))
def test_two_names_are_two_places(one: str, other: str) -> None:
    assert (segment(one) == segment(other)) == (one == other)
