"""Gates that kill themselves. Each line of `orders` is an order, carried out in a fork that dies by SIGKILL right after
a step of the journal (or is killed from outside). Answers: its pid, then its status.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import traceback
from pathlib import Path
from typing import Any, TextIO

import kubernetes.aio.client
import kubernetes.aio.config  # noqa: F401 (loaded before the fork, once)

from actions.gate import Gate
from incidents.database import Database
from settings import GateSettings, KubernetesSettings
from tools.kubernetes.client import Cluster


async def obey(order: dict[str, Any]) -> None:
    def on_step(step: str) -> None:
        if step == order["die_after"]:
            os.kill(os.getpid(), signal.SIGKILL)

    settings = GateSettings.model_validate(order["settings"])
    kube = KubernetesSettings(kubeconfig=Path(order["kubeconfig"]), request_timeout=60.0)
    database = await Database.open(order["database"])
    async with await Cluster.connect(kube) as cluster:
        gate = Gate(database, settings, cluster, None, lease_seconds=0.3, on_step=on_step)
        await getattr(gate, order["call"])(order["approval"])
    await database.close()


def obey_all(orders: TextIO, answers: TextIO) -> None:
    for line in orders:
        pid = os.fork()
        if pid == 0:
            try:
                asyncio.run(obey(json.loads(line)))
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(0)
        print(pid, file=answers, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), file=answers, flush=True)
