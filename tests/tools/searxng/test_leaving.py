"""What of a question may leave: canaries of every kind stay inside, the words of an error message get out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tools.searxng.leaving import MAX_CHARS, leaving

PRIVATE = {
    "payroll", "shop-cart-api", "shop", "node-7.corp.example", "registry.corp.example/shop/cart:1.2", "redis",
    "ledger-prod",
}  # fmt: skip
SECRETS = [
    "payroll", "PayRoll", "ＰＡＹＲＯＬＬ", "payroll:8080", "my-payroll", "payrolls", "shop-cart-api", "shop_cart",
    "cart", "cart-7d9f8c6b5-xkzqv", "node-7.corp.example", "node-7", "registry.corp.example/shop/cart:1.2", "ledger",
    "other-api", "10.0.0.7", "１０．０．０．７", "10.0.0.7:5432", "fe80::1", "2001:db8::7", "db.internal",
    "https://wiki.corp.example/x?y=1", "www.corp.example", "anna@corp.example", "/srv/data/ledger.db",
    "ghp_abcdefghijklmnopqrstuvwxyz0123456789", "AKIAIOSFODNN7EXAMPLE", "eyJhbGciOiJIUzI1.eyJzdWIiOiIxMjM0",
    "hunter2hunter2", "5f0c9ad2-8a51-4bb3-9d10-3f1c6f1f9a11", "sha256:0123456789abcdef", "ab12cd34ef",
    "AbCdEfGhIjKlMnOp", "13800138000", "pаyroll",
]  # fmt: skip


@pytest.mark.parametrize("secret", SECRETS)
def test_a_canary_does_not_leave(secret: str) -> None:
    sent = leaving(f"liveness probe failed {secret} after start", PRIVATE)
    assert sent == "liveness probe failed after start"


@pytest.mark.parametrize(
    "question",
    [
        "FATAL remaining connection slots are reserved for superuser connections",
        "java.lang.OutOfMemoryError GC overhead limit exceeded",
        "CrashLoopBackOff exit code 137 OOMKilled",
        "redis connection_refused read-only replica",
        "kube-proxy iptables v1.29",
        "数据库连接数耗尽",
        "panic nil pointer dereference golang",
    ],
)
def test_the_words_of_an_error_leave(question: str) -> None:
    assert leaving(question, PRIVATE) == question


def test_values_of_secrets_do_not_leave() -> None:
    sent = leaving("login failed password=correcthorsebattery Authorization: Bearer abcdefghijkl", PRIVATE)
    assert "correcthorse" not in sent and "abcdefghijkl" not in sent


@pytest.mark.parametrize(
    "question", ["!!g redis crash", "!wp redis crash", ":en redis crash", "redis crash <9", "-redis +crash"]
)
def test_no_operator_of_a_search_engine_leaves(question: str) -> None:
    sent = leaving(question, set())
    assert not set(sent) & set("!:<>-+\"'()|*?&=%@/\\")
    assert "redis" in sent


def test_long_questions_are_cut_at_a_word() -> None:
    sent = leaving(" ".join(f"{'abcdefghij'[at % 10] * 9}{'abc'[at % 3]}" for at in range(300)), set())
    assert 0 < len(sent) <= MAX_CHARS and not sent.endswith(" ")


@given(st.text(max_size=300))
def test_whatever_is_asked_names_nothing(question: str) -> None:
    sent = leaving(f"{question} payroll", PRIVATE)
    assert len(sent) <= MAX_CHARS
    assert not set(sent.split()) & {"payroll", "shop", "cart", "ledger"}
    assert all(c.isascii() or "\u4e00" <= c <= "\u9fff" for c in sent)
