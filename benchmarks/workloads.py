"""Milliseconds to diagnose a large namespace: captured faults repeated under new names and uids.

    python benchmarks/workloads.py [PODS]

Prints the processor time to build the snapshot (redaction and indexing) and to diagnose it, for all pods failing and
for one in ten failing among healthy ones.
"""

from __future__ import annotations

import gc
import json
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from diagnosis.workloads.diagnose import diagnose  # noqa: E402
from diagnosis.workloads.fields import Object  # noqa: E402
from diagnosis.workloads.load import load_snapshot  # noqa: E402
from diagnosis.workloads.snapshot import LogKey, Snapshot  # noqa: E402

SNAPSHOTS = ROOT / "tests" / "fixtures" / "snapshots"
FAULTS = (
    "oom_killed",
    "application_error",
    "readiness_wrong_path",
    "bad_image_tag",
    "missing_config_key",
    "native_crash",
)


def repeated(cases: list[str], pods: int) -> tuple[list[Object], dict[LogKey, str]]:
    """Objects and logs of `cases`, again and again until there are `pods` pods, each time as a new workload."""
    items: list[Object] = []
    logs: dict[LogKey, str] = {}
    count, round_number = 0, 0
    texts = {name: load_snapshot(SNAPSHOTS / name) for name in cases}
    while count < pods:
        name = cases[round_number % len(cases)]
        snapshot = texts[name]
        own = [item for item in snapshot.items() if item["kind"] != "Node" and not _of_node(item)]
        text = json.dumps(own)
        names = {
            item["metadata"]["name"] for item in own if item["kind"] in ("Pod", "Deployment", "ReplicaSet", "DaemonSet")
        }
        for old in [*names, *(item["metadata"].get("uid") or "" for item in own)]:
            text = text.replace(old, f"{old}r{round_number}") if old else text
        namespace = next(item["metadata"]["namespace"] for item in own if item["kind"] == "Pod")
        new = json.loads(text.replace(namespace, "bench"))
        items += new
        pod_names = [item["metadata"]["name"] for item in new if item["kind"] == "Pod"]
        count += len(pod_names)
        for key in snapshot.log_keys():
            for pod in pod_names:
                logs["bench", pod, key[2], key[3]] = snapshot.log(*key) or ""
        round_number += 1
    return items + [item for item in texts[cases[0]].items() if item["kind"] == "Node"], logs


def _of_node(item: Object) -> bool:
    return bool(item["kind"] == "Event" and item["involvedObject"].get("kind") == "Node")


def measure(label: str, cases: list[str], pods: int) -> None:
    items, logs = repeated(cases, pods)
    started = time.process_time()
    snapshot = Snapshot(items, logs=logs)
    gc.freeze()  # as the command does
    built = time.process_time()
    found = diagnose(snapshot, namespace="bench")
    done = time.process_time()
    total = len(snapshot.all("Pod"))
    print(
        f"{label}: {total} pods, {len(items)} objects: snapshot {(built - started) * 1000:.0f} ms, "
        f"diagnosis {(done - built) * 1000:.0f} ms, {len(found.causes)} causes"
    )


def main() -> None:
    pods = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    gc.set_threshold(100_000)  # as the command does
    measure("all failing", list(FAULTS), pods)
    measure("one in ten failing", ["healthy"] * 9 + ["oom_killed"], pods)


if __name__ == "__main__":
    main()
