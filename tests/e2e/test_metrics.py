"""Root causes from what real exporters measure of real pods: a leak until the kernel kills, a burnt processor, a bad
release; and none while nothing is wrong."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from tests.e2e.harness import ROOT, until
from tests.e2e.kube import Kube, terminated
from tests.e2e.metered import Shop, image
from tests.e2e.monitoring import SCRAPE, ask, monitoring
from tests.e2e.service import PARAMEDIC, Answer, Service

QUIET, BROKEN, BEFORE = 95, 75, 20
"""Seconds: without a fault, with one, and of the former in what is asked about."""
HOUSEKEEPING = 15
"""Seconds at most between two looks of a kubelet's cAdvisor at a container, however often it is scraped."""


@dataclass
class Measured:
    """Each shop with the service that was broken in it."""

    service: Service
    leak: tuple[Shop, str]
    burn: tuple[Shop, str]
    release: tuple[Shop, str]
    killed_at: datetime


@pytest.fixture(scope="module")
def measured(kube: Kube, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Measured]:
    """Three shops, each quiet for a while and then with a fault of its own, under one Prometheus."""
    folder, run_id = tmp_path_factory.mktemp("metrics"), secrets.token_hex(4)
    built = image(folder)
    with ExitStack() as stack:
        shops: list[Shop] = []
        for _ in range(3):
            shops.append(Shop.open(kube, built, run_id))
            stack.callback(shops[-1].close)
        url = stack.enter_context(monitoring(folder, kube, [shop.namespace for shop in shops]))
        config = {"kubernetes": {"kubeconfig": str(kube.kubeconfig)}, "prometheus": {"url": url}}
        service = Service(folder / "service", config)
        stack.callback(service.close)
        starting = stack.enter_context(ThreadPoolExecutor(1)).submit(service.start)
        for shop in shops:
            shop.wait_ready()
        names = "|".join(name for shop in shops for name in shop.services)
        rated = f'rate(http_requests_total{{container=~"{names}",code="200"}}[{4 * SCRAPE}s]) > 0'
        until(lambda: len(ask(url, rated)) == 9, 60, "all nine services measured", show=lambda: ask(url, "up"))
        time.sleep(QUIET)
        leak, burn, release = ((shop, shop.services[place]) for shop, place in zip(shops, (1, 1, 2), strict=True))
        leak[0].break_it(leak[1], "memory")
        burn[0].break_it(burn[1], "cpu")
        release[0].roll_out(release[1], "latency")
        killed = kube.wait_container(
            leak[0].namespace, leak[1], lambda item: item["restartCount"] and terminated(item), "was killed"
        )
        assert terminated(killed)["reason"] == "OOMKilled"
        since = (datetime.now(UTC) - max(shop.began for shop in shops)).total_seconds()
        time.sleep(max(0.0, BROKEN - since))
        starting.result()
        yield Measured(service, leak, burn, release, datetime.fromisoformat(terminated(killed)["finishedAt"]))


def test_a_leak_until_the_kernel_kills(measured: Measured) -> None:
    """By the command, as a person asks."""
    shop, name = measured.leak
    since = f"{(datetime.now(UTC) - shop.began).seconds + BEFORE}s"
    found = _command(measured, shop, "--since", since)
    memory = {"container_memory_working_set_bytes", "process_resident_memory_bytes"}
    (last,) = shop.kube.statuses(shop.namespace, name)
    kills = [measured.killed_at, datetime.fromisoformat(terminated(last)["finishedAt"])]
    # mostly the leak's beginning; a question just after a kill may be told the kill
    _assert_found(found, shop, name, memory, 2 * SCRAPE, *kills)
    texts = [event["moment"]["text"] for event in found["events"]]
    assert any(f"Container {name} of pod" in text and "OOMKilled" in text for text in texts), texts
    # the kernel's kill is told by the cluster's record and by kube-state-metrics
    assert any(text.endswith("restarted, last ended with OOMKilled") for text in texts), texts


def test_a_burnt_processor(measured: Measured) -> None:
    shop, name = measured.burn
    found = _api(measured, shop, shop.began - timedelta(seconds=BEFORE), datetime.now(UTC))
    _assert_found(found, shop, name, {"container_cpu_usage_seconds_total"}, 2 * HOUSEKEEPING)


def test_a_bad_release(measured: Measured) -> None:
    shop, name = measured.release
    found = _api(measured, shop, shop.began - timedelta(seconds=BEFORE), datetime.now(UTC))
    _assert_found(found, shop, name, {"http_request_duration_seconds:mean"}, 2 * SCRAPE)
    texts = [event["moment"]["text"] for event in found["events"]]
    assert any(f"Revision 2 of Deployment {name} was rolled out" in text for text in texts), texts
    assert f"Deployment {name} was changed" in texts  # by kube-state-metrics' generation


def test_while_nothing_is_wrong_there_is_no_root_cause(measured: Measured) -> None:
    for shop, _ in (measured.leak, measured.burn, measured.release):
        found = _api(measured, shop, shop.began - timedelta(seconds=45), shop.began)
        assert (found["status"], found["workloads"]) == ("no_root_cause", []), found["summary"]


def _assert_found(found: Answer, shop: Shop, name: str, metrics: set[str], within: float, *or_at: datetime) -> None:
    assert found["status"] == "found", found["summary"]
    first = found["workloads"][0]
    assert (first["object"]["kind"], first["entity"]) == ("Deployment", f"{shop.namespace}/{name}"), found["summary"]
    assert metrics <= {change["name"] for change in first["metrics"]}, first["metrics"]
    onset = datetime.fromisoformat(found["onset"])
    late = min(((onset - each).total_seconds() for each in (shop.began, *or_at)), key=abs)
    assert abs(late) <= within + 1, f"the onset is {late:.1f} s from the fault: {found['summary']}"


def _api(measured: Measured, shop: Shop, start: datetime, end: datetime) -> Answer:
    asked = {"start_time": start.isoformat(), "end_time": end.isoformat(), "namespace": shop.namespace, "metrics": []}
    found: Answer = measured.service.ask("POST", "/api/v1/rca", asked)["report"]
    return found


def _command(measured: Measured, shop: Shop, *more: str) -> Answer:
    config = measured.service.folder / "paramedic.toml"
    command = [str(PARAMEDIC), "rca", "-n", shop.namespace, "--json", *more]
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("PARAMEDIC_")}
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**inherited, "PARAMEDIC_CONFIG": str(config)},
        capture_output=True,
        text=True,
        timeout=90,
    )
    assert done.returncode == 0, done.stderr
    found: Answer = json.loads(done.stdout)
    return found
