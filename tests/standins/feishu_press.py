"""Button presses of the Feishu stand-in: the event, its encryption and signature, and how a client takes the answer.

The sealing is written against the documentation, independently of `tools.feishu.crypto`.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from tests.standins.feishu_schema import CardRefused, check_card

if TYPE_CHECKING:
    from tests.standins.feishu import FeishuStandIn

ANSWER_SECONDS = 3.0
"""How long Feishu waits for the answer to a press."""
NO_URL, TIMEOUT, NO_CONNECTION, NOT_200, BAD_BODY, BAD_CARD = 200340, 200341, 200342, 200671, 200672, 200673
_TOASTS = {"info", "success", "error", "warning"}


@dataclass
class Sent:
    """One push, byte for byte."""

    headers: dict[str, str]
    body: bytes
    callback_token: str


def build_event(
    feishu: FeishuStandIn,
    *,
    message_id: str,
    chat_id: str,
    open_id: str,
    tenant_key: str,
    value: dict[str, Any],
    variant: str,
) -> dict[str, Any]:
    token = f"c-{secrets.token_hex(16)}"
    feishu.callback_tokens[token] = (message_id, 0.0, 0)  # of no use before the callback is answered
    return {
        "schema": "2.0",
        "header": {
            "event_id": secrets.token_hex(16),
            "token": "wrong" if variant == "wrong_token" else feishu.verification_token,
            "create_time": str(int(feishu.clock() * 1_000_000)),
            "event_type": "card.action.trigger",
            "tenant_key": tenant_key,
            "app_id": "cli_other" if variant == "other_app" else feishu.app_id,
        },
        "event": {
            "operator": {
                "tenant_key": tenant_key,
                "user_id": "867",
                "open_id": open_id,
                "union_id": "on_1",
            },
            "token": token,
            "action": {"value": value, "tag": "button", "timezone": "Asia/Shanghai"},
            "host": "im_message",
            "context": {"open_message_id": message_id, "open_chat_id": chat_id},
        },
    }


def seal(feishu: FeishuStandIn, event: dict[str, Any], variant: str) -> Sent:
    if variant == "giant":
        event = event | {"padding": "x" * 300_000}
    plaintext = json.dumps(event).encode()
    body = plaintext
    if variant != "plain":
        body = json.dumps({"encrypt": _encrypt(plaintext, feishu.encrypt_key)}).encode()
    age = 301 if variant == "stale" else 0
    timestamp, nonce = str(int(feishu.clock()) - age), secrets.token_hex(8)
    signed = timestamp.encode() + nonce.encode() + feishu.encrypt_key.encode() + body
    signature = hashlib.sha256(signed).hexdigest()
    if variant == "bad_signature":
        signature = hashlib.sha256(signed + b"!").hexdigest()
    if variant == "tampered":
        body = body[:40] + (b"A" if body[40:41] != b"A" else b"B") + body[41:]
    headers = {"Content-Type": "application/json"}
    if variant != "unsigned":
        headers |= {
            "X-Lark-Request-Timestamp": timestamp,
            "X-Lark-Request-Nonce": nonce,
            "X-Lark-Signature": signature,
        }
    return Sent(headers, body, event.get("event", {}).get("token", ""))


async def deliver(callback_url: str | None, sent: Sent, seconds: float) -> tuple[int, int | None, Any]:
    """Client code, HTTP status and JSON of the answer, as Feishu's client would judge it."""
    if callback_url is None:
        return NO_URL, None, None
    async with httpx.AsyncClient(timeout=seconds, trust_env=False, verify=False) as client:
        try:
            response = await client.post(callback_url, content=sent.body, headers=sent.headers)
        except httpx.TimeoutException:
            return TIMEOUT, None, None
        except httpx.TransportError:
            return NO_CONNECTION, None, None
    try:
        reply = response.json()
    except ValueError:
        reply = None
    if response.status_code != 200:
        return NOT_200, response.status_code, reply
    return _judge(reply), 200, reply


def _judge(reply: Any) -> int:
    if not isinstance(reply, dict) or set(reply) - {"toast", "card"}:
        return BAD_BODY
    toast = reply.get("toast", {})
    if not isinstance(toast, dict) or set(toast) - {"type", "content", "i18n"}:
        return BAD_BODY
    if toast and (toast.get("type", "info") not in _TOASTS or not isinstance(toast.get("content"), str)):
        return BAD_BODY
    if "card" in reply:
        card = reply["card"]
        if not isinstance(card, dict) or card.get("type") != "raw" or set(card) != {"type", "data"}:
            return BAD_CARD
        try:
            check_card(card["data"])
        except CardRefused:
            return BAD_CARD
        if len(json.dumps(card["data"], ensure_ascii=False).encode()) > 30 * 1024:
            return BAD_CARD
    return 0


def _encrypt(plaintext: bytes, key: str) -> str:
    iv = os.urandom(16)
    pad = 16 - len(plaintext) % 16
    cipher = Cipher(algorithms.AES(hashlib.sha256(key.encode()).digest()), modes.CBC(iv)).encryptor()
    data = cipher.update(plaintext + bytes([pad]) * pad) + cipher.finalize()
    return base64.b64encode(iv + data).decode()
