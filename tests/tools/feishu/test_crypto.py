"""Vectors of signatures and encryption: computed with the vendor's own SDK and documents."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tools.feishu.crypto import decrypt, encrypt, event_signature, webhook_sign


@pytest.mark.parametrize(
    ("timestamp", "sign"),
    [
        (100, "jquNHnVOwmDRfw+vqTIrY5dooJAgi5EcRtLsQE4wfXg="),
        (1599360473, "l1N0gAcBjdwBvGm1xMjOF0XSyaLRpR7tuO5dHfhAYc8="),
    ],
)
def test_sign_of_a_custom_bot(timestamp: int, sign: str) -> None:
    assert webhook_sign(timestamp, "demo") == sign


def test_signature_of_a_callback() -> None:
    signature = event_signature("1700000000", "n0nce", "test key", b'{"encrypt":"abc"}')
    assert signature == "e195c9e5af14a703921143d3c2afd1c1ed93a50838a77a121a7da206a1a2651f"


def test_official_ciphertext_is_read() -> None:
    assert decrypt("P37w+VZImNgPEO1RBhJ6RtKl7n6zymIbEG1pReEzghk=", "test key") == b"hello world"


def test_ciphertext_with_a_fixed_iv() -> None:
    sealed = encrypt(b'{"a":1}', "test key", b"0" * 16)
    assert sealed == "MDAwMDAwMDAwMDAwMDAwMJg2wXkEHkPNI3IJ+syN3qc="


@settings(max_examples=30, deadline=None)
@given(st.binary(max_size=200), st.text(st.characters(codec="utf-8"), min_size=1, max_size=40))
def test_what_is_encrypted_is_read_back(plaintext: bytes, key: str) -> None:
    assert decrypt(encrypt(plaintext, key), key) == plaintext


@pytest.mark.parametrize("blob", ["", "AAAA", "not base64!", "A" * 44, "ä" * 44])
def test_malformed_ciphertext_is_a_value_error(blob: str) -> None:
    with pytest.raises(ValueError):
        decrypt(blob, "test key")
