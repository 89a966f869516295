"""A node's folder of cores, an agent on it whose clocks the test turns, and what it handed over."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from collector.agent import Agent
from collector.ledger import Ledger
from collector.local_file import LocalFile
from collector.pods import Pods
from errors import ToolFailed
from incidents.collected import CollectedCore
from settings import CollectorSettings, GdbSettings
from tools.kubernetes.client import Cluster

UID = "0f0e0d0c-1111-4222-8333-0123456789ab"


@dataclass
class Node:
    """One node. `taken` are the records that the agent handed over; `refuse` makes the outbox fail."""

    root: Path
    settings: CollectorSettings
    data: Path
    name: str = "node1"
    cluster: Cluster | None = None
    taken: list[tuple[CollectedCore, LocalFile | None]] = field(default_factory=list)
    seconds: float = 1000.0
    now: datetime = field(default_factory=lambda: datetime.now(UTC))
    refuse: bool = False
    ledger: Ledger | None = None

    def __post_init__(self) -> None:
        self.agent = self.restart()

    def restart(self) -> Agent:
        """A new agent over the same data, as after a kill."""
        if self.ledger is not None:
            self.ledger.close()
        self.ledger = Ledger(self.data / "ledger.db")
        self.agent = Agent(
            self.settings,
            GdbSettings(),
            self.ledger,
            Pods(self.cluster, self.name),
            self._take,
            node=self.name,
            wall=lambda: self.now,
            clock=lambda: self.seconds,
        )
        return self.agent

    async def _take(self, record: CollectedCore, file: LocalFile | None) -> None:
        if self.refuse:
            raise ToolFailed("the outbox cannot be written")
        self.taken.append((record, file))

    def later(self, seconds: float) -> None:
        self.seconds += seconds
        self.now += timedelta(seconds=seconds)

    async def looks(self, count: int = 2, apart: float = 2.0) -> list[CollectedCore]:
        """So many looks; what they handed over."""
        before = len(self.taken)
        for _ in range(count):
            await self.agent.look()
            self.later(apart)
        return [record for record, _ in self.taken[before:]]

    def folder(self, container: str = "app", pod: str = f"shop-7d9f-x2x_{UID}") -> Path:
        path = self.root / "team" / pod / container
        path.mkdir(parents=True, exist_ok=True)
        return path


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    root = tmp_path / "cores"
    root.mkdir()
    made = Node(root, CollectorSettings(roots=[root], node_processes=False), tmp_path / "data")
    yield made
    if made.ledger is not None:
        made.ledger.close()
