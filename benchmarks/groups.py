"""Crashes a second into 10,000 groups, on one core, beside a plain dictionary lookup by signature.

    python -m benchmarks.groups [--groups 10000] [--crashes 20000]

Crashes are made from a fixed seed: each group has its own crash frame, most share handlers and all share an event
loop; a crash differs from its group's first by recursion depth, by calls that were inlined and by addresses, and one
in five by a frame of its own. Half the crashes found groups or are new variants, so the index is worked, not only the
memory of what came before. Measured are reading JSON, normalising and grouping. `same_id_shuffled` is the share of
crashes whose id is the same when all arrive in another order: equal crashes always are, variants where another founded
their group are not. Prints a table and one JSON line.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import time
from typing import Any

from diagnosis.crashes.groups.clusters import Clusters
from diagnosis.crashes.groups.reading import read_crash
from diagnosis.crashes.signature import signature_of_names

SEED = 20
HANDLERS = 400


def founder(number: int, random_: random.Random) -> list[str]:
    own = [f"Shop::Module{number % 997}::step{number}_{depth}(int, char const*)" for depth in range(4)]
    handlers = [f"Server::handle{random_.randrange(HANDLERS)}(Request&)" for _ in range(3)]
    return [*own, *handlers, "Server::dispatch(Request&)", "EventLoop::run()", "main"]


def crash(base: list[str], random_: random.Random) -> dict[str, Any]:
    names = list(base)
    if random_.random() < 0.5:
        names[4:5] = [names[4]] * random_.randrange(1, 12)
    if random_.random() < 0.3:
        del names[random_.randrange(1, 3)]
    if random_.random() < 0.2:
        names.insert(random_.randrange(1, 5), f"Shop::variant{random_.randrange(1000)}()")
    names = ["__pthread_kill_implementation", "raise", "abort", *names, "__libc_start_call_main", "_start"]
    slide = random_.randrange(1 << 20) << 12
    frames = [
        {"frame": index, "function": name, "module": "/srv/shop", "module_offset": hex(4096 + len(name) * 64 + index)}
        | {"offset": hex(0x550000000000 + slide + index), "file": "/src/shop.cpp", "line": 10 + index}
        for index, name in enumerate(names)
    ]
    return {"crash_info": {"type": "SIGABRT"}, "threads": [{"frames": frames}]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--groups", type=int, default=10_000)
    parser.add_argument("--crashes", type=int, default=20_000)
    arguments = parser.parse_args()
    random_ = random.Random(SEED)
    bases = [founder(number, random_) for number in range(arguments.groups)]
    first = [json.dumps(crash(base, random.Random(0))) for base in bases]
    labels = [random_.randrange(arguments.groups) for _ in range(arguments.crashes)]
    lines = [json.dumps(crash(bases[label], random_)) for label in labels]

    clusters = Clusters()
    started = time.process_time()
    for line in first:
        read = read_crash(json.loads(line))
        assert read.stack is not None
        clusters.assign(read.stack)
    founding = time.process_time() - started
    founded = len(clusters)

    started = time.process_time()
    found = []
    for line in lines:
        read = read_crash(json.loads(line))
        assert read.stack is not None
        found.append(clusters.assign(read.stack).group_id)
    grouping = time.process_time() - started

    table: dict[str, str] = {}
    started = time.process_time()
    for line in lines:
        names = [frame["function"] for frame in json.loads(line)["threads"][0]["frames"]]
        table.setdefault(signature_of_names("SIGABRT", names), str(len(table)))
    lookup = time.process_time() - started

    reads = [(number, read_crash(json.loads(line))) for number, line in enumerate([*first, *lines])]
    before = dict(enumerate([clusters.assign(read.stack).group_id for _, read in reads if read.stack]))
    random_.shuffle(reads)
    other = Clusters()
    after = {number: other.assign(read.stack).group_id for number, read in reads if read.stack}
    same = sum(before[number] == after[number] for number in before) / len(before)

    by_label: dict[int, set[str]] = {}
    for label, group in zip(labels, found, strict=True):
        by_label.setdefault(label, set()).add(group)
    result = {
        "benchmark": "groups",
        "groups": founded,
        "groups_after": len(clusters),
        "crashes_per_second": round(len(lines) / grouping),
        "founding_per_second": round(len(first) / founding),
        "lookups_per_second": round(len(lines) / lookup),
        "ratio_to_lookup": round(grouping / lookup, 2),
        "bugs_in_one_group": round(sum(len(groups) == 1 for groups in by_label.values()) / len(by_label), 4),
        "same_id_shuffled": round(same, 4),
        "own_peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
    for name, value in result.items():
        print(f"{name:<22} {value}")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
