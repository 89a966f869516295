"""The timeline of real faults: what changed, with what the trouble began, in order, bounded and cited.

Objects are those of real faults (tests/fixtures/snapshots), transformed where a test says so.
"""

from __future__ import annotations

import copy
import io
import json
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import pytest
from rich.console import Console

from diagnosis.crashes.export.markdown import text as markdown_text
from diagnosis.workloads.diagnose import diagnose
from diagnosis.workloads.fields import Object
from diagnosis.workloads.load import load_snapshot
from diagnosis.workloads.metrics import Alert
from diagnosis.workloads.scope import scope_of
from diagnosis.workloads.snapshot import Snapshot
from diagnosis.workloads.timeline.build import MAX_MOMENTS, timeline
from diagnosis.workloads.timeline.onset import around_onset, began, changed_before
from incidents.models import Diagnosis, Moment, MomentKind, ObjectRef
from terminal.render import show_diagnosis

SNAPSHOTS = Path(__file__).parents[3] / "fixtures" / "snapshots"
CASES = sorted(path.name for path in SNAPSHOTS.iterdir() if path.is_dir())
SPIED = ("bad_change", "bad_rollout", "history", "job_backoff", "liveness_graceful_exit", "node_lost", "quota_exceeded")


@cache
def loaded(name: str) -> Snapshot:
    return load_snapshot(SNAPSHOTS / name)


def truth_of(name: str) -> dict[str, str]:
    document: dict[str, str] = json.loads((SNAPSHOTS / f"{name}.truth.json").read_text())
    return document


def space(name: str) -> str:
    return truth_of(name)["namespace"]


@cache
def of_case(name: str) -> Diagnosis:
    return diagnose(loaded(name), namespace=space(name))


def of(
    name: str, *more: Object, change: Callable[[Object], None] | None = None, alerts: tuple[Alert, ...] = ()
) -> Diagnosis:
    """The diagnosis of a captured case with more objects, each of its own after `change`."""
    original = loaded(name)
    items = copy.deepcopy(original.items())
    for item in items if change else []:
        change(item)  # type: ignore[misc]
    logs = {key: original.log(*key) or "" for key in original.log_keys()}
    snapshot = Snapshot(
        [*items, *more], logs=logs, observed_at=original.observed_at, complete=original.complete, alerts=alerts
    )
    return diagnose(snapshot, namespace=space(name))


def said(moments: list[Moment], *kinds: MomentKind) -> list[str]:
    return [moment.text for moment in moments if not kinds or moment.kind in kinds]


def onset(found: Diagnosis) -> Moment:
    (moment,) = [moment for moment in found.timeline if moment.onset]
    return moment


def pod_of(name: str) -> Object:
    return next(pod for pod in loaded(name).all("Pod", space(name)))


def event(name: str, number: int, message: str, **fields: object) -> Object:
    """An event about the first pod of a case, made for the test."""
    pod, at = pod_of(name), loaded(name).observed_at.strftime("%Y-%m-%dT%H:%M:%SZ")
    about = {"kind": "Pod", "namespace": space(name), "name": pod["metadata"]["name"], "uid": pod["metadata"]["uid"]}
    meta = {"name": f"made-{number}", "namespace": space(name)}
    made: Object = {"kind": "Event", "metadata": meta, "involvedObject": about, "type": "Warning", "reason": "Odd"}
    made |= {"message": message, "firstTimestamp": at, "lastTimestamp": at, "count": 1}
    return {key: value for key, value in {**made, **fields}.items() if value is not None}


# --- real faults --------------------------------------------------------------------------------------------------


def test_every_entry_is_cited_in_order_and_on_one_line() -> None:
    with_onset = 0
    for name in CASES:
        found = of_case(name)
        evidence = {item.id: item for item in found.evidence}
        times = [moment.at for moment in found.timeline]
        assert times == sorted(times), name
        assert len(times) <= MAX_MOMENTS + 2
        assert sum(moment.onset for moment in found.timeline) <= 1
        with_onset += any(moment.onset for moment in found.timeline)
        for moment in found.timeline:
            assert "\n" not in moment.text
            assert moment.until is None or moment.until > moment.at
            excerpts = [evidence[key].excerpt for key in moment.evidence_ids]
            for quote in moment.text.split("«")[1:]:
                assert any(quote.partition("»")[0].rstrip("…") in excerpt for excerpt in excerpts), (name, moment.text)
        assert bool(found.causes) or not found.timeline, "without trouble nothing began"
    assert with_onset > 100


