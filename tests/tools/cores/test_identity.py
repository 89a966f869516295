"""What a core file says about itself, and the node's folder of cores."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from errors import UnusableCore
from tests.standins import crashing
from tools.cores.identity import identify
from tools.cores.node import find_node_cores

UID = "8d7c1b0e-3f6a-4a53-9d55-0f1e2d3c4b5a"


@pytest.mark.gdb
def test_a_core_identifies_itself(tmp_path: Path) -> None:
    crashing.require_tools()
    core = crashing.core("null")
    identity = identify(core)
    assert identity.complete
    assert identity.missing_bytes == 0
    assert identity.sha256 == hashlib.sha256(core.read_bytes()).hexdigest()
    assert identity.signal == "SIGSEGV"
    assert identity.executable == str(crashing.program())
    assert identity.build_id is not None
    with pytest.raises(UnusableCore):
        identify(tmp_path)


@pytest.mark.gdb
def test_a_cut_core_says_how_much_is_missing(tmp_path: Path) -> None:
    crashing.require_tools()
    if not crashing.kernel_writes_cores():
        pytest.skip("kernel.core_pattern leads elsewhere: a debugger's core has its notes where this one is cut")
    core = crashing.core("null")
    cut = crashing.changed(core, tmp_path / "cut", lambda data: data.__delitem__(slice(-100_000, None)))
    assert not identify(cut).complete
    assert identify(cut).missing_bytes == 100_000


def make(node: Path, *parts: str, age: int = 0) -> Path:
    path = node.joinpath(*parts)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("core")
    os.utime(path, (1_700_000_000 - age, 1_700_000_000 - age))
    return path


def test_cores_of_a_pod_newest_first(tmp_path: Path) -> None:
    old = make(tmp_path, "shop", f"cart-5f7_{UID}", "app", "core.1", age=50)
    new = make(tmp_path, "shop", f"cart-5f7_{UID}", "app", "core.2", age=10)
    side = make(tmp_path, "shop", f"cart-5f7_{UID}", "side_car", "core.3", age=20)
    make(tmp_path, "shop", f"cart-5f7_{UID[:-1]}b", "app", "core.4")
    make(tmp_path, "other", f"cart-5f7_{UID}", "app", "core.5")
    make(tmp_path, "shop", f"cart-5f7_{UID}", "app", "core.6.part")
    make(tmp_path, "shop", f"cart-5f7_{UID}", "app", ".hidden")
    (tmp_path / "shop" / f"cart-5f7_{UID}" / "app" / "core.7").symlink_to(old)
    assert find_node_cores(tmp_path, "shop", {UID}, "app") == [new, old]
    assert find_node_cores(tmp_path, "shop", {UID}, None) == [new, side, old]
    assert find_node_cores(tmp_path, "shop", set(), "app") == []
    assert find_node_cores(tmp_path / "nothing", "shop", {UID}, None) == []


@pytest.mark.parametrize(
    ("namespace", "uid", "container"),
    [("../other", UID, None), ("shop", "../x", None), ("shop", UID, ".."), ("..", UID, None), ("", UID, None)],
)
def test_names_that_are_none_find_nothing(tmp_path: Path, namespace: str, uid: str, container: str | None) -> None:
    make(tmp_path, "other", f"cart_{UID}", "app", "core")
    make(tmp_path, "shop", f"cart_{UID}", "app", "core")
    assert find_node_cores(tmp_path / "shop", namespace, {uid}, container) == []
