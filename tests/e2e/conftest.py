"""One cluster, one set of images, one service for most tests; the scenarios of the chosen tests start side by side."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import httpx
import pytest

from tests.e2e.audit import AuditLog
from tests.e2e.build import Images, build
from tests.e2e.cores import CoreFolder, core_folder, core_pattern
from tests.e2e.kube import Kube
from tests.e2e.service import Service
from tests.e2e.stage import Stage


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "scenario(*names): workloads of tests/e2e/scenarios.py that the test takes")
    config.addinivalue_line("markers", "death(scenario, point): the service dies there, see tests/e2e/dying.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.cluster)
            item.add_marker(pytest.mark.timeout(420))
    # what takes no scenario comes last: one that is prepared ahead and not taken for minutes has become another
    items.sort(key=lambda item: not {"site", "measured"}.isdisjoint(getattr(item, "fixturenames", ())))


@pytest.fixture(scope="session")
def kube() -> Iterator[Kube]:
    """The cluster that KUBECONFIG names. Without one: a skip that says so, or a failure where one is required."""
    try:
        kube = Kube.connect()
    except (KeyError, OSError, StopIteration, httpx.HTTPError) as error:
        reason = f"no Kubernetes cluster (KUBECONFIG={os.environ.get('KUBECONFIG')}): {error!r}; try `make cluster`"
        if os.environ.get("PARAMEDIC_REQUIRE_CLUSTER") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    yield kube
    kube.close()


@pytest.fixture(scope="session")
def audit(kube: Kube) -> AuditLog:
    return AuditLog.find()


@pytest.fixture(scope="session")
def images(kube: Kube, tmp_path_factory: pytest.TempPathFactory) -> Images:
    return build(tmp_path_factory.mktemp("programs"))


@pytest.fixture(scope="session")
def cores(kube: Kube) -> Iterator[CoreFolder]:
    with core_pattern(), core_folder() as folder:
        yield folder


@pytest.fixture(scope="session")
def stage(request: pytest.FixtureRequest, kube: Kube, images: Images, cores: CoreFolder) -> Iterator[Stage]:
    """Where the scenarios run. Those that the chosen tests name are prepared ahead, in the tests' order."""
    stage = Stage(kube, images, cores)
    for item in request.session.items:
        for mark in item.iter_markers("scenario"):
            for scenario in mark.args:
                stage.plan(scenario)
    yield stage
    stage.close()


@pytest.fixture(autouse=True)
def _leave_the_stage(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "stage" in request.fixturenames:
        request.getfixturevalue("stage").end_of_test()


Services = Callable[..., Service]


@pytest.fixture(scope="session")
def services(
    images: Images, cores: CoreFolder, tmp_path_factory: pytest.TempPathFactory, kube: Kube
) -> Iterator[Services]:
    """Makes services that are not started yet; sections of their configuration are given by name."""
    made: list[Service] = []

    def make(program: list[str] | None = None, **config: Mapping[str, object]) -> Service:
        core = {"node_dir": str(cores.here), "executable_dirs": [str(images.executables)]}
        settings = {"core": core, "kubernetes": {"kubeconfig": str(kube.kubeconfig)}, **config}
        service = Service(tmp_path_factory.mktemp("service") / "home", settings, program)
        made.append(service)
        return service

    yield make
    for service in made:
        service.close()


@pytest.fixture(scope="session")
def service(services: Services) -> Service:
    """The service of most tests."""
    return services().start()