@pytest.mark.parametrize("name", SPIED)
def test_the_order_of_the_objects_is_of_no_consequence(name: str) -> None:
    original = loaded(name)
    items = copy.deepcopy(original.items())
    random.Random(7).shuffle(items)
    logs = {key: original.log(*key) or "" for key in original.log_keys()}
    again = Snapshot(items, logs=logs, observed_at=original.observed_at, complete=original.complete)
    found = diagnose(again, namespace=space(name))
    assert [m.model_dump() for m in found.timeline] == [m.model_dump() for m in of_case(name).timeline]


def test_a_history_of_helm_rollouts_scaling_and_a_change() -> None:
    """Installed, upgraded and rolled back with helm, scaled, and broken by its ConfigMap: all of it is told."""
    truth, found = truth_of("history"), of_case("history")
    app, release, config = truth["workload"], truth["release"], of_case("history").causes[0].object.name
    told = [text for text in said(found.timeline) if not text.startswith("Node ")]
    expected = [
        f"ConfigMap {config} was created by helm",
        f"Deployment {app} was created by helm",
        f"Helm release {release}: revision 1 was made, it is superseded now",
        f"Revision 2 of Deployment {app} was rolled out: container {found.timeline[-1].object.container}: "  # type: ignore[union-attr]
        "env.SIZE.value: small -> large",
        f"Helm release {release}: revision 2 was made, it is superseded now",
        f"Helm release {release}: revision 3 was made, it is deployed now",
        f"Revision 3 of Deployment {app} was rolled out: container {found.timeline[-1].object.container}: "  # type: ignore[union-attr]
        "env.SIZE.value: large -> small",
        f"Deployment {app} was scaled up to 2",
        f"ConfigMap {config} was written by kubectl-patch (it manages mode)",
    ]
    assert told[: len(expected)] == expected
    assert onset(found).kind is MomentKind.RESTART and onset(found).count == 3
    assert began(found.timeline) == f"First seen 53 s after this: {expected[-1]}"
    assert not any("scaled down" in text for text in told), "a step of a rollout is no scaling"


def test_a_template_that_came_back_is_not_dated_by_its_first_time() -> None:
    """Two actors: each ReplicaSet is as old as the first of its revisions."""
    found = of_case("change_undone")
    made = min(item["metadata"]["creationTimestamp"] for item in loaded("change_undone").all("ReplicaSet"))
    rollouts = [moment for moment in found.timeline if moment.kind is MomentKind.ROLLOUT]
    assert [moment.text.split()[1] for moment in rollouts] == ["5", "6"]
    first = datetime.fromisoformat(made)
    assert all(moment.at - first > timedelta(seconds=10) for moment in rollouts)


def test_a_rollout_names_what_changed_and_the_trouble_follows_it() -> None:
    found = of_case("bad_rollout")
    change, first = changed_before(found.timeline) or (None, None)
    assert change is not None and first is not None
    assert change.kind is MomentKind.ROLLOUT and "env.MODE.value: stable -> turbo" in change.text
    assert first.at - change.at == timedelta(seconds=17)
    shown = {item.id: item for item in found.evidence}
    assert any("stable -> turbo" in shown[key].excerpt for key in change.evidence_ids)


def test_an_end_by_a_signal_is_a_crash() -> None:
    (crash,) = [moment for moment in of_case("native_crash").timeline if moment.kind is MomentKind.CRASH]
    assert crash.onset and crash.count == 2
    assert "SIGSEGV ended it (exit code 139)" in crash.text


def test_what_says_the_same_of_many_pods_is_one_entry() -> None:
    (refused,) = [text for text in of_case("limit_range_max").timeline if "FailedCreate «" in text.text]
    assert refused.count >= 5 and refused.until is not None


def test_only_what_concerns_the_cause_is_told() -> None:
    """Another workload of the namespace, its events and its ConfigMap stay out."""
    name = "bad_change"
    at = loaded(name).observed_at.strftime("%Y-%m-%dT%H:%M:%SZ")
    meta = {"namespace": space(name), "creationTimestamp": at}
    other = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {**meta, "name": "elsewhere"}, "data": {}}
    about = {"kind": "Pod", "namespace": space(name), "name": "bystander"}
    noise = event(name, 1, "bystander is loud", involvedObject=about)
    assert said(of(name, other, noise).timeline) == said(of_case(name).timeline)


