"""How long a crashing process, and its pod with it, is held until its core is kept.

    python -m benchmarks.capture [MEGABYTES]

A process with so much memory, half noise and half text, beside a gigabyte of which it touched one page, dies by
SIGSEGV; the time until its parent is told is the time that the kernel held it for the core. The kernel writes a plain
file, sends the core to the pipe program of `paramedic node setup --pipe`, and, where it can (Linux 6.16), to the
agent's socket. Beside each stands a program in C that throws away what it gets, as fast as the kernel sends, which
also sends, page by page, the zeros that it leaves out of a file; and one that copies it plainly, zeros and all. Runs
alternate, and so does who comes first; of each round the ratios to its plain file and to its plain copy are taken, and
the medians of these count. The file system is the same. Needs root:
kernel.core_pattern is changed under the lock of the end-to-end tests, and put back. Prints a table and one JSON line.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import fcntl
import json
import os
import resource
import shutil
import signal
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from collector.coredump_socket import CoredumpSocket
from collector.node_setup import pipe_pattern, socket_pattern
from tests.e2e.cores import LOCK, PATTERN_FILE

ROUNDS = 7
LIMIT = 1.25
_SOURCE = r"""
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
int main(int argc, char **argv) {
    size_t bytes = strtoul(argv[1], NULL, 10) << 20;
    uint64_t state = 88172645463325252u, *words = malloc(bytes);
    for (size_t n = 0; n < bytes / 16; n++) {
        state ^= state << 13; state ^= state >> 7; state ^= state << 17;
        words[n] = state;
    }
    char *text = (char *)words + bytes / 2;
    for (size_t n = 0; n + 64 < bytes / 2; n += 48) snprintf(text + n, 48, "line %zu of what the program logged\n", n);
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    char *untouched = mmap(NULL, (size_t)1 << 30, PROT_READ | PROT_WRITE, flags, -1, 0);
    untouched[512u << 20] = 1;
    printf("ready\n");
    fflush(stdout);
    for (;;) pause();
}
"""

_COPY = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
static char buffer[64 << 10];
static void copy(int from, const char *name) {
    int to = open(name, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    ssize_t size;
    while ((size = read(from, buffer, sizeof buffer)) > 0)
        for (ssize_t at = 0, done; at < size; at += done)
            if ((done = write(to, buffer + at, size - at)) < 0) _exit(1);
    close(to);
}
int main(int argc, char **argv) { /* FILE, and the socket to listen on, else standard input is read */
    if (argc == 2) {
        fcntl(0, F_SETPIPE_SZ, 1 << 20);
        copy(0, argv[1]);
        return 0;
    }
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    strncpy(name.sun_path, argv[2], sizeof name.sun_path - 1);
    int listener = socket(AF_UNIX, SOCK_STREAM, 0), from;
    if (bind(listener, (struct sockaddr *)&name, sizeof name) || listen(listener, 8)) return 1;
    while ((from = accept(listener, NULL, NULL)) >= 0) {
        copy(from, argv[1]);
        close(from);
    }
}
"""


def held(program: Path, megabytes: int) -> float:
    """Seconds from the signal to the end of the process."""
    limit = resource.RLIM_INFINITY
    with subprocess.Popen(
        [str(program), str(megabytes)],
        stdout=subprocess.PIPE,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CORE, (limit, limit)),
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        os.sync()
        began = time.monotonic()
        process.send_signal(signal.SIGSEGV)
        process.wait()
        return time.monotonic() - began


@contextmanager
def pattern() -> Iterator[Callable[[str], object]]:
    """Sets kernel.core_pattern; at the end it is what it was."""
    with LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        before = PATTERN_FILE.read_text()
        try:
            yield PATTERN_FILE.write_text
        finally:
            PATTERN_FILE.write_text(before)


@contextmanager
def listening(root: Path) -> Iterator[str]:
    """The agent's socket in a process of its own; its pattern."""
    path = root / "socket"
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        with contextlib.suppress(BaseException):
            asyncio.run(CoredumpSocket(path, root, Path("/proc")).serve(asyncio.Event()))
        os._exit(1)
    try:
        while not path.exists():
            time.sleep(0.02)
        yield socket_pattern(path)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


