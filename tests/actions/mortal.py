"""A gate in a process of its own that kills itself right after a step of the journal. Run by test_killed.py."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

from actions.gate import Gate
from incidents.database import Database
from settings import GateSettings, KubernetesSettings
from tools.kubernetes.client import Cluster


async def main() -> None:
    order = json.loads(sys.argv[1])

    def on_step(step: str) -> None:
        if step == order["die_after"]:
            os.kill(os.getpid(), signal.SIGKILL)

    settings = GateSettings.model_validate(order["settings"])
    kube = KubernetesSettings(kubeconfig=Path(order["kubeconfig"]), request_timeout=5.0)
    database = await Database.open(order["database"])
    async with await Cluster.connect(kube) as cluster:
        gate = Gate(database, settings, cluster, None, lease_seconds=0.3, on_step=on_step)
        print("ready", flush=True)
        await getattr(gate, order["call"])(order["approval"])
    await database.close()


if __name__ == "__main__":
    asyncio.run(main())