def test_a_target_has_its_own_timeline_even_when_it_is_well() -> None:
    snapshot = loaded("healthy")
    (item,) = snapshot.all("Deployment", space("healthy"))
    ref = ObjectRef(kind="Deployment", namespace=space("healthy"), name=item["metadata"]["name"])
    moments, evidence = timeline(snapshot, scope_of(snapshot, ref, None))
    assert f"Deployment {ref.name} was created" in " ".join(said(moments, MomentKind.CHANGE))
    assert not any(moment.onset for moment in moments)
    assert {key for moment in moments for key in moment.evidence_ids} == {item.id for item in evidence}


# --- writes -------------------------------------------------------------------------------------------------------


def test_a_write_of_the_status_alone_is_no_change() -> None:
    """Managed fields as the API server gives them, put on a real Deployment."""
    name = "bad_change"
    later = (loaded(name).observed_at - timedelta(seconds=30)).strftime("%Y-%m-%dT%H:%M:%SZ")

    def managed(fields: Object, **more: str) -> Callable[[Object], None]:
        def change(item: Object) -> None:
            if item["kind"] == "Deployment":
                entry = {"manager": "someone", "operation": "Update", "time": later, "fieldsV1": fields, **more}
                item["metadata"]["managedFields"] = [entry]

        return change

    def told(fields: Object, **more: str) -> list[tuple[MomentKind, str]]:
        moments = of(name, change=managed(fields, **more)).timeline
        return [(moment.kind, moment.text) for moment in moments if "by someone" in moment.text]

    app = next(iter(loaded(name).all("Deployment", space(name))))["metadata"]["name"]
    template: Object = {"f:template": {"f:spec": {"f:containers": {'k:{"name":"x"}': {"f:image": {}}}}}}
    assert told({"f:metadata": {"f:annotations": {}}, "f:status": {"f:replicas": {}}}) == []
    assert told({"f:spec": template}, subresource="status") == []
    assert told({"f:spec": template}) == [
        (MomentKind.CHANGE, f"Deployment {app} was written by someone (it manages template)")
    ]
    assert told({"f:spec": {"f:replicas": {}}}, subresource="scale") == [
        (MomentKind.SCALING, f"Deployment {app} was scaled by someone")
    ]


# --- what surrounds -----------------------------------------------------------------------------------------------


def test_alerts_about_the_workload_are_told_and_others_are_not() -> None:
    name = "oom_killed"
    pod, started = pod_of(name)["metadata"]["name"], loaded(name).observed_at - timedelta(seconds=5)
    mine = {"alertname": "PodCrashLooping", "namespace": space(name), "pod": pod}
    other = {"alertname": "Elsewhere", "namespace": space(name), "pod": "bystander"}
    alerts = (
        Alert("PodCrashLooping", mine, {"summary": "crash-loops\n# and more"}, "active", started),
        Alert("Elsewhere", other, {}, "active", started),
        Alert("Timeless", mine, {}, "active", None),
    )
    assert said(of(name, alerts=alerts).timeline, MomentKind.ALERT) == ["Alert PodCrashLooping: «crash-loops»"]


def test_a_node_that_went_away_is_told() -> None:
    found = of_case("node_lost")
    nodes = said(found.timeline, MomentKind.NODE)
    assert any("Ready Unknown" in text for text in nodes), nodes


# --- clocks -------------------------------------------------------------------------------------------------------


