"""The launcher of the development cluster: which kind it chooses, what it hands to kind, what an image holds.

No Docker engine is needed: `docker` and `kind` are small recording programs on PATH. What kind itself does with its
configuration is not tested here.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import yaml

LAUNCHER = Path(__file__).parents[2] / "deploy" / "dev-cluster"


class Machine:
    """A PATH of its own, on which `docker` and `kind` are there or not, and no native cluster runs."""

    def __init__(self, root: Path) -> None:
        self.bin = root / "bin"
        self.bin.mkdir()
        self.calls = root / "calls"
        self.env = {
            "PATH": f"{self.bin}:/usr/bin:/bin",
            "HOME": str(root),
            "CLUSTER_HOME": str(root / "native"),
            "KIND_HOME": str(root / "kind"),
        }

    def program(self, name: str, script: str) -> None:
        file = self.bin / name
        file.write_text(f'#!/bin/sh\necho "{name} $*" >> {self.calls}\n{script}\n')
        file.chmod(0o755)

    def run(self, *args: str, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [LAUNCHER / "cluster", *args], env=self.env | env, capture_output=True, text=True, timeout=60
        )

    def called(self) -> list[str]:
        return self.calls.read_text().splitlines() if self.calls.exists() else []


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    made = Machine(tmp_path)
    made.program("docker", "exit 1")
    return made


def test_native_where_no_docker_engine_answers(machine: Machine) -> None:
    done = machine.run("which")
    assert (done.returncode, done.stdout) == (0, "native\n")
    assert "no Docker engine answers" in done.stderr


def test_kind_where_an_engine_answers(machine: Machine) -> None:
    machine.program("docker", "exit 0")
    machine.program("kind", "exit 0")
    assert machine.run("which").stdout == "kind\n"


@pytest.mark.skipif(shutil.which("kind", path="/usr/bin:/bin") is not None, reason="kind is installed system-wide")
def test_an_engine_without_the_kind_program_says_so(machine: Machine) -> None:
    machine.program("docker", "exit 0")
    done = machine.run("which")
    assert done.stdout == "native\n"
    assert "no kind program" in done.stderr


def test_the_choice_can_be_forced_and_a_wrong_one_is_refused(machine: Machine) -> None:
    assert machine.run("which", PARAMEDIC_CLUSTER="kind").stdout == "kind\n"
    done = machine.run("which", PARAMEDIC_CLUSTER="minikube")
    assert done.returncode == 2
    assert "kind or native" in done.stderr


def test_kind_up_asks_for_a_cluster_with_an_audit_log_beside_its_kubeconfig(machine: Machine, tmp_path: Path) -> None:
    machine.program("kind", "exit 0")
    done = machine.run("up", PARAMEDIC_CLUSTER="kind")
    assert done.returncode == 0, done.stderr
    kubeconfig = tmp_path / "kind" / "run" / "kubeconfig"
    created = next(call for call in machine.called() if "create cluster" in call)
    assert "--name paramedic" in created
    assert f"--kubeconfig {kubeconfig}" in created
    node = yaml.safe_load((tmp_path / "kind" / "kind.yaml").read_text())["nodes"][0]
    mounts = {mount["containerPath"]: mount["hostPath"] for mount in node["extraMounts"]}
    patch = yaml.safe_load(node["kubeadmConfigPatches"][0])["apiServer"]
    log = Path(patch["extraArgs"]["audit-log-path"])
    assert mounts[str(log.parent)] == str(kubeconfig.parent)
    assert machine.run("audit", PARAMEDIC_CLUSTER="kind").stdout.strip() == str(kubeconfig.parent / log.name)
    assert machine.run("env", PARAMEDIC_CLUSTER="kind").stdout == f"export KUBECONFIG={kubeconfig}\n"
    policy = yaml.safe_load((tmp_path / "kind" / "policy" / "audit-policy.yaml").read_text())
    assert {"create", "update", "patch", "delete"} <= set(policy["rules"][0]["verbs"])


def test_kind_up_uses_the_cluster_that_is_there(machine: Machine) -> None:
    machine.program("kind", '[ "$1 $2" = "get clusters" ] && echo paramedic; exit 0')
    done = machine.run("up", PARAMEDIC_CLUSTER="kind")
    assert "already up" in done.stderr
    assert not any("create" in call for call in machine.called())


def test_kind_loads_an_image_as_an_archive(machine: Machine, tmp_path: Path) -> None:
    machine.program("kind", f'[ "$1" = load ] && cp "$3" {tmp_path}/loaded.tar; exit 0')
    (machine.bin / "python3").symlink_to(sys.executable)
    program = tmp_path / "server"
    program.write_text("#!/bin/sh\n")
    done = machine.run(
        *[
            "image",
            "--name",
            "docker.io/local/app:1",
            "--add",
            f"{program}=/app/server",
            "--cmd",
            "/app/server",
            "8080",
        ],
        PARAMEDIC_CLUSTER="kind",
    )
    assert done.returncode == 0, done.stderr
    with tarfile.open(tmp_path / "loaded.tar") as archive:
        manifest = json.load(archive.extractfile("manifest.json") or pytest.fail("no manifest"))[0]
        config = json.load(archive.extractfile(manifest["Config"]) or pytest.fail("no config"))
    assert manifest["RepoTags"] == ["docker.io/local/app:1"]
    assert config["config"]["Cmd"] == ["/app/server", "8080"]


@pytest.mark.parametrize(
    ("cases", "code"),
    [("<testcase name='a'/>", 0), ("", 1), ("<testcase name='a'/><testcase name='b'><skipped/></testcase>", 1)],
)
def test_the_end_to_end_run_must_have_run(tmp_path: Path, cases: str, code: int) -> None:
    report = tmp_path / "e2e.xml"
    report.write_text(f"<testsuites><testsuite>{cases}</testsuite></testsuites>")
    done = subprocess.run([sys.executable, LAUNCHER / "ran.py", report], capture_output=True, timeout=60)
    assert done.returncode == code


def test_no_cluster_is_a_failure_only_where_one_is_required(tmp_path: Path) -> None:
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "KUBECONFIG": str(tmp_path / "none")}
    without = subprocess.run([LAUNCHER / "e2e"], env=env, capture_output=True, text=True, timeout=60)
    required = env | {"PARAMEDIC_REQUIRE_CLUSTER": "1"}
    with_it = subprocess.run([LAUNCHER / "e2e"], env=required, capture_output=True, text=True, timeout=60)
    assert (without.returncode, with_it.returncode) == (0, 1)
    assert "no Kubernetes cluster answers" in with_it.stderr
