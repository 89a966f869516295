"""Helm releases: what is deployed, what was, and the two writes that the gate knows.

helm has no precondition such as a resourceVersion: the gate binds the revision number and the release's storage
Secret, and checks them under its own lock. `--keep-history` is not an option here but a rule: without it an
uninstalled release cannot be brought back.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from errors import InvalidInput, NotFound, ToolFailed
from incidents.plan import canonical_json
from settings import KubernetesSettings
from tools.helm.command import run

Part = Literal["manifest", "values", "hooks"]
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,51}[a-z0-9])?")  # helm's rule: RFC 1123 name, at most 53 characters
_MARGIN_SECONDS = 10.0


@dataclass(frozen=True)
class Revision:
    """One entry of `helm history`."""

    number: int
    status: str
    """deployed | superseded | failed | uninstalled | uninstalling | pending-install | pending-rollback | …"""
    chart: str
    app_version: str
    description: str
    updated: str


class Helm:
    """One cluster's releases, through the helm program of major version 3 or 4.

    Methods raise ToolMissing, ToolTimeout, NotFound (release or revision), HelmFailed.
    """

    def __init__(
        self,
        settings: KubernetesSettings,
        *,
        program: str = "helm",
        timeout: float = 60.0,
        write_timeout: float = 120.0,
        output_bytes: int = 32 << 20,
    ) -> None:
        self._settings = settings
        self._program = program
        self._timeout = timeout
        self._output_bytes = output_bytes
        self._version: tuple[int, int] | None = None
        self.write_timeout = write_timeout

    async def version(self) -> tuple[int, int]:
        """Major and minor version, asked once."""
        if self._version is None:
            text = await self._run(["version", "--template", "{{.Version}}"], self._timeout)
            match = re.match(r"v?(\d+)\.(\d+)", text.strip())
            if not match or int(match[1]) not in (3, 4):
                raise ToolFailed(f"helm version {text.strip()[:40]!r} is not supported: 3 and 4 are")
            self._version = int(match[1]), int(match[2])
        return self._version

    async def status(self, namespace: str, release: str) -> Revision:
        """The current revision."""
        return (await self.history(namespace, release))[-1]

    async def history(self, namespace: str, release: str) -> list[Revision]:
        """All kept revisions, oldest first; never empty."""
        text = await self._release(["history"], namespace, release, "-o", "json", "--max", "1000")
        try:
            entries = json.loads(text)
            found = [_revision(entry) for entry in entries]
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ToolFailed(f"helm history of {release} is not what helm prints: {error}") from error
        if not found:
            raise NotFound(f"helm release {namespace}/{release} has no revision")
        return sorted(found, key=lambda item: item.number)

    async def get(self, part: Part, namespace: str, release: str, revision: int) -> str:
        """What one revision holds. Values are the user's, as canonical JSON; manifest and hooks as YAML text."""
        output = ["-o", "json"] if part == "values" else []
        text = await self._release(["get", part], namespace, release, "--revision", str(revision), *output)
        if part != "values":
            return text
        try:
            return canonical_json(json.loads(text)).decode()
        except ValueError as error:
            raise ToolFailed(f"the values of helm release {release} are not JSON") from error

    async def rollback(self, namespace: str, release: str, to_revision: int, *, dry_run: bool) -> None:
        """Make a new revision like `to_revision`. Does not wait for pods: the gate watches them."""
        write = ["--timeout", f"{self.write_timeout:.0f}s", *await self._dry(dry_run)]
        await self._release(["rollback"], namespace, release, str(to_revision), *write, timeout=self._write_limit)

    async def uninstall(self, namespace: str, release: str, *, dry_run: bool) -> None:
        """Delete the release's resources and keep its history."""
        write = ["--timeout", f"{self.write_timeout:.0f}s", *await self._dry(dry_run)]
        await self._release(["uninstall"], namespace, release, "--keep-history", *write, timeout=self._write_limit)

    @property
    def _write_limit(self) -> float:
        return self.write_timeout + _MARGIN_SECONDS

    async def _dry(self, dry_run: bool) -> list[str]:
        if not dry_run:
            return []
        major, _ = await self.version()
        return ["--dry-run=client"] if major >= 4 else ["--dry-run"]  # helm 4 gave the flag a value

    async def _release(
        self, command: Sequence[str], namespace: str, release: str, *arguments: str, timeout: float | None = None
    ) -> str:
        if not _NAME.fullmatch(release) or not _NAME.fullmatch(namespace[:53]):
            raise InvalidInput(f"{namespace!r}/{release!r} is no helm release name")
        await self.version()
        return await self._run([*command, release, *arguments, "--namespace", namespace], timeout or self._timeout)

    async def _run(self, arguments: list[str], timeout: float) -> str:
        if self._settings.kubeconfig:
            arguments = [*arguments, "--kubeconfig", str(self._settings.kubeconfig)]
        if self._settings.context:
            arguments = [*arguments, "--kube-context", self._settings.context]
        return await run(self._program, arguments, timeout=timeout, output_bytes=self._output_bytes)


def storage_secret(release: str, revision: int) -> str:
    """The name of the Secret in which helm keeps a revision (its default storage driver)."""
    return f"sh.helm.release.v1.{release}.v{revision}"


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()


def _revision(entry: dict[str, Any]) -> Revision:
    return Revision(
        number=int(entry["revision"]),
        status=str(entry["status"]),
        chart=str(entry.get("chart") or ""),
        app_version=str(entry.get("app_version") or ""),
        description=str(entry.get("description") or ""),
        updated=str(entry.get("updated") or ""),
    )
