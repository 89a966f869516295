"""Cards: what they hold, that they fit, and that nothing from outside breaks out of them."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from incidents.models import CauseClass, Diagnosis, DiagnosisStatus, IncidentStatus, ObjectRef
from incidents.plan import ApprovalState, Vote
from tests.feishu_samples import DIFF, NOW, approval, diagnosis, hypothesis, incident, proposal
from tests.standins.feishu_schema import buttons_of, check_card, elements_of, is_private, visible_text
from tools.feishu.approval_card import approval_card
from tools.feishu.cards import MAX_CARD_BYTES
from tools.feishu.client import card_json
from tools.feishu.diagnosis_card import diagnosis_card, notice_card, result_card
from tools.feishu.markup import clean, escape, inline
from tools.feishu.texts import LANGUAGES, TEXTS, Language, text

ATTACKS = [
    "<at id=all></at>",
    "<at user_id='ou_1'>boss</at>",
    "[Approve here](https://evil.example/approve)",
    "![pixel](img_v2_x)",
    "**Approved by security**",
    "`rm -rf`",
    "```\ncode\n```",
    "~~gone~~ _it_ ***x***",
    "<font color='green'>safe</font>",
    "<a href='https://evil.example'>x</a>",
    "# Title\n## Title\n---\n> quote\n- item\n1. item\n| a | b |\n|---|---|",
    "&lt;at id=all&gt; &#60;at id=all&#62;",
    "https://evil.example/approve www.evil.example",
    ":OK: :DONE:",
    "$urlVal",
    "call 13912345678 or +86 139-1234-5678, write to boss@corp.example",
    "a\u202egnp.exe\u200b\u2066\x00\x1b[31m\r\nb\u2028c\ud800",
    "password=hunter2secret Authorization: Bearer abcdefghijklmnop",
]
# what Feishu's renderer would act on, in the raw markdown that is sent
ACTIVE = [
    re.compile(r"<"),
    re.compile(r">"),
    re.compile(r"\]\("),
    re.compile(r"!\["),
    re.compile(r"\w://"),
    re.compile(r"www\."),
    re.compile(r"@"),
    re.compile(r"\$"),
    re.compile(r"~"),
    re.compile(r"(?m)^\s*(?:#|>|\||\d+\.|---)"),
]
Build = Callable[[str, Language], dict[str, Any]]


def of_diagnosis(hostile: str, language: Language) -> dict[str, Any]:
    target = ObjectRef(kind="Deployment", namespace="shop", name=hostile, container=hostile)
    return diagnosis_card(
        incident(target=target, event=hostile), diagnosis(hostile), [proposal(hostile)], language=language
    )


def of_request(hostile: str, language: Language) -> dict[str, Any]:
    vote = Vote(identity=hostile, verdict="approve", digest="d", channel=hostile, reason=hostile, at=NOW)
    return approval_card(approval(text=hostile, diff=DIFF + hostile, votes=[vote]), language=language)


def of_outcome(hostile: str, language: Language) -> dict[str, Any]:
    ended = approval(ApprovalState.FAILED, text=hostile, diff=hostile, outcome=hostile)
    return approval_card(ended, incident=incident(summary=hostile), language=language)


def of_result(hostile: str, language: Language) -> dict[str, Any]:
    return result_card(incident(status=IncidentStatus.FAILED, summary=hostile), language=language)


def of_notice(hostile: str, language: Language) -> dict[str, Any]:
    return notice_card(hostile, hostile, hostile, language=language)


BUILDERS: list[Build] = [of_diagnosis, of_request, of_outcome, of_result, of_notice]


def markdowns(card: dict[str, Any]) -> Iterator[str]:
    return (element["content"] for element in elements_of(card) if element["tag"] == "markdown")


def structure(card: dict[str, Any]) -> tuple[int, ...]:
    """Counts of the marks that our own texts use: outside text must not change them."""
    joined = re.sub(r"`(?:paramedic|GET) [^`]*`", "", "\n".join(markdowns(card)))  # where the whole is, when cut
    return joined.count("**"), joined.count("*"), joined.count("`"), joined.count("[") + joined.count("]")


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("build", BUILDERS)
@pytest.mark.parametrize("hostile", ATTACKS)
def test_hostile_text_stays_text(hostile: str, build: Build, language: Language) -> None:
    card = build(hostile, language)
    check_card(card)
    for content in markdowns(card):
        found = [pattern.pattern for pattern in ACTIVE if pattern.search(content)]
        assert not found, content
        assert not re.search(r"://|www\.", html.unescape(content)), content  # clients link bare addresses
    assert structure(card) == structure(build("harmless", language))
    assert not re.search(r"<|>", card_json(card))  # also not in titles, where they would mean nothing
    assert not is_private(card)
    assert "hunter2secret" not in card_json(card)
    assert not re.search("[\u202a-\u202e\u2066-\u2069\x00-\x08\x1b\ud800-\udfff]", card_json(card))


@settings(max_examples=40, deadline=None)
@given(hostile=st.text(alphabet=st.sampled_from("<>at id=*_`~[]()!#|\\&;:/@$-+.\n\t1あ\u202e\ud800"), max_size=60))
def test_no_text_changes_the_cards_structure(hostile: str) -> None:
    for build in BUILDERS:
        card = build(f"x{hostile}", "en")
        check_card(card)
        card_json(card).encode()
        assert structure(card) == structure(build("harmless", "en"))
        assert not re.search("[<>@$~]", "".join(markdowns(card)))


@pytest.mark.parametrize("build", BUILDERS)
@pytest.mark.parametrize("filling", ["x" * 100, "**<at id=all>`[](" * 10, "空指针解引用" * 20])
def test_any_amount_of_text_fits(build: Build, filling: str) -> None:
    card = build("\n".join([filling] * 3000), "zh")
    check_card(card)
    assert len(card_json(card).encode()) <= MAX_CARD_BYTES


def test_a_webhooks_smaller_limit_is_kept() -> None:
    card = approval_card(approval(diff="+ <at>\n" * 5000), language="en", buttons=False, max_bytes=10_000)
    assert len(card_json(card).encode()) <= 10_000


def test_the_request_shows_what_is_decided_on() -> None:
    asked = approval(core=True)
    card = approval_card(asked, language="en")
    seen = visible_text(card)
    for part in (
        "Change the liveness probe of api",
        "patch Deployment shop/api",
        "port: 9999",
        "port: 8080",
        asked.digest[:16],
        "medium",
        "2 pod(s)",
        "1 inverse write(s)",
        "2025-11-21 10:15:00 UTC",
        "captured, sha256 cccccccccccccccc",
        "0 of 1",
        "api:alerts",
    ):
        assert part in seen.replace("\u00a0", " "), part
    assert list(buttons_of(card)) == ["approve", "reject"]


def test_the_diff_keeps_its_indentation_and_marks() -> None:
    seen = visible_text(approval_card(approval(), language="en")).replace("\u00a0", " ")
    assert " livenessProbe:\n   httpGet:\n-    port: 9999\n+    port: 8080" in seen


def test_a_cut_or_masked_diff_says_so() -> None:
    asked = approval(diff="+ a\n" * 4000 + "+ password: hunter2secret\n")
    seen = visible_text(approval_card(asked, language="en"))
    assert re.search(r"… \d+ of 4002 lines shown: `paramedic approvals apr_", seen)
    asked = approval(diff="+ password: hunter2secret\n")
    assert "Parts are masked here" in visible_text(approval_card(asked, language="en"))
    assert "masked" not in visible_text(approval_card(approval(), language="en"))


def test_buttons_carry_no_authority() -> None:
    asked = approval(core=False)
    buttons = buttons_of(approval_card(asked, language="en"))
    assert list(buttons) == ["approve", "approve_waive", "reject"]
    values = {name: button["behaviors"][0]["value"] for name, button in buttons.items()}
    base = {"v": 1, "approval_id": asked.id, "digest": asked.digest}
    assert values == {
        "approve": base | {"verdict": "approve", "waive": False},
        "approve_waive": base | {"verdict": "approve", "waive": True},
        "reject": base | {"verdict": "reject", "waive": False},
    }
    assert "confirm" in buttons["approve_waive"]
    assert asked.nonce not in card_json(approval_card(asked, language="en"))


def test_without_callbacks_the_card_says_how_to_decide() -> None:
    asked = approval()
    card = approval_card(asked, language="en", buttons=False)
    assert not buttons_of(card)
    assert f"paramedic approve {asked.id}" in visible_text(card)


def test_the_missing_core_is_named() -> None:
    assert "missing" in visible_text(approval_card(approval(core=False), language="en"))
    assert "not needed" in visible_text(approval_card(approval(), language="en"))


def test_an_irreversible_plan_says_so() -> None:
    asked = approval()
    plan = asked.plan.model_copy(update={"reversible": False, "inverse": []})
    card = approval_card(asked.model_copy(update={"plan": plan}), language="en")
    assert "not possible" in visible_text(card)


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("state", [state for state in ApprovalState if state.decided])
def test_every_state_has_a_card_without_decisions(state: ApprovalState, language: Language) -> None:
    vote = Vote(identity="feishu:t/ou_1", verdict="approve", digest="d", channel="feishu", at=NOW)
    card = approval_card(approval(state, votes=[vote], outcome="it went so"), language=language)
    check_card(card)
    assert not buttons_of(card)
    assert "feishu:t/ou_1" in visible_text(card)


def test_an_escalated_incident_is_red_whatever_the_approval_says() -> None:
    ended = approval(ApprovalState.UNDONE)
    card = approval_card(ended, incident=incident(status=IncidentStatus.ESCALATED), language="en")
    assert card["header"]["template"] == "red"


@pytest.mark.parametrize("status", list(DiagnosisStatus))
@pytest.mark.parametrize("language", LANGUAGES)
def test_every_status_of_a_diagnosis_has_a_card(status: DiagnosisStatus, language: Language) -> None:
    check_card(diagnosis_card(incident(), Diagnosis(status=status), [], language=language))


def test_a_diagnosis_tells_cause_stack_and_evidence() -> None:
    found = diagnosis()
    seen = visible_text(diagnosis_card(incident(), found, [proposal()], language="en", link="https://p.example/i"))
    for part in ("wrong liveness probe", "95%", "SIGSEGV", "src/server.cpp:42", found.evidence[0].id, "For the owners"):
        assert part in seen, part
    assert "**Seen before**" in seen and "held 17 days" in seen


@pytest.mark.parametrize(
    ("language", "words"),
    [("en", ("confirmed", "refuted", "bad image reference")), ("zh", ("已证实", "已否定", "模型检验的假设"))],
)
def test_what_the_evidence_decided_of_a_models_hypotheses_is_told(language: Language, words: tuple[str, ...]) -> None:
    """At most three, those that are borne out first, each with its evidence; open ones are nobody's news."""
    given = [
        *(hypothesis("undecided", f"open {n}", ["ev_open"]) for n in range(2)),
        *(hypothesis("refuted", f"refuted {n}", [f"ev_{n}"]) for n in range(4)),
        hypothesis("confirmed", "the tag is gone", ["ev_8"]),
    ]
    seen = visible_text(diagnosis_card(incident(), diagnosis(hypotheses=given), [], language=language))
    told = [part for part in ("the tag is gone", "refuted 0", "refuted 1", "refuted 2", "open 0") if part in seen]
    assert told == ["the tag is gone", "refuted 0", "refuted 1"]
    assert seen.index("the tag is gone") < seen.index("refuted 0")
    assert "ev_8" in seen and "ev_open" not in seen
    assert [word for word in words if word not in seen] == []
    without = visible_text(diagnosis_card(incident(), diagnosis(hypotheses=given[:2]), [], language=language))
    assert text(language, "label.hypotheses") not in without


