"""A plan's digest covers every field of it."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from hypothesis import given, reject, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from incidents.models import ObjectRef
from incidents.plan import (
    ChangeProbe,
    DeleteWrite,
    HelmWrite,
    PatchWrite,
    Plan,
    ProbeKind,
    Risk,
    canonical_json,
)

_TARGET = ObjectRef(kind="Deployment", namespace="n", name="d")
_NAMES: dict[str, Any] = {"api_version": "apps/v1", "kind": "Deployment", "namespace": "n", "name": "d", "uid": "u"}
PLAN = Plan(
    id="pln_1",
    incident_id="inc_1",
    action=ChangeProbe(target=_TARGET, container="c", probe=ProbeKind.LIVENESS, port=80, path="/x"),
    title="t",
    reason="r",
    cause_class="oom_killed",
    writes=[
        PatchWrite(**_NAMES, resource_version="1", generation=2, fingerprint="f", body="[]"),
        DeleteWrite(**_NAMES, resource_version="1", fingerprint="f", grace_period_seconds=3),
        HelmWrite(
            verb="rollback",
            namespace="n",
            release="r",
            revision=2,
            to_revision=1,
            storage_uid="s",
            storage_resource_version="3",
            values_sha256="v",
            manifest_sha256="m",
        ),
    ],
    inverse=[PatchWrite(**_NAMES, resource_version="1", generation=3, fingerprint="g", body="[1]")],
    reversible=True,
    risk=Risk.LOW,
    blast_radius="b",
    affected_pods=1,
    quorum=1,
    diff="d",
    preimage="{}",
    deps_digest="x",
    evidence_sha256="e",
    evidence_digest="y",
    crash_signature="s",
    containers=["c"],
    policy_version="p",
    cluster_id="k",
    requested_by="api:x",
    created_at=datetime(2026, 1, 1, tzinfo=UTC),
)
_DOCUMENT = PLAN.model_dump(mode="json")
_DISCRIMINATORS = {"type", "content_type"}


def _leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if isinstance(value, dict):
        for key, item in value.items():
            if key not in _DISCRIMINATORS:
                yield from _leaves(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _leaves(item, (*path, index))
    else:
        yield path


@given(st.sampled_from(sorted(_leaves(_DOCUMENT), key=str)), st.data())
def test_changing_any_one_field_changes_the_digest(path: tuple[Any, ...], data: st.DataObject) -> None:
    changed = copy.deepcopy(_DOCUMENT)
    holder = changed
    for part in path[:-1]:
        holder = holder[part]
    old = holder[path[-1]]
    if isinstance(old, bool):
        holder[path[-1]] = not old
    elif isinstance(old, int):
        holder[path[-1]] = data.draw(st.integers(1, 100).filter(lambda new: new != old))
    else:
        holder[path[-1]] = data.draw(st.text(max_size=5).filter(lambda new: new != old))
    try:
        plan = Plan.model_validate(changed)
    except ValidationError:
        reject()  # no plan at all
    assert plan.digest() != PLAN.digest()


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=40)
@given(_JSON)
def test_canonical_json_is_read_back_as_what_it_was(value: Any) -> None:
    if any(0xD800 <= ord(char) <= 0xDFFF for char in json.dumps(value, ensure_ascii=False)):
        return
    assert json.loads(canonical_json(value)) == value
    assert canonical_json(json.loads(canonical_json(value))) == canonical_json(value)


def test_a_plan_survives_the_database_unchanged() -> None:
    assert Plan.model_validate(json.loads(json.dumps(_DOCUMENT))).digest() == PLAN.digest()
