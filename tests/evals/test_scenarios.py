"""Every scenario file can be used: no cluster is needed to find a mistake in one."""

from __future__ import annotations

from pathlib import Path

import pytest

from errors import InvalidInput
from evals.harness import jobs
from evals.images import PROGRAMS
from evals.names import Names
from evals.scenario import FOLDER, GROUPS, IMAGES, MADE_UP, Condition, Scenario, Source, chosen, outline, sources
from evals.surroundings import distractors
from incidents.models import CauseClass

ALL = sources()
OF_THE_CLUSTER = {"Service/kube-dns"}
"""What a truth may name that no file of its scenario makes."""


@pytest.mark.parametrize("source", ALL, ids=lambda source: source.name)
def test_what_a_scenario_names_is_made_by_its_files(source: Source) -> None:
    names = Names(MADE_UP)
    scenario = source.scenario(names)
    files = ["manifests.yaml", *(step.apply for step in scenario.steps if step.apply)]
    made = {f"{item['kind']}/{item['metadata']['name']}" for file in files for item in source.manifests(names, file)}
    assert len(made) >= len(files)
    made |= {f"{name.replace('StatefulSet', 'Pod')}-0" for name in made if name.startswith("StatefulSet/")}
    assert {file.name for file in source.folder.iterdir()} == {"scenario.yaml", *files}
    named = [
        scenario.target,
        *scenario.may_change,
        *(step.patch or step.delete or step.status or "" for step in scenario.steps),
    ]
    named += [truth.object or "" for truth in [scenario.truth, *scenario.also]]
    assert {name for name in named if name and not name.endswith("*")} <= made | OF_THE_CLUSTER


@pytest.mark.parametrize("source", ALL, ids=lambda source: source.name)
def test_containers_of_the_truth_exist_and_every_image_is_local(source: Source) -> None:
    names = Names(MADE_UP)
    scenario = source.scenario(names)
    text = "".join(names.fill(file.read_text()) for file in sorted(source.folder.glob("*.yaml")))
    for truth in [scenario.truth, *scenario.also]:
        assert truth.container is None or f"name: {truth.container}" in text
    assert source.images() <= set(IMAGES)


def test_programs_of_all_images_are_there() -> None:
    assert {file.stem for file in PROGRAMS.glob("*.c")} == set(IMAGES) - {"busybox"}


def test_there_are_enough_scenarios_in_every_group_and_a_fast_subset_with_controls() -> None:
    outlines = [outline(source) for source in ALL]
    assert len(ALL) >= 60
    assert {scenario.group for scenario in outlines} == set(GROUPS)
    fast = [scenario for scenario in outlines if scenario.fast]
    assert 8 <= len(fast) <= 20
    assert {scenario.truth.class_ for scenario in fast} >= {"healthy", "unknown"}
    assert {scenario.group for scenario in fast} >= set(GROUPS) - {"controllers", "infrastructure"}


def test_names_say_nothing_and_are_kept_within_a_run() -> None:
    names = Names(MADE_UP)
    assert names.fill("<<app>> <<app>>") == f"{names['app']} {names['app']}"
    assert Names(MADE_UP)["app"] != names["app"]
    assert "app" not in names["app"].split("-")
    with pytest.raises(KeyError):
        names.fill("<<image:none>>")


def test_what_stops_a_component_is_chosen_only_on_demand() -> None:
    alone = {source.name for source in ALL if outline(source).alone}
    assert alone == {"no_controllers", "proxy_down"}
    assert alone & {source.name for source in chosen(ALL, [], False)} == set()
    assert alone <= {source.name for source in chosen(ALL, [], False, outages=True)}
    with pytest.raises(InvalidInput):
        chosen(ALL, ["proxy_down"], False)


def test_the_person_who_asks_does_not_tell_the_cause() -> None:
    classes = {cause.value.replace("_", " ") for cause in CauseClass}
    assert [source.name for source in ALL if any(word in outline(source).event.lower() for word in classes)] == []


def test_distractors_are_filled_in() -> None:
    names = Names(MADE_UP)
    kinds = [item["kind"] for item in distractors(names)]
    assert kinds == ["Deployment", "Service", "Deployment", "Job", "ConfigMap"]


def test_chosen_by_group_by_name_and_by_both() -> None:
    assert {outline(source).group for source in chosen(ALL, ["control"], False)} == {"control"}
    assert [source.name for source in chosen(ALL, ["run-time/oom_limit", "oom_limit"], False)] == ["oom_limit"]
    assert all(outline(source).fast for source in chosen(ALL, [], True))
    with pytest.raises(InvalidInput, match="no scenario or group"):
        chosen(ALL, ["no-such"], False)


def test_baselines_are_run_once_and_only_where_an_action_can_help() -> None:
    todo = jobs(chosen(ALL, ["healthy", "oom_limit"], False), 3, True)
    assert sorted((job.source.name, job.mode, job.repetition) for job in todo) == [
        ("healthy", "paramedic", 0),
        ("healthy", "paramedic", 1),
        ("healthy", "paramedic", 2),
        ("oom_limit", "do_nothing", 0),
        ("oom_limit", "paramedic", 0),
        ("oom_limit", "paramedic", 1),
        ("oom_limit", "paramedic", 2),
    ]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("class: oom_killed", "class: out_of_luck"),
        ("remedy: action", "remedy: none"),
        ("may_change: [Deployment/<<app>>]", "may_change: []"),
        ("group: run-time", "group: somewhere"),
        ("event: ", "evnt: "),
        ("object: Deployment/<<app>>, container", "container"),
    ],
)
def test_a_mistake_in_a_scenario_is_told_with_its_file(tmp_path: Path, old: str, new: str) -> None:
    text = (FOLDER / "oom_limit" / "scenario.yaml").read_text()
    assert old in text
    (tmp_path / "scenario.yaml").write_text(text.replace(old, new))
    with pytest.raises(InvalidInput, match="mine/scenario"):
        Source(name="mine", folder=tmp_path).scenario(Names(MADE_UP))


def test_a_condition_says_exactly_one_thing() -> None:
    with pytest.raises(ValueError, match="exactly one"):
        Condition.model_validate({"ready": "Pod/x", "gone": "Pod/y"})
    with pytest.raises(ValueError, match="exactly one"):
        Condition.model_validate({})


def test_controls_have_nothing_to_repair() -> None:
    controls: list[Scenario] = [outline(source) for source in ALL if outline(source).control]
    assert {scenario.remedy for scenario in controls} == {"none"}
