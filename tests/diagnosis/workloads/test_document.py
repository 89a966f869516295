"""docs/causes.md says what the analyzers say, and every class that they can name stands in it."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType

import pytest

from diagnosis.workloads.analyzers import ANALYZERS
from diagnosis.workloads.document import FILE, document, documented, main
from incidents.models import CauseClass


def test_the_page_is_the_one_of_the_analyzers() -> None:
    assert FILE.read_text(encoding="utf-8") == document(), "run `python -m diagnosis.workloads.document`"


@pytest.mark.parametrize("analyzer", ANALYZERS, ids=lambda analyzer: str(analyzer.NAME))
def test_every_class_that_an_analyzer_names_is_documented(analyzer: ModuleType) -> None:
    source = Path(str(analyzer.__file__)).read_text(encoding="utf-8")
    named = {CauseClass[name] for name in re.findall(r"CauseClass\.([A-Z_]+)", source)} - {CauseClass.UNKNOWN}
    assert named <= set(documented()), "CAUSES lacks some"


def test_a_page_that_differs_is_told(tmp_path: Path) -> None:
    file = tmp_path / "causes.md"
    assert main([str(file), "--check"]) == 1
    assert main([str(file)]) == 0
    assert main([str(file), "--check"]) == 0
    file.write_text(file.read_text() + "more\n")
    assert main([str(file), "--check"]) == 1
