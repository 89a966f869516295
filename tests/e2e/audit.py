"""What really reached the API server: its audit log, with the bytes of every write.

The log's path is PARAMEDIC_AUDIT_LOG, else where the development cluster writes it. A cluster without one cannot prove
that nothing was written, so tests of zero writes fail there and say how to get one.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.e2e.build import CLUSTER
from tests.e2e.harness import run
from tests.e2e.kube import USER_AGENT

# what writes beside Paramedic: the tests, people's kubectl, and the cluster's own components
_OTHERS = (
    USER_AGENT,
    "kubectl",
    "kubelet",
    "kube-scheduler",
    "kube-controller-manager",
    "kube-apiserver",
    "kube-proxy",
)


@dataclass(frozen=True)
class Written:
    """One write as the server received it."""

    verb: str
    resource: str
    name: str
    agent: str
    uri: str
    at: datetime
    body: Any  # of a patch: its operations; of a create or delete: the object or options
    code: int

    def __str__(self) -> str:
        return f"{self.verb} {self.uri} ({self.code}) by {self.agent}"


class AuditLog:
    """Reads the log from a mark on. One line is one finished request."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def find(cls) -> AuditLog:
        """Raises AssertionError where there is no log to read."""
        path = Path(os.environ.get("PARAMEDIC_AUDIT_LOG") or run(CLUSTER, "audit").strip())
        if not path.is_file():
            raise AssertionError(
                f"no audit log at {path}: only it can prove that nothing was written. `make cluster` starts a cluster "
                "that writes one; for another cluster, name its log in PARAMEDIC_AUDIT_LOG"
            )
        return cls(path)

    def mark(self) -> int:
        """Here and now, for `writes_to`."""
        return self.path.stat().st_size

    def writes_to(self, namespace: str, since: int) -> list[Written]:
        """Every write into the namespace after the mark that neither the tests nor the cluster itself made.

        Dry runs change nothing and are left out. Requests that the server refused are kept: an attempt counts.
        """
        with self.path.open("rb") as log:
            assert self.path.stat().st_size >= since, "the audit log was rotated during the run"
            log.seek(since)
            needle = f'"namespace":"{namespace}"'.encode()
            lines = [line for line in log if needle in line]
        found = [_written(json.loads(line)) for line in lines if line.endswith(b"\n")]
        return [item for item in found if item is not None]


def _written(entry: dict[str, Any]) -> Written | None:
    agent, user = str(entry.get("userAgent") or ""), str(entry["user"]["username"])
    if agent.startswith(_OTHERS) or user.startswith("system:") or "dryRun=All" in entry["requestURI"]:
        return None
    target = entry.get("objectRef") or {}
    return Written(
        verb=entry["verb"],
        resource="/".join(filter(None, [target.get("resource"), target.get("subresource")])),
        name=str(target.get("name") or ""),
        agent=agent,
        uri=entry["requestURI"],
        at=datetime.fromisoformat(entry["requestReceivedTimestamp"].replace("Z", "+00:00")),
        body=entry.get("requestObject"),
        code=int((entry.get("responseStatus") or {}).get("code") or 0),
    )
