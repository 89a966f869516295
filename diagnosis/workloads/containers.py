"""Every container of a pod (init, ordinary, ephemeral) as spec joined with status by name, never by position."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from diagnosis.workloads.fields import Object, mapping, number, objects, pick, strings, text

SECTIONS = {
    "initContainers": "initContainerStatuses",
    "containers": "containerStatuses",
    "ephemeralContainers": "ephemeralContainerStatuses",
}


@dataclass(frozen=True, eq=False)
class Container:
    """One container of one pod. `spec_at` and `status_at` are JSON pointers into the pod."""

    pod: Object
    name: str
    section: str
    spec: Object
    status: Object
    spec_at: str
    status_at: str

    @cached_property
    def namespace(self) -> str:
        return text(self.pod, "metadata", "namespace")

    @cached_property
    def pod_name(self) -> str:
        return text(self.pod, "metadata", "name")

    @cached_property
    def pod_uid(self) -> str:
        return text(self.pod, "metadata", "uid")

    @cached_property
    def restarts(self) -> int:
        return number(self.status, "restartCount") or 0

    @cached_property
    def ready(self) -> bool:
        return pick(self.status, "ready") is True

    @cached_property
    def running(self) -> bool:
        return isinstance(pick(self.status, "state", "running"), dict)

    @cached_property
    def waiting(self) -> str:
        """The reason that the kubelet gives for not running it; CrashLoopBackOff is one, and explains nothing."""
        return text(self.status, "state", "waiting", "reason")

    @cached_property
    def waiting_message(self) -> str:
        return text(self.status, "state", "waiting", "message")

    @cached_property
    def image(self) -> str:
        return text(self.spec, "image")

    @property
    def command(self) -> list[str]:
        return [*strings(self.spec, "command"), *strings(self.spec, "args")]

    def ports(self) -> list[tuple[str, int]]:
        """Declared ports as (name, number)."""
        found = [(text(port, "name"), number(port, "containerPort")) for port in objects(self.spec, "ports")]
        return [(name, port) for name, port in found if port is not None]


def containers_of(pod: Object) -> Iterator[Container]:
    """Containers of a pod in the order of its spec; statuses without a spec come last."""
    for section, status_field in SECTIONS.items():
        statuses: dict[str, tuple[int, Object]] = {}
        for index, status in _indexed(pod, "status", status_field):
            if name := text(status, "name"):
                statuses.setdefault(name, (index, status))
        for index, spec in _indexed(pod, "spec", section):
            name = text(spec, "name")
            if name:
                at, status = statuses.pop(name, (-1, {}))
                yield _container(pod, name, section, (index, spec), (at, status))
        for name, found in statuses.items():
            yield _container(pod, name, section, (-1, {}), found)


def template_containers(template: Object) -> dict[str, Object]:
    """The container specs of a pod template by name (a name is unique in a pod over all sections)."""
    return {
        text(spec, "name"): spec
        for section in SECTIONS
        for spec in objects(template, "spec", section)
        if text(spec, "name")
    }


def _container(pod: Object, name: str, section: str, spec: tuple[int, Object], status: tuple[int, Object]) -> Container:
    return Container(
        pod=pod,
        name=name,
        section=section,
        spec=spec[1],
        status=status[1],
        spec_at=f"/spec/{section}/{spec[0]}" if spec[0] >= 0 else "",
        status_at=f"/status/{SECTIONS[section]}/{status[0]}" if status[0] >= 0 else "",
    )


def _indexed(pod: Object, part: str, field: str) -> Iterator[tuple[int, Object]]:
    found = mapping(pod, part).get(field)
    if isinstance(found, list):
        for index, item in enumerate(found):
            if isinstance(item, dict):
                yield index, item
