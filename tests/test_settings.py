"""Configuration: the example file is complete and true, mistakes are one clear sentence, the environment wins."""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, SecretStr

from errors import InvalidInput
from settings import Settings, load_settings

EXAMPLE = Path(__file__).parents[1] / "paramedic.example.toml"
_COMMENTED = re.compile(r'^# (\[\[?[\w.]+\]\]?|[\w"][\w.:/"-]* = .*)$', re.MULTILINE)


@pytest.fixture(autouse=True)
def _nothing_configured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith("PARAMEDIC_"):
            monkeypatch.delenv(name)
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    monkeypatch.chdir(tmp_path)


def _load(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str) -> Settings:
    file = tmp_path / "configuration.toml"
    file.write_text(text, encoding="utf-8")
    monkeypatch.setenv("PARAMEDIC_CONFIG", str(file))
    return load_settings()


def _plain(value: object) -> object:
    """Secrets by their value, so that two of them compare."""
    if isinstance(value, BaseModel):
        return {name: _plain(getattr(value, name)) for name in type(value).model_fields}
    return value.get_secret_value() if isinstance(value, SecretStr) else value


def _keys(model: type[BaseModel], prefix: str = "") -> set[str]:
    found = set()
    for name, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            found |= _keys(inner, f"{prefix}{name}.")
        else:
            found.add(f"{prefix}{name}")
    return found


def _named(document: dict[str, Any], prefix: str = "") -> set[str]:
    """Every key path in `document`, the inner nodes too."""
    found = set()
    for name, value in document.items():
        found.add(f"{prefix}{name}")
        if isinstance(value, dict):
            found |= _named(value, f"{prefix}{name}.")
    return found


def test_the_example_is_the_defaults(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert _plain(_load(monkeypatch, tmp_path, EXAMPLE.read_text())) == _plain(Settings())


def test_the_example_names_every_setting(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    text = _COMMENTED.sub(r"\1", EXAMPLE.read_text())
    assert _keys(Settings) - _named(tomllib.loads(text)) == set()


def test_every_commented_line_of_the_example_would_load(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    loaded = _load(monkeypatch, tmp_path, _COMMENTED.sub(r"\1", EXAMPLE.read_text()))
    assert [key.scopes for key in loaded.api.keys] == [["read", "autofix"]]
    assert loaded.gate.approvers["feishu:tenant/ou_2c1f"] == ["approver", "admin"]
    assert loaded.llm.prices["gpt-4.1-mini"].output == 1.6


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("colour = 'red'", "colour"),
        ("[gate]\nkil_switch = true", "gate.kil_switch"),
        ("[api]\nport = 70000", "api.port"),
        ("[gate]\napproval_seconds = 'soon'", "gate.approval_seconds"),
        ("[gate.approvers]\n'api:ann' = ['god']", "gate.approvers.api:ann.0"),
        ("[[api.keys]]\nname = 'ci'\nsha256 = 'plain key'", "api.keys.0.sha256"),
        ("language = 'fr'", "language"),
    ],
)
def test_a_wrong_key_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(InvalidInput, match=re.escape(repr(named))):
        _load(monkeypatch, tmp_path, text)


def test_a_file_that_is_no_toml_is_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="configuration: "):
        _load(monkeypatch, tmp_path, "this is = = not toml")


def test_the_environment_wins_over_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PARAMEDIC_API__PORT", "9000")
    monkeypatch.setenv("PARAMEDIC_CORE__ROOTS", '["/var/crash"]')
    monkeypatch.setenv("PARAMEDIC_LOG_LEVEL", "")  # empty is not set
    loaded = _load(monkeypatch, tmp_path, "log_level = 'warning'\n[api]\nport = 8000\nhost = '0.0.0.0'")
    assert (loaded.api.port, loaded.api.host) == (9000, "0.0.0.0")
    assert loaded.core.roots == [Path("/var/crash")]
    assert loaded.log_level == "warning"


def test_a_wrong_environment_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARAMEDIC_API__PORT", "many")
    with pytest.raises(InvalidInput, match=r"'api\.port'"):
        load_settings()


def test_secrets_are_not_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARAMEDIC_LLM__API_KEY", "sk-very-secret")
    monkeypatch.setenv("PARAMEDIC_FEISHU__APP_SECRET", "app-very-secret")
    loaded = load_settings()
    assert loaded.llm.api_key is not None and loaded.llm.api_key.get_secret_value() == "sk-very-secret"
    for text in (repr(loaded), str(loaded), loaded.model_dump_json()):
        assert "very-secret" not in text


def test_nobody_may_approve_by_default() -> None:
    gate = Settings().gate
    assert gate.approvers == {}
    assert not gate.allow_self_approval
