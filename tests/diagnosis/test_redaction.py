"""Secrets do not survive; references to secrets and ordinary words do."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diagnosis.redaction import MASK, redact, redact_object

SECRET = "hunter2-Zq9"


@pytest.mark.parametrize(
    "text",
    [
        f"password={SECRET} rest",
        f'{{"password": "{SECRET}", "a": 1}}',
        f"Authorization: Bearer {SECRET}",
        f"curl -H 'authorization: Basic {SECRET}'",
        f"sending Bearer {SECRET}",
        f"postgres://app:{SECRET}@db:5432/x",
        f"app:{SECRET}@tcp(db:3306)/x",
        f"--password {SECRET} --verbose",
        f"--db-token={SECRET}",
        f"API_KEY: {SECRET}",
        f"aws_secret_access_key = {SECRET}",
        f"DB_PASSWORD='{SECRET} more'",
        f"密码：{SECRET}",
        f"-----BEGIN RSA PRIVATE KEY-----\n{SECRET}\n-----END RSA PRIVATE KEY-----",
        f"-----BEGIN PRIVATE KEY-----\n{SECRET}\n",
    ],
)
def test_a_secret_is_removed(text: str) -> None:
    assert SECRET not in redact(text)
    assert MASK in redact(text)


@pytest.mark.parametrize(
    "text",
    [
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N",
        "AKIAIOSFODNN7EXAMPLE",
        "ghp_0123456789abcdefghij0123",
        "somebody.else+tag@example.co.uk",
    ],
)
def test_a_shape_that_is_a_secret_is_removed(text: str) -> None:
    assert redact(f"before {text} after") == f"before {MASK} after"


@pytest.mark.parametrize(
    "text",
    [
        'secret "db-login" not found',
        "couldn't find key password in Secret ns/db-login",
        '{"secretName":"db-login","automountServiceAccountToken":false}',
        "dial tcp 10.0.0.7:5432: connect: connection refused",
        "http://10.0.0.7:8080/healthz",
        '{"secretKeyRef":{"key":"token","name":"x"}}',
        "panic: runtime error: index out of range [3] with length 3",
    ],
)
def test_other_text_is_kept(text: str) -> None:
    assert redact(text) == text


@given(st.text(alphabet="abpwd=:\"' @/.-\\\n{}[]tokensecretpassword", max_size=300))
def test_redacting_twice_is_redacting_once(text: str) -> None:
    once = redact(text)
    assert redact(once) == once


def test_long_hostile_lines_are_quick() -> None:
    for unit in ("password ", "a@", "https://", 'token"', "-----BEGIN PRIVATE KEY-----", "x.y.", "--a-"):
        redact(unit * 20_000)  # the test's own timeout fails a pattern that is not linear


def test_an_object_keeps_its_shape_and_loses_its_secrets() -> None:
    pod = {
        "kind": "Pod",
        "metadata": {
            "name": "p",
            "managedFields": [{}],
            "annotations": {"kubectl.kubernetes.io/last-applied-configuration": SECRET, "note": f"password={SECRET}"},
        },
        "spec": {
            "containers": [
                {
                    "name": "c",
                    "command": ["run", f"--password={SECRET}"],
                    "env": [{"name": "DB_PASSWORD", "value": SECRET}, {"name": "MODE", "value": "fast"}],
                    "livenessProbe": {"httpGet": {"httpHeaders": [{"name": "Authorization", "value": SECRET}]}},
                }
            ]
        },
    }
    kept = redact_object(pod)
    assert SECRET not in json.dumps(kept)
    assert kept["spec"]["containers"][0]["env"][1] == {"name": "MODE", "value": "fast"}
    assert "managedFields" not in kept["metadata"]
    assert pod["metadata"]["managedFields"] == [{}], "the input is left alone"


def test_only_the_keys_of_secrets_and_config_maps_are_kept() -> None:
    for kind in ("Secret", "ConfigMap"):
        kept = redact_object({"kind": kind, "metadata": {"name": "x"}, "data": {"user": SECRET}, "stringData": None})
        assert kept["data"] == {"user": ""}
