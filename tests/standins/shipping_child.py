"""A process that ships what is in an outbox until everything is done: `python -m tests.standins.shipping_child`.

Its argument is JSON: folder (of the outbox), store (settings), shipping (settings). Records that are announced are
appended to `told` in the folder; the last line of its output is its peak of memory in MB, and its children's.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
from pathlib import Path

from collector.outbox import Outbox, State
from collector.shipper import Shipper
from incidents.collected import CollectedCore
from settings import ShippingSettings, StoreSettings
from tools.objectstore.store import ObjectStore


async def main(given: dict[str, object]) -> None:
    folder = Path(str(given["folder"]))
    outbox = Outbox(folder / "outbox.db")

    async def announce(record: CollectedCore) -> None:
        with (folder / "told").open("a") as file:
            file.write(record.model_dump_json() + "\n")

    shipper = Shipper(
        outbox,
        ObjectStore(StoreSettings.model_validate(given["store"])),
        ShippingSettings.model_validate(given["shipping"]),
        announce,
        folder=folder / "staging",
    )
    stop = asyncio.Event()
    running = asyncio.create_task(shipper.run(stop))
    while set(outbox.counts()) != {State.REMOVED}:
        await asyncio.sleep(0.05)
    stop.set()
    await running


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
    status = Path("/proc/self/status").read_text().splitlines()
    own = next(int(line.split()[1]) for line in status if line.startswith("VmHWM:"))  # ru_maxrss has the parent's too
    print(json.dumps([own // 1024, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024]))
