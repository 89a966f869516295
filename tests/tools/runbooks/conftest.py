"""A folder of runbooks in English and Chinese, and the library over it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from settings import RunbookSettings
from tools.runbooks.library import Runbooks

FILES = {
    "memory.md": "# Memory\n\n## Containers that are OOMKilled\nRaise the limit only after the graph was read.\n",
    "zh/connections.md": "# 数据库连接数耗尽\n\n先看 pg_stat_activity，再限制连接池大小。\n",
    "zh/disk.md": "# 磁盘空间不足的处理\n\n清理 /var/log，扩容数据盘。\n",
    "onboarding.md": "# Onboarding\n\nPods run in containers of a cluster. When a pod restarts, look at its logs.\n",
    "probes.md": "# Probes\n\nA liveness probe that asks the wrong port kills a healthy container.\n",
    "cart.md": "# Cart\n\nThe cart service caches prices; FailedMount of its volume needs the storage team.\n",
}
Make = Callable[..., Runbooks]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "runbooks"
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def make(folder: Path, tmp_path: Path) -> Make:
    def make(embeddings: object = None, **options: object) -> Runbooks:
        settings = RunbookSettings.model_validate({"folder": folder} | options)
        return Runbooks(settings, tmp_path / "data", embeddings)  # type: ignore[arg-type]

    return make
