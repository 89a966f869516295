"""Button presses: from the raw bytes of a callback to a decision and the answer that Feishu shows.

Order: signature, decryption, age, token, shape; then replay; then the decision. Everything before the decision fails
with one and the same `Rejected`. After it nothing fails: the person who pressed reads in a toast what happened.
Source: open.feishu.cn, "Card callback communication" (`card.action.trigger`), "Configure Encrypt Key".
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import structlog

from errors import Conflict, Forbidden, NotFound, ParamedicError, Refused, ToolMissing
from incidents.database import utcnow
from incidents.plan import Approval, ApprovalState
from settings import FeishuSettings
from tools.feishu.approval_card import approval_card
from tools.feishu.crypto import decrypt, event_signature, same
from tools.feishu.markup import plain
from tools.feishu.texts import text

MAX_SKEW_SECONDS = 300.0
"""Feishu documents no maximum age of a push; this window is ours."""
DECIDE_SECONDS = 2.0
"""Feishu waits 3 s for the whole answer. A decision that takes longer goes on and is shown on the card later."""

_EVENT_TYPE = "card.action.trigger"
_IDENTIFIER = re.compile(r"[A-Za-z0-9_-]{1,128}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_SECONDS = re.compile(r"[0-9]{1,12}")
_LONGEST_CHALLENGE = 1024

log = structlog.get_logger(__name__)
_late: set[asyncio.Task[Approval | None]] = set()


class Rejected(Forbidden):
    """The callback is not a genuine, fresh push of our app. The text is the same for every cause.

    `why` is for the log; telling the sender would help an attacker (a padding oracle, for one).
    """

    title = "Callback rejected"

    def __init__(self, why: str) -> None:
        super().__init__("callback rejected")
        self.why = why


@dataclass(frozen=True)
class CallbackKeys:
    encrypt_key: str
    verification_token: str


@dataclass(frozen=True)
class Press:
    """One press of one button by one person."""

    event_id: str
    identity: str
    value: Any


def callback_keys(settings: FeishuSettings) -> CallbackKeys:
    """The keys of the callback endpoint.

    Raises ToolMissing unless both are set: without an Encrypt Key Feishu signs nothing at all.
    """
    keys = {"encrypt_key": settings.encrypt_key, "verification_token": settings.verification_token}
    values = {name: secret.get_secret_value() if secret else "" for name, secret in keys.items()}
    missing = [f"feishu.{name}" for name, value in values.items() if not value]
    if missing:
        raise ToolMissing(f"Feishu callbacks are off: {' and '.join(missing)} must be set")
    return CallbackKeys(**values)


def callbacks_enabled(settings: FeishuSettings) -> bool:
    """Whether presses can reach us; cards get buttons only then."""
    try:
        callback_keys(settings)
    except ToolMissing:
        return False
    return True


def open_callback(headers: Mapping[str, str], raw_body: bytes, *, keys: CallbackKeys, now: datetime) -> dict[str, Any]:
    """The decoded body of one push: signed, fresh, with our token; or an unsigned URL verification with our token.

    Raises Rejected for anything else.
    """
    lower = {name.lower(): value for name, value in headers.items()}
    timestamp, nonce, signature = (
        lower.get(f"x-lark-{name}", "") for name in ("request-timestamp", "request-nonce", "signature")
    )
    if signature and not same(event_signature(timestamp, nonce, keys.encrypt_key, raw_body), signature):
        raise Rejected("bad signature")  # before any decryption
    try:
        body = json.loads(decrypt(json.loads(raw_body)["encrypt"], keys.encrypt_key))
        verification = body.get("type") == "url_verification"
        token = body["token"] if verification else body["header"]["token"]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Rejected("undecodable") from error
    if not verification:  # Feishu does not sign the challenge
        if not signature:
            raise Rejected("unsigned")
        if not _SECONDS.fullmatch(timestamp) or abs(now.timestamp() - int(timestamp)) > MAX_SKEW_SECONDS:
            raise Rejected("stale")
    if not isinstance(token, str) or not same(token, keys.verification_token):
        raise Rejected("bad verification token")
    return dict(body)


async def handle_callback(
    headers: Mapping[str, str],
    raw_body: bytes,
    *,
    settings: FeishuSettings,
    decide: Callable[..., Awaitable[Approval]],
    seen: Callable[[str], Awaitable[bool]],
    now: Callable[[], datetime] = utcnow,
    lookup: Callable[[str], Awaitable[Approval]] | None = None,
) -> dict[str, Any]:
    """Answer one push within Feishu's 3 s; the JSON to send back with status 200.

    `decide` has the signature of `Gate.decide`; the caller resumes the work. `seen` records an event id and says
    whether it was there before. `lookup` finds an approval, to show its card when a press comes too late.
    Raises Rejected (one status and text for every cause), and ToolMissing when callbacks are not configured.
    """
    body = open_callback(headers, raw_body, keys=callback_keys(settings), now=now())
    if body.get("type") == "url_verification":
        challenge = body.get("challenge")
        if not isinstance(challenge, str) or len(challenge) > _LONGEST_CHALLENGE:
            raise Rejected("no challenge")
        return {"challenge": challenge}
    press = _press(body, settings)
    if press is None:
        return {}
    arguments = _button(press.value)
    if arguments is None:
        return _toast(settings, "warning", "toast.unknown_button")
    return await _decide(press, arguments, settings, decide, seen, lookup)


async def _decide(
    press: Press,
    arguments: dict[str, Any],
    settings: FeishuSettings,
    decide: Callable[..., Awaitable[Approval]],
    seen: Callable[[str], Awaitable[bool]],
    lookup: Callable[[str], Awaitable[Approval]] | None,
) -> dict[str, Any]:
    async def decision() -> Approval | None:
        if await seen(press.event_id):
            return None
        return await decide(**arguments, identity=press.identity, channel="feishu", reason=None)

    # a task of its own: neither Feishu hanging up nor our own haste may cut a decision in two
    task = asyncio.create_task(decision())
    done, _ = await asyncio.wait({task}, timeout=DECIDE_SECONDS)
    if not done:
        _late.add(task)
        task.add_done_callback(_finish_late)
        return _toast(settings, "info", "toast.slow")
    try:
        approval = task.result()
    except ParamedicError as error:
        return await _refusal(error, arguments["approval_id"], settings, lookup)
    except Exception:  # no database, no decision
        log.exception("a decision failed", approval_id=arguments["approval_id"])
        return _toast(settings, "error", "toast.failed")
    if approval is None:
        return _toast(settings, "info", "toast.duplicate")
    return _decided(approval, arguments["verdict"], settings)


def _decided(approval: Approval, verdict: str, settings: FeishuSettings) -> dict[str, Any]:
    if approval.state is ApprovalState.REJECTED and verdict == "reject":
        answer = _toast(settings, "success", "toast.rejected")
    elif approval.state is ApprovalState.PENDING:
        given = sum(vote.verdict == "approve" for vote in approval.votes)
        answer = _toast(settings, "success", "toast.recorded", given=given, needed=approval.quorum)
    elif verdict == "approve" and approval.state in (
        ApprovalState.APPROVED,
        ApprovalState.CLAIMED,
        ApprovalState.EXECUTING,
        ApprovalState.VERIFYING,
    ):
        answer = _toast(settings, "success", "toast.approved")
    else:
        answer = _late_toast(settings, approval.state)
    return answer | _card(approval, settings)


async def _refusal(
    error: ParamedicError,
    approval_id: str,
    settings: FeishuSettings,
    lookup: Callable[[str], Awaitable[Approval]] | None,
) -> dict[str, Any]:
    """The toast for an error of the gate, and the current card where the press came too late."""
    if isinstance(error, Forbidden):
        return _toast(settings, "error", "toast.forbidden", detail=str(error))
    if isinstance(error, NotFound):
        return _toast(settings, "error", "toast.not_found")
    if isinstance(error, (Conflict, Refused)):
        approval = None
        if lookup is not None:
            try:
                approval = await lookup(approval_id)
            except Exception:  # only the nicer answer is lost
                log.exception("approval not readable", approval_id=approval_id)
        if approval is not None and approval.state is not ApprovalState.PENDING:
            return _late_toast(settings, approval.state) | _card(approval, settings)
        key = "toast.conflict" if isinstance(error, Conflict) else "toast.refused"
        return _toast(settings, "warning", key, detail=str(error))
    log.error("a decision failed", approval_id=approval_id, error=type(error).__name__)
    return _toast(settings, "error", "toast.failed")


def _late_toast(settings: FeishuSettings, state: ApprovalState) -> dict[str, Any]:
    content = {name: text(lang, "toast.late", state=text(lang, f"state.{state.value}")) for name, lang in _I18N}
    return _toast_of(settings, "warning", content)


def _card(approval: Approval, settings: FeishuSettings) -> dict[str, Any]:
    return {"card": {"type": "raw", "data": approval_card(approval, language=settings.language)}}


_I18N: tuple[tuple[str, Literal["en", "zh"]], ...] = (("en_us", "en"), ("zh_cn", "zh"))


def _toast(settings: FeishuSettings, kind: str, key: str, *, detail: str = "", **values: object) -> dict[str, Any]:
    tail = f" ({plain(detail, 200)})" if detail else ""
    return _toast_of(settings, kind, {name: text(language, key, **values) + tail for name, language in _I18N})


def _toast_of(settings: FeishuSettings, kind: str, content: dict[str, str]) -> dict[str, Any]:
    own = dict(_I18N)
    default = next(content[name] for name in content if own[name] == settings.language)
    return {"toast": {"type": kind, "content": default, "i18n": content}}


def _press(body: dict[str, Any], settings: FeishuSettings) -> Press | None:
    """Who pressed what; None for another kind of event. Raises Rejected for a shape that Feishu does not send."""
    try:
        header, event_id = body["header"], body["header"]["event_id"]
        if settings.app_id and header["app_id"] != settings.app_id:
            raise Rejected("another app")
        if header["event_type"] != _EVENT_TYPE:
            return None
        operator = body["event"]["operator"]
        tenant_key, open_id = operator["tenant_key"], operator["open_id"]
        value = body["event"]["action"].get("value")
    except (KeyError, TypeError, AttributeError) as error:
        raise Rejected("an event of unknown shape") from error
    if not all(isinstance(part, str) and _IDENTIFIER.fullmatch(part) for part in (event_id, tenant_key, open_id)):
        raise Rejected("an identifier of unknown shape")
    return Press(event_id=event_id, identity=f"feishu:{tenant_key}/{open_id}", value=value)


def _button(value: Any) -> dict[str, Any] | None:
    """The arguments of the decision in a button's value, or None when it is not one of our buttons."""
    if not isinstance(value, dict) or set(value) != {"v", "approval_id", "verdict", "digest", "waive"}:
        return None
    approval_id, digest = value["approval_id"], value["digest"]
    valid = (
        value["v"] == 1
        and isinstance(approval_id, str)
        and _IDENTIFIER.fullmatch(approval_id)
        and isinstance(digest, str)
        and _DIGEST.fullmatch(digest)
        and value["verdict"] in ("approve", "reject")
        and isinstance(value["waive"], bool)
    )
    if not valid:
        return None
    return {
        "approval_id": approval_id,
        "verdict": value["verdict"],
        "digest": digest,
        "waive_evidence": value["waive"],
    }


def _finish_late(task: asyncio.Task[Approval | None]) -> None:
    _late.discard(task)
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("a late decision failed", error=f"{type(error).__name__}: {error}")
