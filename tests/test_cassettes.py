"""No recording in the tests holds a secret, a person's address or a private network's."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

CASSETTES = sorted(path for path in Path(__file__).parent.rglob("cassettes/**/*") if path.suffix in (".yaml", ".json"))
SECRETS = {
    "OpenAI key": r"\bsk-[\w-]{8,}",
    "bearer token": r"(?i)\bbearer\s+(?!SCRUBBED)[\w.~+/=-]{6,}",
    "JSON web token": r"\beyJ[\w-]{8,}\.[\w-]{8,}",
    "JSON web token in base64": r"ZXlK[A-Za-z0-9+/]{40,}",
    "certificate in base64": r"LS0tLS1CRUdJTi[A-Za-z0-9+/]{40,}",
    "Feishu token": r"\b[tu]-[A-Za-z0-9_-]{20,}",
    "app secret": r"(?i)app_?secret\W{1,5}(?!SCRUBBED)\w{6,}",
    "private key": r"-----BEGIN [A-Z ]*PRIVATE KEY",
    "mail address": r"[\w.+-]+@[\w-]+\.[a-z]{2,}",
    "phone number": r"(?<![\d.])\+?86[ -]?1[3-9]\d{9}(?!\d)",
    "private network": r"\b(?:10\.\d{1,3}|192\.168|172\.(?:1[6-9]|2\d|3[01]))\.\d{1,3}\.\d{1,3}\b",
    "home directory": r"/(?:home|Users)/\w+",
}


def test_there_are_cassettes() -> None:
    assert CASSETTES


@pytest.mark.parametrize("path", CASSETTES, ids=lambda path: path.name)
def test_no_secrets(path: Path) -> None:
    text = path.read_text("utf-8")
    found = [name for name, pattern in SECRETS.items() if re.search(pattern, text)]
    assert found == []


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("OpenAI key", "authorization: sk-proj-abcdefgh1234"),
        ("bearer token", "- Bearer abcdef123456"),
        ("Feishu token", "t-g1044qeGEDXTB6NDJOGV4JQCYDGHRBARFTGT1234"),
        ("app secret", '"app_secret": "abcdef123456"'),
        ("mail address", "ann@example.org"),
        ("private network", "http://10.1.2.3:80"),
    ],
)
def test_the_patterns_find(name: str, text: str) -> None:
    assert re.search(SECRETS[name], text)
