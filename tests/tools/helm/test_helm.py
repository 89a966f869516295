"""The helm program: by argument list, bounded in time and output, with errors of our own."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from errors import InvalidInput, NotFound, ToolFailed, ToolMissing, ToolTimeout
from settings import KubernetesSettings
from tests.standins.helm import HelmStandIn
from tests.standins.kube_api import KubeApi
from tools.helm.client import Helm
from tools.helm.command import HelmFailed, OutputTooLong, run
from tools.helm.manifest import is_kept, manifest_objects


def _script(folder: Path, text: str) -> Helm:
    program = folder / "helm"
    program.write_text("#!/bin/sh\n" + text)
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return Helm(KubernetesSettings(), program=str(program), timeout=60, output_bytes=10_000)


async def test_a_missing_helm_says_how_to_get_it() -> None:
    with pytest.raises(ToolMissing, match=r"helm\.sh/docs"):
        await Helm(KubernetesSettings(), program="no-such-helm").version()


@pytest.mark.parametrize(("printed", "version"), [("v3.22", (3, 22)), ("v3.14.2", (3, 14)), ("v4.0.1+g1", (4, 0))])
async def test_the_version_is_asked_once(tmp_path: Path, printed: str, version: tuple[int, int]) -> None:
    helm = _script(tmp_path, f'echo x >> {tmp_path}/asked\nprintf %s "{printed}"')
    assert await helm.version() == version
    assert await helm.version() == version
    assert (tmp_path / "asked").read_text() == "x\n"


@pytest.mark.parametrize("printed", ["v2.17.0", "hello", ""])
async def test_other_versions_are_not_used(tmp_path: Path, printed: str) -> None:
    with pytest.raises(ToolFailed, match="not supported"):
        await _script(tmp_path, f'printf %s "{printed}"').version()


@pytest.mark.parametrize(("version", "flag"), [("v3.22", "--dry-run"), ("v4.0", "--dry-run=client")])
async def test_the_dry_run_flag_is_that_of_the_version(tmp_path: Path, version: str, flag: str) -> None:
    helm = _script(tmp_path, f'[ "$1" = version ] && echo {version} && exit\necho "$@" >> {tmp_path}/asked')
    await helm.rollback("ns", "release", 3, dry_run=True)
    await helm.uninstall("ns", "release", dry_run=False)
    first, second = (tmp_path / "asked").read_text().splitlines()
    assert first == f"rollback release 3 --timeout 120s {flag} --namespace ns"
    assert second == "uninstall release --keep-history --timeout 120s --namespace ns"


@pytest.mark.parametrize("name", ["-x", "--post-renderer=sh", "a b", "a;b", "", "A", "a" * 54, "../x"])
async def test_a_name_that_is_none_never_reaches_the_command_line(tmp_path: Path, name: str) -> None:
    helm = _script(tmp_path, f"echo x >> {tmp_path}/asked")
    with pytest.raises(InvalidInput, match="no helm release name"):
        await helm.status("ns", name)
    assert not (tmp_path / "asked").exists()


async def test_a_helm_that_hangs_is_killed(tmp_path: Path) -> None:
    helm = _script(tmp_path, f"echo $$ > {tmp_path}/pid\nexec sleep 60")
    with pytest.raises(ToolTimeout):
        await run(helm._program, ["version"], timeout=0.5, output_bytes=10)
    pid = (tmp_path / "pid").read_text().strip()
    assert not Path(f"/proc/{pid}").exists()


async def test_endless_output_is_cut_off(tmp_path: Path) -> None:
    with pytest.raises(OutputTooLong):
        await _script(tmp_path, "exec yes").version()


async def test_an_error_of_helm_is_one_of_ours_and_short(tmp_path: Path) -> None:
    helm = _script(tmp_path, '[ "$1" = version ] && echo v3.22 && exit\nprintf "%2000s" x >&2; exit 1')
    with pytest.raises(HelmFailed) as failed:
        await helm.status("ns", "release")
    assert len(str(failed.value)) < 700
    helm = _script(tmp_path, '[ "$1" = version ] && echo v3.22 && exit\necho garbage')
    with pytest.raises(ToolFailed, match="not what helm prints"):
        await helm.history("ns", "release")


async def test_a_release_is_read_part_by_part(tmp_path: Path) -> None:
    async with KubeApi() as api, HelmStandIn(api, tmp_path) as server:
        server.install("ns", "shop", [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}}], {"b": 1})
        server.install("ns", "shop", [], {"z": 1, "a": [2]})
        kube = KubernetesSettings(kubeconfig=tmp_path / "k", context="x")
        helm = Helm(kube, program=str(server.program))
        assert [item.number for item in await helm.history("ns", "shop")] == [1, 2]
        assert (await helm.status("ns", "shop")).status == "deployed"
        assert await helm.get("values", "ns", "shop", 2) == '{"a":[2],"z":1}'
        assert manifest_objects(await helm.get("manifest", "ns", "shop", 1))[0]["kind"] == "ConfigMap"
        assert await helm.get("hooks", "ns", "shop", 1) == ""
        assert server.commands[-1][-4:] == ["--kubeconfig", str(tmp_path / "k"), "--kube-context", "x"]
        for release, revision in (("other", 1), ("shop", 9)):
            with pytest.raises(NotFound):
                await helm.get("values", "ns", release, revision)


def test_manifests_are_read_with_care() -> None:
    text = "---\n# a comment\n---\nkind: List\nmetadata: {name: l}\nitems:\n- {kind: Secret, metadata: {name: s}}\n"
    (secret,) = manifest_objects(text)
    assert not is_kept(secret)
    assert is_kept({"metadata": {"annotations": {"helm.sh/resource-policy": "Keep "}}})
    for bad in ("a: [", "- 1", "kind: X", "!!python/object/apply:os.system ['true']"):
        with pytest.raises(ToolFailed):
            manifest_objects(bad)
