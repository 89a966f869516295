"""A stand-in of the helm 3 program: a real executable, whose releases live in the test's process.

The program forwards its arguments over a Unix socket; the answers are those of helm v3.22 as far as the gate reads
them (compared with the real one in tests/actions/test_cluster.py). Unknown flags are refused, as helm refuses them.
A release's revisions are also stored as Secrets in the API stand-in, and its Deployments created and deleted there.
"""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.standins.kube_api import KubeApi

Object = dict[str, Any]

_PROGRAM = """#!{python} -IS
import _socket, sys
s = _socket.socket(_socket.AF_UNIX)
s.connect({socket!r})
s.sendall("\\0".join(sys.argv[1:]).encode())
s.shutdown(_socket.SHUT_WR)
answer = b"".join(iter(lambda: s.recv(65536), b""))
status, out, err = answer.decode().split("\\0")
sys.stdout.write(out)
sys.stderr.write(err)
sys.exit(int(status))
"""
"""It is started hundreds of times: `json` and `socket` would take longer to import than all else."""
_FLAGS = {
    "version": {"--template": 1},
    "history": {"-o": 1, "--max": 1},
    "get": {"-o": 1, "--revision": 1},
    "rollback": {"--timeout": 1, "--dry-run": 0},
    "uninstall": {"--timeout": 1, "--dry-run": 0, "--keep-history": 0},
}
_COMMON = {"--namespace": 1, "--kubeconfig": 1, "--kube-context": 1}


class HelmError(Exception):
    pass


@dataclass
class Stored:
    number: int
    status: str
    description: str
    manifest: list[Object]
    values: Object


@dataclass
class HelmStandIn:
    """`async with HelmStandIn(api, folder) as helm:`; `helm.program` is the path of the executable."""

    api: KubeApi
    folder: Path
    releases: dict[tuple[str, str], list[Stored]] = field(default_factory=dict)
    commands: list[list[str]] = field(default_factory=list)
    fail_half_way: bool = False
    pause: asyncio.Event | None = None
    """When set, writes wait for it after they began."""

    async def __aenter__(self) -> HelmStandIn:
        path = self.folder / "helm.sock"
        self._server = await asyncio.start_unix_server(self._serve, path)
        self.program = self.folder / "helm"
        self.program.write_text(_PROGRAM.format(python=sys.executable, socket=str(path)))
        self.program.chmod(0o755)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._server.wait_closed()

    @property
    def writes(self) -> list[list[str]]:
        return [item for item in self.commands if item[0] in ("rollback", "uninstall") and "--dry-run" not in item]

    def install(self, namespace: str, release: str, manifest: list[Object], values: Object | None = None) -> None:
        """Install or upgrade, as somebody would with helm."""
        revisions = self.releases.setdefault((namespace, release), [])
        description = "Upgrade complete" if revisions else "Install complete"
        self._make(namespace, release, manifest, values or {}, description)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        arguments = (await reader.read()).decode().split("\0")
        self.commands.append(arguments)
        try:
            answer = ["0", await self._obey(arguments), ""]
        except HelmError as error:
            answer = ["1", "", f"Error: {error}\n"]
        writer.write("\0".join(answer).encode())
        writer.close()

    async def _obey(self, arguments: list[str]) -> str:
        command, words, flags = _parse(arguments)
        if command == "version":
            return "v3.22"
        if command == "get":
            part, *words = words
        namespace, release = flags["--namespace"], words[0]
        revisions = self.releases.get((namespace, release))
        if not revisions:
            raise HelmError("release: not found")
        if command == "history":
            return json.dumps([_entry(item) for item in revisions])
        if command == "get":
            return self._get(part, revisions, flags)
        if flags.get("--dry-run"):
            if command == "rollback":
                _revision(revisions, int(words[1]))
            return f'release "{release}" {command}\n'
        if command == "rollback":
            await self._rollback(namespace, release, revisions, int(words[1]))
            return "Rollback was a success! Happy Helming!\n"
        if not flags.get("--keep-history"):
            raise AssertionError("an uninstall without --keep-history destroys the undo")
        await self._uninstall(namespace, release, revisions[-1])
        return f'release "{release}" uninstalled\n'

    def _get(self, part: str, revisions: list[Stored], flags: dict[str, str]) -> str:
        found = _revision(revisions, int(flags["--revision"]))
        if part == "values":
            return json.dumps(found.values)
        return "" if part == "hooks" else "---\n" + yaml.safe_dump_all(found.manifest)

    async def _rollback(self, namespace: str, release: str, revisions: list[Stored], goal: int) -> None:
        wanted = _revision(revisions, goal)
        self._make(namespace, release, wanted.manifest, wanted.values, f"Rollback to {goal}", "pending-rollback")
        if self.pause:
            await self.pause.wait()
        last = revisions[-1]
        if self.fail_half_way:
            last.status, last.description = "failed", f'Rollback "{release}" failed: timed out'
            self._store(namespace, release, last)
            raise HelmError("timed out waiting for the condition")
        last.status = "deployed"
        self._store(namespace, release, last)

    async def _uninstall(self, namespace: str, release: str, last: Stored) -> None:
        last.status = "uninstalling"
        if self.pause:
            await self.pause.wait()
        for obj in last.manifest:
            if self.api.get(obj["kind"], namespace, obj["metadata"]["name"]):
                self.api.remove(obj["kind"], namespace, obj["metadata"]["name"])
        last.status, last.description = "uninstalled", "Uninstallation complete"
        self._store(namespace, release, last)

    def _make(
        self, namespace: str, release: str, manifest: list[Object], values: Object, text: str, status: str = "deployed"
    ) -> None:
        revisions = self.releases[namespace, release]
        for old in revisions:
            if old.status in ("deployed", "failed"):
                old.status = "superseded"
                self._store(namespace, release, old)
        revisions.append(Stored(len(revisions) + 1, status, text, manifest, values))
        self._store(namespace, release, revisions[-1])
        for obj in manifest:
            marks = {"meta.helm.sh/release-name": release, "meta.helm.sh/release-namespace": namespace}
            meta = {**obj["metadata"], "namespace": namespace, "annotations": marks}
            self.api.put({**obj, "metadata": meta})

    def _store(self, namespace: str, release: str, item: Stored) -> None:
        name = f"sh.helm.release.v1.{release}.v{item.number}"
        labels = {"owner": "helm", "name": release, "status": item.status, "version": str(item.number)}
        meta = {"name": name, "namespace": namespace, "labels": labels}
        self.api.put({"apiVersion": "v1", "kind": "Secret", "metadata": meta, "type": "helm.sh/release.v1"})


def _parse(arguments: list[str]) -> tuple[str, list[str], dict[str, str]]:
    command, *rest = arguments
    known = _FLAGS[command] | _COMMON
    words: list[str] = []
    flags: dict[str, str] = {}
    while rest:
        word = rest.pop(0)
        if not word.startswith("-"):
            words.append(word)
        elif word not in known:
            raise HelmError(f"unknown flag: {word}")
        else:
            flags[word] = rest.pop(0) if known[word] else "true"
    return command, words, flags


def _revision(revisions: list[Stored], number: int) -> Stored:
    found = next((item for item in revisions if item.number == number), None)
    if found is None:
        raise HelmError("release: no revision for release")
    return found


def _entry(item: Stored) -> Object:
    return {
        "revision": item.number,
        "updated": "2026-01-01T00:00:00Z",
        "status": item.status,
        "chart": "shop-0.1.0",
        "app_version": "1",
        "description": item.description,
    }
