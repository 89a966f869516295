"""Which local files a reference may lead to."""

from __future__ import annotations

from pathlib import Path

import pytest

from errors import Forbidden, InputTooLarge, InvalidInput, NotFound
from incidents.models import CoreRef
from settings import CoreSettings
from tools.cores.opening import LocalCore, open_core

UPLOAD = "upl_" + "0a" * 16


@pytest.fixture
def places(tmp_path: Path) -> Path:
    """root/ (allowed) with a core, links that lead out and in; secret outside; uploads/."""
    root, uploads = tmp_path / "root", tmp_path / "uploads"
    (root / "inner").mkdir(parents=True)
    uploads.mkdir()
    (root / "core").write_text("core")
    (root / "shop").write_text("program")
    (tmp_path / "secret").write_text("secret")
    (root / "out").symlink_to(tmp_path / "secret")
    (root / "out-dir").symlink_to(tmp_path)
    (root / "in").symlink_to(root / "core")
    (root / "loop").symlink_to(root / "loop")
    (uploads / UPLOAD).write_text("uploaded")
    (uploads / ("upl_" + "1b" * 16)).symlink_to(tmp_path / "secret")
    return tmp_path


async def opened(places: Path, *, any_path: bool = False, roots: bool = True, **ref: str) -> LocalCore:
    settings = CoreSettings(roots=[places / "root"] if roots else [], max_bytes=100)
    async with open_core(CoreRef(**ref), settings, places / "uploads", any_path=any_path) as local:
        return local


async def test_paths_below_the_roots(places: Path) -> None:
    root = places / "root"
    local = await opened(places, path=str(root / "core"), executable=str(root / "shop"), sysroot=str(root / "inner"))
    assert local == LocalCore(root / "core", root / "shop", root / "inner", None)
    assert (await opened(places, path=str(root / "in"))).core == root / "core"


@pytest.mark.parametrize(
    "name", ["secret", "root/out", "root/out-dir/secret", "root/../secret", "rootless", "root/../root2/x"]
)
async def test_paths_that_lead_out_are_forbidden_whether_they_exist_or_not(places: Path, name: str) -> None:
    with pytest.raises(Forbidden) as caught:
        await opened(places, path=str(places / name))
    assert name not in str(caught.value)
    with pytest.raises(Forbidden):
        await opened(places, path=str(places / "root" / "core"), executable=str(places / name))


@pytest.mark.parametrize("field", ["sysroot", "debug_dir"])
async def test_folders_obey_the_same_rule(places: Path, field: str) -> None:
    with pytest.raises(Forbidden):
        await opened(places, path=str(places / "root" / "core"), **{field: str(places)})
    with pytest.raises(NotFound):
        await opened(places, path=str(places / "root" / "core"), **{field: str(places / "root" / "core")})


async def test_without_roots_no_path_is_open(places: Path) -> None:
    with pytest.raises(Forbidden, match="not below a folder"):
        await opened(places, roots=False, path=str(places / "root" / "core"))


async def test_the_command_line_may_name_any_path(places: Path) -> None:
    assert (await opened(places, any_path=True, path=str(places / "secret"))).core == places / "secret"


async def test_uploads_are_found_by_their_ids(places: Path) -> None:
    assert (await opened(places, upload=UPLOAD)).core == places / "uploads" / UPLOAD
    core = str(places / "root" / "core")
    assert (await opened(places, path=core, executable=UPLOAD)).executable == places / "uploads" / UPLOAD


@pytest.mark.parametrize(
    ("upload", "error"),
    [
        ("upl_" + "2c" * 16, NotFound),
        ("upl_" + "1b" * 16, NotFound),  # a link
        ("upl_../../secret", InvalidInput),
        ("upl_", InvalidInput),
        ("upl_" + "a" * 100, InvalidInput),
        ("upl_0123456789\n", InvalidInput),
    ],
)
async def test_no_other_file_is_an_upload(places: Path, upload: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        await opened(places, upload=upload)


@pytest.mark.parametrize(
    ("ref", "error"),
    [
        ({}, InvalidInput),
        ({"path": "/a", "upload": UPLOAD}, InvalidInput),
        ({"path": "core"}, Forbidden),  # relative: to what?
        ({"path": "ROOT/nothing"}, NotFound),
        ({"path": "ROOT"}, NotFound),
        ({"path": "ROOT/loop"}, InvalidInput),
        ({"path": "ROOT/zero\0"}, InvalidInput),
        ({"path": "ROOT/" + "x" * 5000}, InvalidInput),
    ],
)
async def test_what_cannot_be_a_core(places: Path, ref: dict[str, str], error: type[Exception]) -> None:
    with pytest.raises(error):
        await opened(places, **{key: value.replace("ROOT", str(places / "root")) for key, value in ref.items()})


async def test_a_file_over_the_limit(places: Path) -> None:
    (places / "root" / "big").write_bytes(bytes(101))
    with pytest.raises(InputTooLarge):
        await opened(places, path=str(places / "root" / "big"))


async def test_nothing_is_left_of_a_download_that_failed(places: Path) -> None:
    with pytest.raises(Forbidden):
        await opened(places, url="https://example.com/core")
    assert sorted(path.name for path in (places / "uploads").iterdir()) == sorted([UPLOAD, "upl_" + "1b" * 16])
