"""What goes wrong with a store, as errors of our own tree. Nothing of a server's answer but its error code is shown."""

from __future__ import annotations

import re

from errors import InputTooLarge, NotFound, ParamedicError, ToolFailed

_CODE = re.compile(r"<Code>([A-Za-z0-9.]{1,80})</Code>")
_STATUS = re.compile(r"status code: (\d{3})")
_DAMAGED = {"BadDigest", "XAmzContentSHA256Mismatch", "InvalidDigest", "IncompleteBody", "XAmzContentChecksumMismatch"}
_DENIED = {
    "AccessDenied",
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "InvalidToken",
    "ExpiredToken",
    "AuthorizationHeaderMalformed",
    "XAdminUserNotFound",  # of versitygw, for an unknown access key
}
_BUSY = {"SlowDown", "ServiceUnavailable", "InternalError", "RequestTimeout", "TooManyRequests"}


class StoreUnreachable(ToolFailed):
    """No answer, or one that asks to come later: worth another attempt."""

    title = "The object store cannot be reached"
    status = 503


class StoreDenied(ToolFailed):
    """The store does not accept our credentials, or the clocks differ."""

    title = "The object store refused"


class Damaged(ToolFailed):
    """What arrived is not what was sent."""

    title = "Stored bytes differ"


class UploadGone(ToolFailed):
    """The store no longer knows this multi-part upload."""


def failure(what: str, *, status: int | None = None, body: str = "") -> ParamedicError:
    """The error for an answer of the store to `what` (such as «storing KEY»). `body` may be XML or a client's text."""
    found = _CODE.search(body)
    code = found[1] if found else ""
    if status is None and (said := _STATUS.search(body)):
        status = int(said[1])
    said_code = code or (f"HTTP {status}" if status else "no HTTP answer")
    if code == "NoSuchBucket":
        return NotFound(f"{what}: the bucket does not exist (store.url)")
    if code == "NoSuchUpload" or code == "InvalidPart":
        return UploadGone(f"{what}: the store no longer has this upload ({code})")
    if code in {"RequestTimeTooSkewed", "RequestExpired"}:
        return StoreDenied(f"{what}: this machine's clock differs too much from the store's ({code}): set it right")
    if code in _DAMAGED:
        return Damaged(f"{what}: the bytes were changed on their way ({code})")
    if code == "EntityTooLarge":
        return InputTooLarge(f"{what}: the store accepts no object of this size")
    if code in _DENIED or status in (401, 403):
        return StoreDenied(f"{what}: the store refused ({said_code}); look at the keys and what they may")
    if code in _BUSY or (status is not None and (status >= 500 or status in (408, 429))):
        return StoreUnreachable(f"{what}: the store asks to come later ({said_code})")
    if code == "NoSuchKey" or (not code and status == 404):
        return NotFound(f"{what}: there is no such object")
    if status is None:
        return StoreUnreachable(f"{what}: the store cannot be reached; look at store.endpoint and its certificate")
    return ToolFailed(f"{what}: the store answered {said_code}")
