"""Collateral change is a change of what somebody meant, not of what the server keeps books about."""

from __future__ import annotations

from typing import Any

from evals.state import _derived, changed, meant


def _deployment(**more: Any) -> dict[str, Any]:
    metadata = {"name": "shop", "resourceVersion": "7", "annotations": {"deployment.kubernetes.io/revision": "1"}}
    return {"kind": "Deployment", "metadata": metadata, "spec": {"replicas": 1}, "status": {"replicas": 1}, **more}


def test_bookkeeping_is_no_change() -> None:
    metadata = {"name": "shop", "resourceVersion": "9", "annotations": {"deployment.kubernetes.io/revision": "2"}}
    assert meant(_deployment()) == meant(_deployment(metadata=metadata, status={"replicas": 2}))


def test_specs_labels_and_own_annotations_are_changes() -> None:
    before = meant(_deployment())
    assert before != meant(_deployment(spec={"replicas": 2}))
    assert before != meant(_deployment(metadata={"name": "shop", "labels": {"a": "b"}}))
    assert before != meant(_deployment(metadata={"name": "shop", "annotations": {"a": "b"}}))
    assert before != meant(_deployment(metadata={"name": "shop", "finalizers": ["a/b"]}))


def test_a_secret_is_compared_without_being_kept() -> None:
    secret = {"kind": "Secret", "metadata": {"name": "login"}, "data": {"password": "aHVudGVyMg=="}}
    assert "aHVudGVyMg" not in meant(secret)
    assert meant(secret) != meant({**secret, "data": {"password": "b3RoZXI="}})


def test_changed_gone_and_new_are_told_and_nodes_may_come_and_go() -> None:
    before = {"Deployment/a": "1", "Deployment/b": "1", "Node/x": "1", "Node/z": "free"}
    after = {"Deployment/a": "2", "Deployment/c": "1", "Node/y": "1", "Node/z": "cordoned"}
    assert changed(before, after) == ["Deployment/a", "Deployment/b", "Deployment/c", "Node/z"]


def test_what_a_controller_makes_is_not_somebodys_meaning() -> None:
    job = {
        "kind": "Job",
        "metadata": {"name": "backup-1", "ownerReferences": [{"kind": "CronJob", "controller": True}]},
    }
    assert _derived(job)
    assert not _derived(_deployment())
