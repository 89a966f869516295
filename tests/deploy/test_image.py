"""The container image and the compose file, as far as that can be checked without a Docker engine."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text()


def _copied() -> dict[str, str]:
    """Source to destination of every COPY of the application."""
    found = {}
    for line in re.findall(r"^COPY (?!--from)(.*)$", DOCKERFILE, re.MULTILINE):
        *sources, destination = line.split()
        if destination.startswith("./app"):
            found |= dict.fromkeys(sources, destination)
    return found


def _packaged() -> set[str]:
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    return set(wheel["include"])


def test_the_image_has_every_room_and_nothing_else_is_sent_to_the_builder() -> None:
    assert set(_copied()) == _packaged() | {"LICENSE"}
    sent = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert sent == set(_copied()) | {"requirements.lock", "requirements-dev.lock"}


@pytest.mark.system
def test_the_copied_files_alone_make_a_program_that_starts(tmp_path: Path) -> None:
    for source, destination in _copied().items():
        target = tmp_path / destination
        if (ROOT / source).is_dir():
            shutil.copytree(ROOT / source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            target.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / source, target)
    # a service without its routes, prompts or migrations would fail here; the checkout itself is not on the path
    script = (
        "import sys; sys.path[:] = [p for p in sys.path if p != sys.argv[1]]; sys.path.insert(0, sys.argv[2])\n"
        "import cli, api.app, graph.services, incidents.database\n"
        "assert all(m.__file__.startswith(sys.argv[2]) for m in (cli, api.app, graph.services, incidents.database))\n"
        "cli.app(['--help'], standalone_mode=False)"
    )
    command = [sys.executable, "-c", script, str(ROOT), str(tmp_path / "app")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert "serve" in done.stdout


def test_it_runs_as_nobody_in_particular_with_the_programs_it_calls() -> None:
    assert re.findall(r"^USER (.*)$", DOCKERFILE, re.MULTILINE) == ["10001:10001"]
    installed = re.search(r"apt-get install -y --no-install-recommends (.*) \\", DOCKERFILE)
    assert installed is not None
    assert {"gdb", "bubblewrap", "kubernetes-client", "ca-certificates"} <= set(installed[1].split())


def test_continuous_integration_and_the_image_have_the_same_helm() -> None:
    tested = re.search(r"^HELM_VERSION=(\S+)", (ROOT / ".ci" / "run").read_text(), re.MULTILINE)
    shipped = re.search(r"helm\.sh/helm/v3/cmd/helm@(\S+)", DOCKERFILE)
    assert tested is not None and shipped is not None
    assert tested[1] == shipped[1]


def test_compose_publishes_on_loopback_only_and_needs_no_redis() -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    assert set(services) == {"paramedic", "redis", "ollama"}
    for service in services.values():
        assert all(str(port).startswith("127.0.0.1:") for port in service.get("ports", []))
    assert "depends_on" not in services["paramedic"]
    assert (ROOT / services["paramedic"]["build"]["dockerfile"]).is_file()
