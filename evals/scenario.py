"""What a scenario is: a folder with `scenario.yaml` (this model) and `manifests.yaml`, both templates (evals.names).

The truth is written down before anything is asked. `fixed` is what a person would check to call it repaired; it knows
nothing of Paramedic. What `may_change` does not name must be after the run as it was before.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from errors import InvalidInput
from evals.names import PLACE, Names
from evals.outages import Component
from incidents.models import CauseClass

FOLDER = Path(__file__).parent / "scenarios"
Group = Literal[
    "admission", "scheduling", "start-up", "run-time", "service-path", "controllers", "infrastructure", "control"
]
GROUPS: tuple[str, ...] = get_args(Group)
IMAGES = ("busybox", "busy", "cache", "crasher", "web")
MADE_UP = {
    **{f"image:{name}": f"docker.io/local/{name}:0" for name in IMAGES},
    "namespace": "somewhere",
    "registry": "localhost:1",
    "webhook:url": "https://127.0.0.1:1/check",
    "webhook:security": "https://127.0.0.1:1/pod-security",
    "webhook:bundle": "bm9uZQ==",
}
"""Values for reading a scenario without running it."""
Object = dict[str, Any]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class EndedAs(_Part):
    container: str
    exit_code: int | None = None
    reason: str | None = None


class Restarted(_Part):
    container: str
    at_least: int = 1


class WaitsFor(_Part):
    container: str
    reasons: list[str]


class Said(_Part):
    """An event. `about` is KIND/NAME-PREFIX."""

    reason: str | None = None
    contains: str | None = None
    about: str | None = None


class FieldIs(_Part):
    """A field of an object by JSON pointer; `equals: null` means that it is not there."""

    object: str
    at: str
    equals: Any = None
    differs: Any = None


class Endpoints(_Part):
    service: str
    at_least: int = 1
    none: bool = False


class Condition(_Part):
    """One thing that can be true of the namespace. Exactly one field is set."""

    ready: str | None = None
    complete: str | None = None
    gone: str | None = None
    exists: str | None = None
    ended: EndedAs | None = None
    restarts: Restarted | None = None
    waiting: WaitsFor | None = None
    unready: str | None = None
    unscheduled: bool | None = None
    event: Said | None = None
    field: FieldIs | None = None
    endpoints: Endpoints | None = None

    @model_validator(mode="after")
    def _one(self) -> Condition:
        if len(self.model_fields_set) != 1:
            raise ValueError("a condition says exactly one thing")
        return self


class Step(_Part):
    """One step of the injection, from outside of the namespace. One field is set, with `ops` or `value` as it needs."""

    wait: list[Condition] | None = None
    apply: str | None = Field(default=None, description="Another file of the scenario's folder")
    patch: str | None = Field(default=None, description="KIND/NAME, changed by `ops` (RFC 6902)")
    ops: list[Object] = Field(default_factory=list)
    status: str | None = Field(default=None, description="KIND/NAME, whose status is set to `value` through the API")
    value: Object = Field(default_factory=dict)
    delete: str | None = Field(default=None, description="KIND/NAME, or KIND/PREFIX*")
    pause: float | None = Field(default=None, description="Seconds")
    stop: Component | None = Field(default=None, description="A component of the cluster, until all is told")

    @model_validator(mode="after")
    def _one(self) -> Step:
        paired = bool(self.ops) == (self.patch is not None) and bool(self.value) == (self.status is not None)
        if len(self.model_fields_set - {"ops", "value"}) != 1 or not paired:
            raise ValueError("a step does exactly one thing")
        return self


class Truth(_Part):
    """`class_` is a cause of the closed list, or `healthy`; `unknown` where no evidence could tell."""

    class_: str = Field(alias="class")
    object: str | None = Field(default=None, description="KIND/NAME")
    container: str | None = None

    @field_validator("class_")
    @classmethod
    def _known(cls, value: str) -> str:
        if value != "healthy":
            CauseClass(value)
        return value

    @model_validator(mode="after")
    def _placed(self) -> Truth:
        if (self.object is None) != (self.class_ in ("healthy", "unknown")):
            raise ValueError("a cause lies in an object; healthy and unknown lie in none")
        return self


class Scenario(_Part):
    """One fault (or control), with its names filled in or still as a template."""

    title: str
    group: Group
    target: str = Field(description="KIND/NAME that the on-call person asks about")
    event: str = Field(default="it does not work", description="The person's words; they name no cause")
    truth: Truth
    also: list[Truth] = Field(default_factory=list, description="Answers that are as right")
    steps: list[Step] = Field(default_factory=list)
    shows: list[Condition] = Field(min_length=1, description="The fault is there, as a person would find it")
    remedy: Literal["action", "person", "none"] = Field(description="Who can repair it, knowing only the cluster")
    fixed: list[Condition] = Field(default_factory=list)
    within: float = Field(default=20.0, description="Seconds in which `fixed` has to come true")
    steady: float = Field(default=8.0, description="Seconds that `fixed` has to hold, without a restart")
    may_change: list[str] = Field(default_factory=list)
    fast: bool = False
    measured: bool = Field(default=False, description="With what the kubelets measure of its containers")

    @model_validator(mode="after")
    def _repairable(self) -> Scenario:
        if (self.remedy == "action") != bool(self.may_change) or (self.remedy == "action" and not self.fixed):
            raise ValueError(
                "an action has a state check and objects that it may change; nothing else has such objects"
            )
        return self

    @property
    def alone(self) -> bool:
        """Whether the whole cluster feels it: nothing else may run beside it."""
        return any(step.stop for step in self.steps)

    @property
    def control(self) -> bool:
        return self.truth.class_ in ("healthy", "unknown")


class Source(_Part):
    """A scenario's files as they are, templates."""

    name: str
    folder: Path

    def scenario(self, names: Names) -> Scenario:
        """The scenario with its names. Raises InvalidInput that names the file and the fault."""
        file = self.folder / "scenario.yaml"
        try:
            return Scenario.model_validate(yaml.safe_load(names.fill(file.read_text())))
        except (ValidationError, yaml.YAMLError, OSError, KeyError, ValueError) as error:
            raise InvalidInput(f"{self.name}/{file.name}: {error}") from None

    def manifests(self, names: Names, file: str = "manifests.yaml") -> list[Object]:
        """Objects of one file of the folder. Raises InvalidInput."""
        path = self.folder / file
        try:
            found = [item for item in yaml.safe_load_all(names.fill(path.read_text())) if item]
        except (yaml.YAMLError, OSError, KeyError) as error:
            raise InvalidInput(f"{self.name}/{file}: {error}") from None
        for item in found:
            if not isinstance(item, dict) or not item.get("kind") or not (item.get("metadata") or {}).get("name"):
                raise InvalidInput(f"{self.name}/{file}: an object has no kind or no name")
        return found

    def images(self) -> set[str]:
        """The images that its files name."""
        texts = [file.read_text() for file in sorted(self.folder.glob("*.yaml"))]
        places = [place for text in texts for place in PLACE.findall(text)]
        return {place.removeprefix("image:") for place in places if place.startswith("image:")}


def sources(folder: Path = FOLDER) -> list[Source]:
    """All scenarios, by name."""
    return [Source(name=file.parent.name, folder=file.parent) for file in sorted(folder.glob("*/scenario.yaml"))]


@lru_cache(maxsize=512)
def outline(source: Source) -> Scenario:
    """The scenario with made-up names: its group, title and whether it is fast do not depend on them."""
    return source.scenario(Names(MADE_UP))


def chosen(everything: list[Source], only: list[str], fast: bool, outages: bool = False) -> list[Source]:
    """Those that `only` names (GROUP, NAME or GROUP/NAME), else all; with `fast` the quick subset of these. Those that
    stop a component of the cluster for all who use it only with `outages`.

    Raises InvalidInput for a word that names none.
    """
    everything = [source for source in everything if outages or not outline(source).alone]
    picked = []
    for word in only:
        found = [s for s in everything if word in (s.name, outline(s).group, f"{outline(s).group}/{s.name}")]
        if not found:
            raise InvalidInput(f"no scenario or group is called {word!r}; `paramedic eval --list` lists them")
        picked += [source for source in found if source not in picked]
    return [source for source in (picked if only else everything) if not fast or outline(source).fast]
