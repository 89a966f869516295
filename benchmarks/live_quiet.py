"""Shops of real pods while nothing is broken in them: how many questions about them get a root cause all the same?

    eval "$(deploy/dev-cluster/cluster env)"
    python -m benchmarks.live_quiet [MINUTES [QUESTIONS]]

Three shops run under a real Prometheus with the kubelet's cAdvisor, kube-state-metrics and node_exporter, for an hour;
then questions of one to eight minutes, spread over it, are asked. What else the machine does meanwhile is not kept
from it. The times asked about depend on the number of questions alone. Exit status 1 when more than one of ten got a
root cause.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import sys
import tempfile
import time
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

from diagnosis.metrics.config import RcaConfig
from incidents.metric_report import MetricStatus
from settings import KubernetesSettings, PrometheusSettings
from tests.e2e.kube import Kube
from tests.e2e.metered import Shop, image
from tests.e2e.monitoring import monitoring
from tools.kubernetes.client import Cluster
from tools.prometheus.client import Prometheus
from tools.prometheus.rca.look import Question, look

SHORTEST, LONGEST = 60, 480
"""Seconds of a question."""
_WARM = 300
"""Seconds before the first question ends: what has just begun is not compared yet."""
_MOST = 0.1


async def asked(url: str, namespaces: list[str], begin: datetime, end: datetime, count: int) -> int:
    """Print a line for each question that got a root cause; how many did."""
    chosen = random.Random(count)
    found = failed = 0
    async with Prometheus(PrometheusSettings(url=url)) as server:
        cluster = await Cluster.connect(KubernetesSettings())
        try:
            for number in range(count):
                namespace = namespaces[number % len(namespaces)]
                length = timedelta(seconds=chosen.uniform(SHORTEST, LONGEST))
                share = (number + chosen.random()) / count
                last = begin + timedelta(seconds=_WARM) + share * (end - begin - timedelta(seconds=_WARM))
                question = Question(last - length, last, namespace)
                report = (await look(server, question, cluster=cluster, config=RcaConfig())).report
                if report.status is MetricStatus.FOUND:
                    found += 1
                    print(f"{number:3} {last:%H:%M:%S} {length.total_seconds():.0f} s {report.summary}", flush=True)
                failed += report.status is MetricStatus.UNKNOWN
        finally:
            await cluster.close()
    print(f"{found} of {count} questions got a root cause, {failed} were not answered")
    return found


def measure(folder: Path, minutes: float, count: int) -> bool:
    """Whether so few of the questions got a root cause as is wanted."""
    kube = Kube.connect()
    built = image(folder)
    with ExitStack() as stack:
        shops: list[Shop] = []
        for _ in range(3):
            shops.append(Shop.open(kube, built, secrets.token_hex(4)))
            stack.callback(shops[-1].close)
        namespaces = [shop.namespace for shop in shops]
        url = stack.enter_context(monitoring(folder, kube, namespaces))
        for shop in shops:
            shop.wait_ready()
        begin = datetime.now(UTC)
        time.sleep(60 * minutes)
        return asyncio.run(asked(url, namespaces, begin, datetime.now(UTC), count)) <= _MOST * count


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="paramedic-live-quiet-") as made:
        sys.exit(0 if measure(Path(made), float((sys.argv[1:] or ["60"])[0]), int((sys.argv[2:] or ["180"])[0])) else 1)