def test_odd_times_are_placed_where_they_can_be_and_named_where_not() -> None:
    name = "oom_killed"
    before = len(of_case(name).timeline)
    none = dict.fromkeys(("firstTimestamp", "lastTimestamp"))
    minute = (loaded(name).observed_at - timedelta(minutes=1)).replace(tzinfo=None, microsecond=0)
    found = of(
        name,
        event(name, 1, "no time at all", **none),
        event(name, 2, "from the future", firstTimestamp="2099-01-01T00:00:00Z", lastTimestamp="2099-01-01T00:00:00Z"),
        event(name, 3, "year one", firstTimestamp="0001-01-01T00:00:00+14:00", lastTimestamp="0001-01-01T00:00:00Z"),
        event(name, 4, "no zone", firstTimestamp=minute.isoformat(), lastTimestamp=minute.isoformat()),
        event(name, 5, "no number", firstTimestamp=17, lastTimestamp={"seconds": 3}),
        event(name, 6, "ends late", lastTimestamp="2099-01-01T00:00:00Z"),
    )
    texts = " ".join(said(found.timeline))
    assert len(found.timeline) == before + 2
    assert "«no zone»" in texts and "«ends late»" in texts
    (zoneless,) = [moment for moment in found.timeline if "«no zone»" in moment.text]
    assert zoneless.at == minute.replace(tzinfo=UTC)
    assert all(moment.until is None or moment.until < datetime(2090, 1, 1, tzinfo=UTC) for moment in found.timeline)
    assert "1 entry of the timeline carries a time after the snapshot was taken: clocks differ" in found.unseen


# --- great and hostile --------------------------------------------------------------------------------------------

HOSTILE = "<img src=x onerror=alert(1)> [a](http://evil.example) \x1b[31m\u202egnp.exe\u2066 @all **bold** `x`"


def test_hostile_words_stay_words_everywhere() -> None:
    name = "oom_killed"
    found = of(name, event(name, 1, f"{HOSTILE}\nFirst seen 1 s after this: forged\r\x85\u2028line"))
    (moment,) = [moment for moment in found.timeline if "onerror" in moment.text]
    assert "forged" not in moment.text and not set(moment.text) & set("\n\r\x85\u2028")
    shown = io.StringIO()
    show_diagnosis(Console(file=shown, width=400, highlight=False), found)
    assert "onerror" in shown.getvalue()
    assert not set(shown.getvalue()) & set("\x1b\u202e\u2066\r\x85\u2028")
    ticket = markdown_text(moment.text)
    assert "<img" not in ticket and "](http" not in ticket and "**bold**" not in ticket and "\u202e" not in ticket


def test_a_hostile_writer_is_one_line() -> None:
    def change(item: Object) -> None:
        if item["kind"] == "ConfigMap":
            for entry in item["metadata"].get("managedFields", []):
                entry["manager"] = "me\nFirst seen 1 s after this: nothing\u2028" + "x" * 5000

    for moment in of("bad_change", change=change).timeline:
        assert len(moment.text) < 600 and not set(moment.text) & set("\n\u2028")


WORDS = ("amber", "basil", "cedar", "delta", "ember", "flint", "grove", "hazel", "inlet", "jolly")


def test_ten_thousand_events_are_bounded_and_counted() -> None:
    """Each says something else, so that none can be folded; one of a thousand repetitions is one entry."""
    name, end = "oom_killed", loaded("oom_killed").observed_at

    def at(seconds: int) -> dict[str, object]:
        time = (end - timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")
        return {"firstTimestamp": time, "lastTimestamp": time}

    different = [
        event(name, n, "-".join(WORDS[int(digit)] for digit in f"{n:04}"), **at(40 - n // 250)) for n in range(9_000)
    ]
    same = [event(name, 10_000 + n, f"attempt {n} failed", **at(n % 40)) for n in range(1_000)]
    found = of(name, *different, *same)
    assert len(found.timeline) <= MAX_MOMENTS + 2
    left = [moment for moment in found.timeline if "entries are left out" in moment.text]
    shown = len(found.timeline) - len(left)
    assert shown == MAX_MOMENTS
    known = len(of_case(name).timeline)
    assert sum(moment.count for moment in left) + shown == 9_000 + 1 + known
    assert sum(moment.onset for moment in found.timeline) == 1


def test_an_excerpt_keeps_what_stands_around_the_onset() -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    moments = [
        Moment(at=start + timedelta(minutes=n), kind=MomentKind.EVENT, text=str(n), onset=n == 30, evidence_ids=["e"])
        for n in range(60)
    ]
    assert [moment.text for moment in around_onset(moments, 9)] == [str(n) for n in range(24, 33)]
    assert [moment.text for moment in around_onset(moments[31:], 3)] == ["57", "58", "59"], "the newest without onset"
    assert list(around_onset(moments, 100)) == moments
    assert began(moments) is None, "an event is no change"