def test_the_link_is_the_only_one() -> None:
    card = diagnosis_card(incident(), diagnosis(), [], language="en", link="https://p.example/i")
    assert buttons_of(card)["open"]["behaviors"] == [{"type": "open_url", "default_url": "https://p.example/i"}]


def test_chinese_cards_are_chinese() -> None:
    asked = approval(core=False)
    seen = visible_text(approval_card(asked, language="zh"))
    for part in ("需要审批", "批准", "拒绝", "放弃核心转储并批准", "有效期至", "影响范围", "撤销"):
        assert part in seen, part
    assert "空指针解引用" in text("zh", f"cause.{CauseClass.NULL_DEREFERENCE.value}")


def test_both_languages_have_every_text_with_the_same_values() -> None:
    for key, (english, chinese) in TEXTS.items():
        assert english and chinese, key
        assert english != chinese, key
        assert re.findall(r"{(\w+)}", english) == sorted(re.findall(r"{(\w+)}", english), key=english.index)
        assert set(re.findall(r"{(\w+)}", english)) == set(re.findall(r"{(\w+)}", chinese)), key
        assert re.search(r"[一-鿿]", chinese) or "{" in chinese, key


@pytest.mark.parametrize(
    ("prefix", "values"),
    [
        ("cause", list(CauseClass)),
        ("state", list(ApprovalState)),
        ("incident", list(IncidentStatus)),
        ("title", list(DiagnosisStatus)),
    ],
)
def test_every_value_of_the_vocabulary_has_a_text(prefix: str, values: list[Any]) -> None:
    assert not [value for value in values if f"{prefix}.{value.value}" not in TEXTS]


