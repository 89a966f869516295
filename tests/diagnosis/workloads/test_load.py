"""Snapshots from files: any mix, any damage, and back to files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from diagnosis.workloads.diagnose import diagnose
from diagnosis.workloads.load import MANIFEST, load_snapshot
from errors import InvalidInput
from tools.kubernetes.save import save_snapshot

SNAPSHOTS = Path(__file__).parents[2] / "fixtures" / "snapshots"


def items(name: str, kind: str) -> list[dict]:  # type: ignore[type-arg]
    return json.loads((SNAPSHOTS / name / f"{kind}.json").read_text())["items"]


def test_single_objects_and_lists_in_any_mix(tmp_path: Path) -> None:
    (tmp_path / "one.json").write_text(json.dumps(items("oom_killed", "pod")[0]))
    both = {"kind": "List", "items": items("oom_killed", "replicaset") + items("oom_killed", "deployment")}
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "more.json").write_text(json.dumps(both))
    found = diagnose(load_snapshot(tmp_path))
    assert (found.causes[0].cause_class.value, found.causes[0].object.kind) == ("oom_killed", "Deployment")


def test_one_file_with_several_documents(tmp_path: Path) -> None:
    file = tmp_path / "everything"
    file.write_text("\n".join(json.dumps(item) for item in items("oom_killed", "pod") + items("oom_killed", "node")))
    assert load_snapshot(file).kinds() == {"Pod", "Node"}


def test_a_cluster_info_dump(tmp_path: Path) -> None:
    """Typed lists whose items do not repeat their kind, and all logs of a pod in one file."""
    pods = [
        {k: v for k, v in pod.items() if k not in ("kind", "apiVersion")} for pod in items("application_error", "pod")
    ]
    meta = pods[0]["metadata"]
    folder = tmp_path / meta["namespace"]
    (folder / meta["name"]).mkdir(parents=True)
    (folder / "pods.json").write_text(json.dumps({"kind": "PodList", "apiVersion": "v1", "items": pods}))
    container = pods[0]["spec"]["containers"][1]["name"]
    head = f"==== START logs for container {container} of pod {meta['namespace']}/{meta['name']} ====\n"
    end = f"==== END logs for container {container} of pod {meta['namespace']}/{meta['name']} ====\n"
    (folder / meta["name"] / "logs.txt").write_text(f"{head}ERROR the ledger is locked\n{end}")
    found = diagnose(load_snapshot(tmp_path))
    assert "ERROR the ledger is locked" in found.causes[0].summary


def test_what_is_saved_is_what_was_read(tmp_path: Path) -> None:
    first = load_snapshot(SNAPSHOTS / "dependency_refused")
    save_snapshot(first, tmp_path / "out")
    second = load_snapshot(tmp_path / "out")
    assert second.items() == first.items()
    assert diagnose(second) == diagnose(first)
    with pytest.raises(InvalidInput, match="not an empty folder"):
        save_snapshot(first, tmp_path / "out")


def test_broken_files_are_named_and_the_rest_is_used(tmp_path: Path) -> None:
    (tmp_path / "pods.json").write_text(json.dumps({"kind": "List", "items": items("oom_killed", "pod")}))
    (tmp_path / "cut.json").write_text('{"kind": "List", "items": [{"kind"')
    (tmp_path / "binary.json").write_bytes(b"\x7fELF\xff\xfe")
    (tmp_path / "deep.json").write_text("[" * 100_000)
    (tmp_path / "number.json").write_text("9" * 10_000)
    (tmp_path / "other.json").write_text('{"hello": 1}')
    (tmp_path / MANIFEST).write_text('{"complete": [["Pod"], 3, null], "absent": "x", "unseen": [1], "observed_at": 5}')
    snapshot = load_snapshot(tmp_path)
    assert diagnose(snapshot).causes[0].cause_class.value == "oom_killed"
    for name in ("cut.json: not JSON", "binary.json: not text", "deep.json", "number.json", "other.json: holds no"):
        assert sum(line.startswith(name) for line in snapshot.unseen) == 1, snapshot.unseen


@pytest.mark.parametrize("content", ["", "{}", "not json", "[]", '{"kind": "Pod"}', '"\\ud800"'])
def test_nothing_usable_is_one_clear_error(tmp_path: Path, content: str) -> None:
    file = tmp_path / "x.json"
    file.write_text(content)
    with pytest.raises(InvalidInput, match="no Kubernetes objects"):
        load_snapshot(file)
    with pytest.raises(InvalidInput, match="does not exist"):
        load_snapshot(tmp_path / "nowhere")


def test_halves_of_surrogate_pairs_do_not_break_the_output(tmp_path: Path) -> None:
    pod = json.dumps(items("oom_killed", "pod")[0]).replace("OOMKilled", "OOMKilled\\ud800")
    (tmp_path / "pod.json").write_text(pod)
    diagnose(load_snapshot(tmp_path)).model_dump_json()


def test_secrets_do_not_survive_loading(tmp_path: Path) -> None:
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": {"password": "aHVudGVyMg=="}}
    pod = items("application_error", "pod")[0]
    pod["spec"]["containers"][1]["env"] = [{"name": "API_TOKEN", "value": "hunter2"}]
    (tmp_path / "all.json").write_text(json.dumps({"kind": "List", "items": [secret, pod]}))
    meta, container = pod["metadata"], pod["spec"]["containers"][1]["name"]
    logs = tmp_path / "logs" / meta["namespace"] / meta["name"]
    logs.mkdir(parents=True)
    (logs / f"{container}.previous.log").write_text("ERROR login with password=hunter2 failed\n")
    snapshot = load_snapshot(tmp_path)
    save_snapshot(snapshot, tmp_path / "out")
    document = diagnose(snapshot).model_dump_json()
    saved = "".join(file.read_text() for file in (tmp_path / "out").rglob("*") if file.is_file())
    for text in (document, saved):
        assert "hunter2" not in text
        assert "aHVudGVyMg" not in text
    assert "ERROR login with password=[redacted] failed" in document