@contextmanager
def copying(program: Path, target: Path, path: Path) -> Iterator[str]:
    """A socket whose cores become `target`; its pattern."""
    with subprocess.Popen([str(program), str(target), str(path)]) as process:
        try:
            while not path.exists():
                time.sleep(0.02)
            yield socket_pattern(path)
        finally:
            process.kill()


def compiled(folder: Path, name: str, source: str) -> Path:
    (folder / f"{name}.c").write_text(source)
    subprocess.run(["gcc", "-O2", "-o", str(folder / name), str(folder / f"{name}.c")], check=True)
    return folder / name


def kept(root: Path) -> list[Path]:
    """The cores, once they are whole: the process may end before the last of what it left in the pipe is written."""
    for _ in range(500):
        if not list(root.rglob("*.part")):
            break
        time.sleep(0.01)
    return [path for path in root.rglob("*") if path.is_file() and path.stat().st_size > 1 << 20]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("megabytes", nargs="?", type=int, default=512)
    megabytes = parser.parse_args().megabytes
    folder = Path(tempfile.mkdtemp(prefix="pm-", dir="/var/tmp"))  # a pattern has room for 127 bytes
    program, root = compiled(folder, "program", _SOURCE), folder / "c"
    copy, nothing = compiled(folder, "copy", _COPY), Path(os.devnull)
    root.mkdir(mode=0o700)
    runs: dict[str, list[float]] = {}
    try:
        with pattern() as put, contextlib.ExitStack() as stack:
            ways = {
                "plain file": f"{root}/core.%p",
                "pipe": pipe_pattern(root),
                "pipe, thrown away": f"|{copy} {nothing}",
                "pipe, copied": f"|{copy} {root}/copy",
            }
            at_socket = stack.enter_context(listening(root))
            thrown_away = stack.enter_context(copying(copy, nothing, folder / "nothing.socket"))
            copied = stack.enter_context(copying(copy, root / "copy", folder / "copy.socket"))
            try:
                put(at_socket)
                ways |= {"socket": at_socket, "socket, thrown away": thrown_away, "socket, copied": copied}
            except OSError:
                print("this kernel has no coredump socket (Linux 6.16)")
            order = list(ways)
            for _ in range(ROUNDS):
                for name in order:
                    put(ways[name])
                    runs.setdefault(name, []).append(held(program, megabytes))
                    if "thrown" in name:
                        continue
                    (core,) = kept(root)
                    size, blocks = core.stat().st_size, core.stat().st_blocks
                    assert size > megabytes << 20, (name, size)
                    core.unlink()
                order.append(order.pop(0))
    finally:
        shutil.rmtree(folder)
    print(
        f"a core of {size / 1e6:.0f} MB, {blocks * 512 / 1e6:.0f} MB of it on the disk; load {os.getloadavg()[0]:.1f}"
    )
    ratios: dict[str, float] = {}
    for name, times in runs.items():
        each = sorted(time / base for time, base in zip(times, runs["plain file"], strict=True))
        ratios[name] = round(statistics.median(each), 3)
        spread = f"{each[0]:.2f} to {each[-1]:.2f} x, {min(times):.2f} to {max(times):.2f} s"
        print(f"{name:<20} {statistics.median(times):6.2f} s  {ratios[name]:5.2f} x   ({spread})")
    copies: dict[str, float] = {}
    for name in ("pipe", "socket"):
        if name in runs:
            each = sorted(time / base for time, base in zip(runs[name], runs[f"{name}, copied"], strict=True))
            copies[name] = round(statistics.median(each), 3)
            print(f"{name}: {copies[name]:.2f} x of its plain copy ({each[0]:.2f} to {each[-1]:.2f})")
    swing = max(runs["plain file"]) / min(runs["plain file"])
    print(f"noise: the plain file itself swings by {swing:.2f} x")
    found = {
        "held_ratio": ratios,
        "held_ratio_to_copy": copies,
        "limit": LIMIT,
        "rounds": ROUNDS,
        "plain_file_swing": round(swing, 2),
    }
    print(json.dumps({"benchmark": "capture", **found}))


if __name__ == "__main__":
    main()
