"""Removal of secrets and of people's addresses from text that a person, a chat or a model will see.

Two layers: shapes that are secrets wherever they stand (private keys, JSON web tokens, vendors' key prefixes, passwords
in URLs), and values behind a name that says it is a secret (`password=…`, `"api_key": "…"`, `Authorization: …`).
Replacements keep the name, so that a line stays readable. Every pattern is linear in the length of the text.
"""

from __future__ import annotations

import json
import re
from typing import Any

from diagnosis.hosts_in_text import only_hosts

MASK = "[redacted]"

_PRIVATE_KEY = re.compile(
    r"-----BEGIN (?P<kind>[A-Z ]{0,30}PRIVATE KEY)-----.*?(?:-----END (?P=kind)-----|\Z)", re.DOTALL
)
_JSON_WEB_TOKEN = re.compile(r"\beyJ[\w-]{8,}\.[\w-]{8,}(?:\.[\w-]*)?")
_VENDOR_KEYS = re.compile(
    r"\b(?:(?:AKIA|ASIA)[0-9A-Z]{16}"  # AWS access key id
    r"|gh[opsur]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|glpat-[\w-]{16,}"
    r"|xox[abeoprs]-[\w-]{10,}"  # Slack
    r"|AIza[\w-]{30,}"  # Google
    r"|sk-[\w-]{16,}|[sr]k_(?:live|test)_\w{10,}"  # OpenAI and others, Stripe
    r"|LTAI[0-9A-Za-z]{12,}"  # Alibaba Cloud
    r"|npm_[0-9A-Za-z]{30,}|hvs\.[\w-]{20,})"
)
_URL_PASSWORD = re.compile(r"(?P<head>\b[a-z][a-z0-9+.-]{1,30}://[^\s/:@'\"]{0,200}):[^\s/@'\"]{1,200}@", re.IGNORECASE)
_DSN_PASSWORD = re.compile(r"(?P<head>\b[\w.-]{1,64}):[^\s:@/]{1,200}@(?=(?:tcp|unix)\()")  # Go's MySQL driver
_AUTHORIZATION = re.compile(
    r"(?P<head>\b(?:proxy-)?authorization[\"']?\s{0,3}[:=]\s{0,3}[\"']?)[^\r\n\"']{1,4000}", re.IGNORECASE
)
_SCHEME = re.compile(r"(?P<head>\bBearer )[\w.~+/=-]{6,}", re.IGNORECASE)
# the name's last word decides: `secretName`, `tokenPath` and `passwordFile` are references, no secrets
_NAMED = re.compile(
    r"(?P<head>(?:passwords?|passwd|passphrase|pwd|secrets?|tokens?|credentials?|cookie"
    r"|api[_-]?keys?|apikey|(?:access|private|secret|signing|encryption|account)[_-]?keys?|accesskeyid|sessionid"
    r"|密码|口令|密钥|令牌)"
    r"[\"']?\s{0,3}[=:：]\s{0,3})"
    r"(?P<value>\"(?:[^\"\\\r\n]|\\.){1,4000}\"|'[^'\r\n]{1,4000}'|[^\s\"'{}\[\],;&)]{1,4000})",
    re.IGNORECASE,
)
_FLAG = re.compile(
    r"(?P<head>(?:^|\s)--?(?:[\w-]{0,40}-)?(?:password|passwd|token|secret|api-?key)\s)(?P<value>[^\s-]\S{0,1000})",
    re.IGNORECASE,
)
_MAIL = re.compile(r"(?<![\w.+-])[\w.+-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2,24}\b")
_NO_SECRET = {"true", "false", "null", "none", "nil", "<nil>", "''", '""', "undefined", "<none>", "not", "is"}

