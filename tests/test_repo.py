"""Rules about the repository itself: what must not be in it, and what every part must have."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = [
    "actions",
    "agents",
    "api",
    "collector",
    "diagnosis",
    "evals",
    "graph",
    "incidents",
    "prompts",
    "terminal",
    "tools",
]
MAX_BYTES = 1_500_000
_HOME_OF_A_MACHINE = re.compile(r"(?<![\w.-])/(?:work|home/\w+|Users/\w+|root)/[\w.-]+")


def _files() -> list[Path]:
    """What belongs to the repository: all but what .gitignore leaves out."""
    if shutil.which("git") is None:
        pytest.skip("git is not installed: apt-get install git")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    if listed.returncode != 0:
        pytest.skip(f"git cannot list the files of this folder; run the tests in a clone ({listed.stderr.strip()})")
    return [path for name in listed.stdout.split("\0") if name and (path := ROOT / name).is_file()]


def _text(path: Path) -> str | None:
    data = path.read_bytes()
    return None if b"\0" in data[:8192] else data.decode("utf-8", "replace")


def _modules() -> list[Path]:
    return [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py")) if "__pycache__" not in path.parts]


def test_no_file_is_large() -> None:
    assert [str(path.relative_to(ROOT)) for path in _files() if path.stat().st_size > MAX_BYTES] == []


def test_no_path_of_somebodys_machine() -> None:
    found = [
        f"{path.relative_to(ROOT)}: {match[0]}"
        for path in _files()
        if (text := _text(path)) is not None
        for match in _HOME_OF_A_MACHINE.finditer(text)
    ]
    # where a container's own home is meant, it is the container's, not a machine's
    assert [line for line in found if "/root/.ollama" not in line] == []


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-dev.lock"])
def test_lock_files_name_no_index_and_hash_everything(name: str) -> None:
    text = (ROOT / name).read_text()
    assert "://" not in text
    assert not re.search(r"^\s*(-i|-f|--index|--extra-index|--find-links|--trusted-host)", text, re.MULTILINE)
    entries = re.split(r"\n(?=[A-Za-z0-9])", text)[1:]
    assert len(entries) > 50
    assert [entry.split()[0] for entry in entries if "--hash=sha256:" not in entry] == []


def test_the_runtime_lock_is_a_part_of_the_development_lock() -> None:
    def pins(name: str) -> set[str]:
        return set(re.findall(r"^([A-Za-z0-9][^ ]*==[^ ;]*)", (ROOT / name).read_text(), re.MULTILINE))

    assert pins("requirements.lock") <= pins("requirements-dev.lock")


def test_every_module_says_what_it_is_for() -> None:
    assert [
        str(path.relative_to(ROOT)) for path in _modules() if not ast.get_docstring(ast.parse(path.read_text()))
    ] == []


def test_no_drawer_for_odds_and_ends() -> None:
    assert [path for path in _modules() if path.stem in {"utils", "util", "helpers", "misc", "common"}] == []


@pytest.mark.parametrize("room", ROOMS)
def test_no_shell_no_eval_no_pickle(room: str) -> None:
    """Read off the syntax tree, so that a docstring may speak of them."""
    found = []
    for path in (path for path in _modules() if path.is_relative_to(ROOT / room)):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [alias.name for alias in node.names] + [getattr(node, "module", "") or ""]
                found += [f"{path}: imports {name}" for name in names if name.split(".")[0] in {"pickle", "marshal"}]
            if isinstance(node, ast.Call):
                name = ast.unparse(node.func)
                if name in {"eval", "exec", "os.system", "os.popen", "asyncio.create_subprocess_shell", "yaml.load"}:
                    found.append(f"{path}:{node.lineno}: {name}")
                if any(item.arg == "shell" for item in node.keywords):
                    found.append(f"{path}:{node.lineno}: shell=")
    assert found == []


def test_end_to_end_tests_are_marked_as_needing_a_cluster() -> None:
    """An unmarked one would run neither with `make test` nor with `make e2e`."""
    tests = sorted((ROOT / "tests" / "e2e").glob("test_*.py"))
    everywhere = "pytest.mark.cluster" in _text_of(ROOT / "tests" / "e2e" / "conftest.py")
    assert [path.name for path in tests if not everywhere and "pytest.mark.cluster" not in path.read_text()] == []


def _text_of(path: Path) -> str:
    return path.read_text() if path.is_file() else ""


def test_scripts_are_executable_and_parse() -> None:
    scripts = [ROOT / ".ci" / "run", ROOT / "deploy" / "setup"]
    scripts += [ROOT / "deploy" / "dev-cluster" / name for name in ("cluster", "native", "kind", "e2e")]
    for script in scripts:
        assert script.stat().st_mode & 0o111, script
        done = subprocess.run(["bash", "-n", script], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr


def test_the_readme_names_only_files_that_exist() -> None:
    for document in ("README.md", "CONTRIBUTING.md"):
        targets = re.findall(r"\]\((?!https?://|#)([^)#]+)", (ROOT / document).read_text())
        assert [target for target in targets if not (ROOT / target).exists()] == []
