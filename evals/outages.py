"""A component of the cluster that stands still for some seconds, as if it were down, and goes on whatever happens.

The components of the native development cluster are processes of this machine (deploy/dev-cluster/native). One is
stopped by SIGSTOP, so that it keeps its state, and goes on by SIGCONT; a helper in a session of its own sends that in
time even when the evaluation is killed.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Literal

from errors import ToolMissing

Component = Literal["kube-controller-manager", "kube-proxy"]
LONGEST = 55.0
"""Seconds after which a component goes on, whoever still looks."""
_HELPER = "import os, sys, time; time.sleep(float(sys.argv[2])); os.kill(int(sys.argv[1]), 18)"  # 18 is SIGCONT


class Outage:
    """One component that stands still between `begin` and `end`."""

    def __init__(self, component: Component, kubeconfig: Path, longest: float = LONGEST) -> None:
        self._component = component
        self._kubeconfig = kubeconfig
        self._longest = longest
        self._pid = 0
        self._helper: asyncio.subprocess.Process | None = None

    async def begin(self) -> None:
        """Raises ToolMissing where the component is no process of this machine that uses the same kubeconfig."""
        self._pid = process_of(self._component, self._kubeconfig)
        command = (sys.executable, "-I", "-c", _HELPER, str(self._pid), str(self._longest))
        nothing = asyncio.subprocess.DEVNULL
        self._helper = await asyncio.create_subprocess_exec(
            *command, stdin=nothing, stdout=nothing, stderr=nothing, start_new_session=True
        )
        os.kill(self._pid, signal.SIGSTOP)

    async def end(self) -> None:
        """Let it go on. Once is enough, more is harmless."""
        if self._helper is None:
            return
        helper, self._helper = self._helper, None
        os.kill(self._pid, signal.SIGCONT)
        if helper.returncode is None:
            helper.kill()
        await helper.wait()


def process_of(program: str, kubeconfig: Path) -> int:
    """The pid of the one process of this program that was started with this kubeconfig. Raises ToolMissing."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                command = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
            except OSError:
                continue  # it ended meanwhile
            if Path(command[0]).name == program and f"--kubeconfig={kubeconfig}" in command:
                found.append(int(folder.name))
    if len(found) != 1:
        raise ToolMissing(
            f"{program} of the cluster of {kubeconfig} is not a process of this machine: "
            "what stops components needs the native development cluster"
        )
    return found[0]