_SECRET_NAME = re.compile(
    r"(?:passw(?:or)?d|passphrase|pwd|secret|token|credential|api_?key|access_?key|private_?key|signing_?key"
    r"|encryption_?key|auth|cookie|dsn)s?$",
    re.IGNORECASE,
)
_LITERAL = re.compile(r'"((?:[^"\\]|\\.){0,4000})"?', re.DOTALL)
_MEMBER = re.compile(
    r"\b(?P<name>\w{1,200})(?P<between> = (?:0x[0-9a-f]{1,16} )?(?:<[^<>\"]{1,200}> )?)" + _LITERAL.pattern, re.DOTALL
)
_DROPPED_ANNOTATIONS = ("kubectl.kubernetes.io/last-applied-configuration",)


# no pattern below can match a text without one of these: most strings of an object are done after this look
_MARKS = (
    "@", "pass", "pwd", "secret", "token", "key", "cred", "cookie", "session", "auth", "bearer", "密", "口令", "令牌",
    "eyj", "akia", "asia", "ghp_", "gho_", "ghs_", "ghu_", "ghr_", "github_pat_", "glpat-", "xox", "aiza", "sk-",
    "k_live_", "k_test_", "ltai", "npm_", "hvs.",
)  # fmt: skip


def redact(text: str) -> str:
    """`text` without what looks like a secret or an e-mail address. Applying it twice changes nothing more."""
    lowered = text.lower()
    for mark in _MARKS:  # a loop: half the time of any() over a generator, and this is most of a snapshot's
        if mark in lowered:
            break
    else:
        return text
    if "PRIVATE KEY" in text:
        text = _PRIVATE_KEY.sub(MASK, text)
    text = _JSON_WEB_TOKEN.sub(MASK, text)
    text = _VENDOR_KEYS.sub(MASK, text)
    if "://" in text:
        text = _URL_PASSWORD.sub(rf"\g<head>:{MASK}@", text)
    if "@" in text:
        text = _DSN_PASSWORD.sub(rf"\g<head>:{MASK}@", text)
    text = _AUTHORIZATION.sub(rf"\g<head>{MASK}", text)
    text = _SCHEME.sub(rf"\g<head>{MASK}", text)
    text = _NAMED.sub(_mask_named, text)
    text = _FLAG.sub(rf"\g<head>{MASK}", text)
    if "@" in text:
        text = _MAIL.sub(MASK, text)
    return text


def is_secret_name(name: str) -> bool:
    """Whether what has this name (an environment variable, a field, a flag) is a secret."""
    return _SECRET_NAME.search(name) is not None


def redact_literals(name: str, value: str) -> str:
    """The value of a program's variable as a debugger shows it, without secrets in its texts; pointers stay."""
    if '"' not in value:
        return value
    hide = is_secret_name(name)
    value = _MEMBER.sub(_mask_member, value)
    return _LITERAL.sub(lambda found: f'"{MASK}"' if hide else f'"{redact(found[1])}"', value)


def redact_object(item: dict[str, Any]) -> dict[str, Any]:
    """A Kubernetes object as it is fit to be kept; what is not changed is shared with `item`.

    Only the keys of a Secret; of a ConfigMap the keys, and the hosts and ports in its values; no value of an
    environment variable that is named like a secret, no secret in commands, probe headers and annotations; of the
    managed fields, who wrote when.
    """
    kept = {key: value for key, value in item.items() if not (key == "metadata" or key in _CONTENT)}
    if isinstance(item.get("metadata"), dict):
        kept["metadata"] = _metadata(item["metadata"])
    content = {key: item[key] for key in _CONTENT if key in item}
    if item.get("kind") in ("Secret", "ConfigMap"):
        keys = {key: dict.fromkeys(value, "") if isinstance(value, dict) else value for key, value in content.items()}
        if item.get("kind") == "ConfigMap" and isinstance(content.get("data"), dict):
            keys["data"] = {key: _hosts(key, value) for key, value in content["data"].items()}
        return {**kept, **keys}
    kept.update({key: _walk(value) for key, value in content.items()})
    for key in ("message", "note"):  # of events
        if isinstance(kept.get(key), str):
            kept[key] = redact(kept[key])
    return kept


def redact_json(document: str) -> str:
    """A JSON document (an object, a JSON Patch) without secrets. Without any, it is the same text, byte for byte.

    Raises ValueError when it is not JSON.
    """
    value = json.loads(document)
    masked = _walk(value)
    return document if masked == value else json.dumps(masked, separators=(",", ":"), ensure_ascii=False)


