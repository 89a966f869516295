"""Markdown as passages: headings, line numbers, front matter, and files that are not what they should be."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tools.runbooks.passages import Scope, parse

RUNBOOK = """\
---
title: Memory
applies_to: [oom_killed]
namespace: shop-*
---
Read this first.

# Memory

## When it is killed ##
Look at the graph.

```sh
# no heading
kubectl top pods
```

Rare cases
----------
Ask Ann.
"""


def test_headings_lines_and_scope() -> None:
    parsed = parse(RUNBOOK)
    assert [(item.trail, item.first, item.last) for item in parsed.passages] == [
        ((), 6, 6),
        (("Memory", "When it is killed"), 10, 16),
        (("Memory", "Rare cases"), 18, 20),
    ]
    lines = RUNBOOK.splitlines()
    for item in parsed.passages:
        assert item.text == "\n".join(lines[item.first - 1 : item.last])
    assert parsed.scope == Scope(applies_to=("oom_killed",), namespace=("shop-*",))
    assert parsed.problems == ()


def test_a_long_section_is_cut_at_empty_lines_and_keeps_its_lines() -> None:
    text = "# Long\n\n" + "\n\n".join(f"Paragraph {number} " + "word" * 60 for number in range(40))
    parsed = parse(text)
    assert len(parsed.passages) > 3
    assert all(item.trail == ("Long",) and len(item.text) < 4000 for item in parsed.passages)
    assert "".join(item.text.replace("\n", "") for item in parsed.passages) == text.replace("\n", "")
    assert [item.first for item in parsed.passages[1:]] == [item.last + 2 for item in parsed.passages[:-1]]


def test_secrets_are_masked_and_lines_stay() -> None:
    key = "-----BEGIN RSA PRIVATE KEY-----\nabc\ndef\n-----END RSA PRIVATE KEY-----"
    parsed = parse(f"# Keys\npassword=hunter2hunter2\n{key}\n\n# Next\nhere")
    text = "\n".join(item.text for item in parsed.passages)
    assert "hunter2" not in text and "abc" not in text
    assert parsed.passages[1].first == 8


def test_a_key_longer_than_a_passage_is_masked_whole() -> None:
    body = "\n".join("Ab1" * 21 for _ in range(80))
    parsed = parse(f"# Keys\n-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\nafter")
    assert "Ab1" not in "".join(item.text for item in parsed.passages)
    assert parsed.passages[-1].last == 84


@pytest.mark.parametrize(
    ("front", "problem"),
    [
        ("applies_to: [oomkiled]", "no class of causes"),
        ("applies_to: 5", "no list"),
        ("kind: [{a: b}]", "no list"),
        ("owner: [" + "a, " * 30 + "a]", "no list"),
        ("- a\n- b", "no mapping"),
        ("a: [", "no YAML"),
        ("a: &a [x, x]\nb: *a", "no YAML"),
        ("[" * 3000, "no YAML"),
        ("a: !!python/object/apply:os.system [id]", "no YAML"),
        ("a: 2026-99-99", "no YAML"),
    ],
)
def test_front_matter_that_cannot_be_used_costs_nothing_else(front: str, problem: str) -> None:
    parsed = parse(f"---\n{front}\n---\n# Here\nWords.")
    assert problem in parsed.problems[0]
    assert parsed.passages[0].text == "# Here\nWords."


def test_what_is_no_front_matter_is_text() -> None:
    assert parse("---\nnever closed").passages[0].text == "---\nnever closed"
    assert parse("---\n---\nWords").passages[0].first == 3
    assert parse("").passages == ()


@given(st.text(alphabet=st.sampled_from("#-=`~ \n\r\tab中---\x00\u2028"), max_size=400))
def test_any_text_is_quoted_as_it_stands(text: str) -> None:
    lines = text.replace("\r\n", "\n").split("\n")
    last = 0
    for item in parse(text).passages:
        assert item.first > last and item.last >= item.first
        assert item.text == "\n".join(lines[item.first - 1 : item.last])
        last = item.last
