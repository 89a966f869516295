"""What can go wrong with Feishu, and which of it is worth another try."""

from __future__ import annotations

from errors import ToolFailed

TOKEN_CODES = frozenset({99991661, 99991663, 99991664, 99991668, 99991671, 99991677})
"""The tenant access token is missing, invalid or expired: fetch a new one."""
GONE_CODES = frozenset({230011, 230031})
"""The message was recalled or is older than 14 days: it can no longer be updated."""

_FINAL_CODES = {
    230001: "a parameter is wrong",
    230002: "the bot is not in the chat",
    230006: "the bot is not enabled for the app",
    230011: "the message was recalled",
    230025: "the message is too long",
    230027: "the app lacks a permission",
    230028: "the content was refused by the tenant's data-loss rules",
    230031: "the message is older than 14 days",
    230099: "the card was refused",
    9499: "the request is malformed",
    19021: "the signature or its time is wrong: check feishu.webhook_secret and the clock",
    19022: "this address is not on the bot's IP list",
    19024: "the bot demands a keyword that the message lacks",
}


class FeishuError(ToolFailed):
    """Feishu refused a request or was not there.

    `code` is the vendor's error code (0 when there was no answer), `retryable` whether the same request may succeed
    later, `retry_after` the seconds that the vendor asked to wait.
    """

    title = "Feishu failed"

    def __init__(self, message: str, *, code: int = 0, retryable: bool, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.retryable = retryable
        self.retry_after = retry_after


def refused(what: str, code: int, message: str, *, retry_after: float | None = None) -> FeishuError:
    """The error for a vendor code. Codes that are not known to be final may pass: they are retried."""
    meaning = _FINAL_CODES.get(code)
    detail = f": {meaning}" if meaning else ""
    return FeishuError(
        f"Feishu refused {what} with code {code}{detail} ({message[:300]})",
        code=code,
        retryable=meaning is None,
        retry_after=retry_after,
    )
