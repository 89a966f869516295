"""What counts as a crash, over every recorded snapshot of a real cluster: probes, evictions and stops never do."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

from collector.restarts import crashes_in
from diagnosis.workloads.load import load_snapshot
from graph.storm_pods import crashes_shown
from settings import PolicySettings, Settings
from tools.kubernetes.instances import as_rules

SNAPSHOTS = Path(__file__).parents[1] / "fixtures" / "snapshots"
NO_CRASHES = ("liveness", "probe", "startup", "readiness", "evicted", "healthy", "node", "sched", "budget", "rollout")
"""Snapshots that begin so are of containers that somebody else ended, or of none that ended."""


def test_over_all_snapshots_of_a_real_cluster() -> None:
    policy, rules = PolicySettings(mode="propose"), as_rules(Settings().instances)
    seen: dict[str, Counter[str]] = {}
    killed = 0
    for folder in sorted(path for path in SNAPSHOTS.iterdir() if path.is_dir()):
        snapshot = load_snapshot(folder)
        assert snapshot.observed_at is not None
        crashes = list(crashes_shown(snapshot, rules, policy, snapshot.observed_at))
        seen[folder.name] = Counter(crash.ending for crash in crashes)
        signals = list(crashes_in(snapshot.all("Pod"), snapshot.observed_at))
        truth = json.loads(folder.with_suffix(".truth.json").read_text())
        is_native = truth.get("class") == "native_crash"
        assert bool(signals) is is_native, f"{folder.name}: the agent's incidents without a core"
        assert ("crash_signal" in seen[folder.name]) is is_native, folder.name
        assert ("oom_killed" in seen[folder.name]) is (truth.get("class") == "oom_killed"), folder.name
        if folder.name.startswith(NO_CRASHES):
            assert not crashes, f"{folder.name}: {crashes}"
            killed += sum(
                int(status.get("restartCount", 0))
                for pod in snapshot.all("Pod")
                for status in pod.get("status", {}).get("containerStatuses", [])
            )
    assert killed >= 5, "there must have been restarts that are no crashes"
    assert seen["native_crash"]["crash_signal"] and seen["oom_killed"]["oom_killed"]
    assert seen["application_error"]["exit_code"]