def test_contacts_are_masked_but_ordinary_numbers_are_not() -> None:
    assert clean("ring 13912345678 now", 100).text == "ring 139****5678 now"
    assert "@" not in clean("mail a.b@corp.example", 100).text
    for harmless in ("memory: 512Mi", "port: 8080", "1700000000", "10.96.0.1:443", "v1.20.2", "sha256:1234567890ab"):
        assert clean(harmless, 100).text == harmless


def test_a_secret_at_a_cut_is_masked_whole() -> None:
    content = "x" * 80 + "\npassword=hunter2secret"
    assert "hunter" not in clean(content, 95).text
    for length in range(4096 + 150, 4096 + 250):  # where the text is no longer looked at
        hidden = clean("password=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa " * 80 + "\n" + "y" * (length - 4096), 100)
        assert "a" not in hidden.text.replace("password", "").replace("[redacted]", "")
    assert "AKIA" not in clean("p\n" * 2050 + " " * 180 + "AKIAABCDEFGHIJKLMNOP", 100).text


def test_escaping_shows_the_same_text() -> None:
    for attack in ATTACKS[:15]:
        assert html.unescape(escape(attack)).replace("\u200b", "") == attack
    assert inline("a\n\n b\t c") == "a b c"


def test_expiry_is_shown_in_utc() -> None:
    asked = approval().model_copy(update={"expires_at": NOW + timedelta(days=1)})
    assert "2025-11-22 10:00:00 UTC" in visible_text(approval_card(asked, language="en"))


@pytest.mark.parametrize(("language", "label"), [("en", "Began"), ("zh", "起始")])
def test_one_line_says_what_changed_right_before(language: Language, label: str) -> None:
    shown = "\n".join(markdowns(of_diagnosis("image v1", language)))
    assert f"**{label}** First seen 0 s after this&#58; rolled out&#58; image v1" in shown
    assert "ended&#58; image v1" not in shown, "the rest of the timeline is for the page"