# times and identities that the API server or the kubelet writes, a good part of every object
_INERT = {
    "uid", "containerID", "imageID", "image", "nodeName", "hostIP", "podIP", "startTime", "startedAt", "finishedAt",
    "lastTransitionTime", "lastProbeTime", "lastUpdateTime", "lastHeartbeatTime",
}  # fmt: skip
_SHORT = 15
"""Shorter words (phases, names, quantities) hold no secret; skipping them keeps large snapshots fast."""
_CONTENT = ("spec", "status", "data", "binaryData", "stringData", "template")


def _hosts(key: object, value: object) -> str:
    if not isinstance(key, str) or not isinstance(value, str) or _SECRET_NAME.search(key):
        return ""
    return redact(only_hosts(key, redact(value)))


def _mask_named(match: re.Match[str]) -> str:
    value = match["value"]
    if value.lower() in _NO_SECRET or value.strip("\"'").startswith(MASK):
        return match[0]
    quote = value[0] if value[0] in "\"'" else ""
    return f"{match['head']}{quote}{MASK}{quote}"


def _mask_member(match: re.Match[str]) -> str:
    return f'{match["name"]}{match["between"]}"{MASK}"' if is_secret_name(match["name"]) else match[0]


def _metadata(metadata: dict[str, Any]) -> dict[str, Any]:
    annotations, managed = metadata.get("annotations"), metadata.get("managedFields")
    if not annotations and "managedFields" not in metadata:
        return metadata
    kept = {key: value for key, value in metadata.items() if key != "managedFields"}
    if writes := _writes(managed):
        kept["managedFields"] = writes
    if isinstance(annotations, dict):
        kept["annotations"] = {
            key: redact(value) if isinstance(value, str) else value
            for key, value in annotations.items()
            if key not in _DROPPED_ANNOTATIONS
        }
    return kept


def _writes(managed: Any) -> list[dict[str, Any]]:
    """Who wrote an object and when: what is left of its managed fields, with the names of the uppermost fields."""
    kept: list[dict[str, Any]] = []
    for entry in managed if isinstance(managed, list) else []:
        if isinstance(entry, dict) and isinstance(entry.get("time"), str):
            write: dict[str, Any] = {key: entry[key] for key in _WRITE if isinstance(entry.get(key), str)}
            if isinstance(fields := entry.get("fieldsV1"), dict):
                write["fieldsV1"] = {
                    part: {}
                    if part in ("f:metadata", "f:status") or not isinstance(inner, dict)
                    else {name: {} for name in inner}
                    for part, inner in fields.items()
                }
            kept.append(write)
    return kept


_WRITE = ("manager", "operation", "subresource", "time")


def _walk(value: Any) -> Any:
    """Redact strings at any depth; a dict with `name` and `value` (environment variable, header) by its name too.

    What holds nothing to redact is returned itself: most of a snapshot is not copied.
    """
    if isinstance(value, dict):
        changed: dict[str, Any] = {}
        for key, item in value.items():
            if isinstance(item, str):
                new: Any = item if len(item) <= _SHORT or key in _INERT else redact(item)
            elif isinstance(item, dict):
                new = _metadata(item) if key == "metadata" else _walk(item)
            else:
                new = _members(item) if isinstance(item, list) else item
            if new is not item:
                changed[key] = new
        name, given = value.get("name"), value.get("value")
        if isinstance(name, str) and isinstance(given, str) and given:
            hidden = _SECRET_NAME.search(name) or name.lower() == "authorization"
            changed["value"] = MASK if hidden else redact(given)
        return {**value, **changed} if changed else value
    if isinstance(value, list):
        return _members(value)
    return redact(value) if isinstance(value, str) and len(value) > _SHORT else value


def _members(values: list[Any]) -> list[Any]:
    walked = [_walk(member) for member in values]
    return values if all(new is old for new, old in zip(walked, values, strict=True)) else walked
