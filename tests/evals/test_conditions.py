"""The state checks: well means well for some time, and an object that says so of its present spec."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from evals.conditions import holds, stays
from evals.kube import Kube
from evals.scenario import Condition

Object = dict[str, Any]


class Told(Kube):
    """A namespace whose objects the test tells; `now` counts the looks at its pods."""

    def __init__(self, objects: Callable[[int], list[Object]]) -> None:
        self._objects, self._looks = objects, 0

    async def find(self, kind: str, name: str) -> Object | None:
        return next(
            (i for i in self._objects(self._looks) if i["kind"] == kind and i["metadata"]["name"] == name), None
        )

    async def all(self, kind: str) -> list[Object]:
        self._looks += kind == "Pod"
        return [item for item in self._objects(self._looks) if item["kind"] == kind]


def deployment(ready: int = 1, wanted: int = 1, updated: int = 1, generation: int = 2) -> Object:
    status = {"observedGeneration": 2, "updatedReplicas": updated, "readyReplicas": ready, "replicas": wanted}
    return {
        "kind": "Deployment",
        "metadata": {"name": "shop", "generation": generation},
        "spec": {"replicas": wanted, "template": {"spec": {"containers": [{"image": "a:1"}]}}},
        "status": status,
    }


def pod(restarts: int = 0, **status: Any) -> Object:
    item = {"name": "till", "restartCount": restarts, "state": {"running": {}}, "ready": True, **status}
    return {"kind": "Pod", "metadata": {"name": "shop-1"}, "status": {"containerStatuses": [item]}}


async def true(condition: Object, *objects: Object) -> bool:
    return await holds(Condition.model_validate(condition), Told(lambda _: list(objects)))


@pytest.mark.parametrize(
    ("item", "ready"),
    [
        (deployment(), True),
        (deployment(ready=0), False),
        (deployment(updated=0), False),
        (deployment(generation=3), False),  # its status is about an earlier spec
        (deployment(wanted=0, ready=0, updated=0), False),  # nothing to be ready
    ],
)
async def test_ready_is_the_whole_present_rollout(item: Object, ready: bool) -> None:
    assert await true({"ready": "Deployment/shop"}, item) is ready


async def test_what_is_not_there_is_not_ready() -> None:
    assert not await true({"ready": "Deployment/shop"})
    assert await true({"gone": "Deployment/shop"})
    assert not await true({"exists": "Deployment/shop"})


async def test_containers_by_state() -> None:
    assert await true({"restarts": {"container": "till", "at_least": 2}}, pod(2))
    assert not await true({"restarts": {"container": "till", "at_least": 3}}, pod(2))
    assert await true({"unready": "till"}, pod(ready=False))
    assert not await true({"unready": "till"}, pod())
    waiting = pod(state={"waiting": {"reason": "ImagePullBackOff"}})
    assert await true({"waiting": {"container": "till", "reasons": ["ImagePullBackOff"]}}, waiting)
    ended = pod(lastState={"terminated": {"exitCode": 137, "reason": "OOMKilled"}})
    assert await true({"ended": {"container": "till", "reason": "OOMKilled"}}, ended)
    assert not await true({"ended": {"container": "till", "exit_code": 1}}, ended)


async def test_fields_by_pointer() -> None:
    image = "/spec/template/spec/containers/0/image"
    assert await true({"field": {"object": "Deployment/shop", "at": image, "equals": "a:1"}}, deployment())
    assert not await true({"field": {"object": "Deployment/shop", "at": image, "differs": "a:1"}}, deployment())
    assert await true({"field": {"object": "Deployment/shop", "at": "/spec/paused", "equals": None}}, deployment())


async def test_endpoints() -> None:
    empty: Object = {"kind": "Endpoints", "metadata": {"name": "shop"}}
    full = {**empty, "subsets": [{"addresses": [{"ip": "10.0.0.1"}]}]}
    assert await true({"endpoints": {"service": "shop"}}, full)
    assert not await true({"endpoints": {"service": "shop"}}, empty)
    assert await true({"endpoints": {"service": "shop", "none": True}}, empty)


async def test_a_crash_loop_that_is_well_for_a_moment_does_not_pass() -> None:
    ready = [Condition.model_validate({"ready": "Deployment/shop"})]
    loop = Told(lambda looks: [deployment(), pod(restarts=0 if looks < 2 else 1)])
    assert "restarted" in (await stays(ready, loop, within=1, steady=2) or "")
    well = Told(lambda _: [deployment(), pod()])
    assert await stays(ready, well, within=1, steady=0.2) is None
    broken = Told(lambda _: [deployment(ready=0), pod()])
    assert "not within" in (await stays(ready, broken, within=0.2, steady=1) or "")
