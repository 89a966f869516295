"""One notice in the forms that Slack and WeCom take. All texts in it come from outside: they are shown, never obeyed.

Sources: docs.slack.dev, "Formatting message text" and the Block Kit reference (header 150 characters, section 3000);
developer.work.weixin.qq.com, "Group robot configuration" (markdown of at most 4096 bytes).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from tools.feishu.markup import plain

Kind = Literal["slack", "wecom"]
VARIABLES = (
    *("pod.namespace", "pod.name", "pod.uid", "pod.node", "host.ip", "corefile.path", "corefile.filename"),
    *("corefile.url", "title", "target", "cause", "severity", "count", "nodes", "incident.id", "incident.link"),
)
"""What a channel's template may name, in braces. `corefile.url` is the key in the store, and never a link."""
_SLACK_HEADER, _SLACK_SECTION = 150, 3000
_WECOM_BYTES = 4096
_LINE = 600
_VARIABLE = re.compile(r"\{([a-z.]+)\}")
_SLACK = {ord("&"): "&amp;", ord("<"): "&lt;", ord(">"): "&gt;"}
_WECOM = str.maketrans({"[": "［", "]": "］", "*": "＊", "`": "ˋ"})  # it knows no escapes


@dataclass(frozen=True)
class Notice:
    """A title, lines of a label and a text, and our own link to the incident. `values` are for a template."""

    title: str
    lines: list[tuple[str, str]]
    link: str | None = None
    link_text: str = "Open"
    values: Mapping[str, str] = field(default_factory=dict)


def unknown_variables(template: str) -> list[str]:
    """What it names in braces that is no variable."""
    return [name for name in _VARIABLE.findall(template) if name not in VARIABLES]


def render(kind: Kind, notice: Notice, template: str | None) -> dict[str, Any]:
    """The body to send. A template's own text is the channel's markup; the values in it are not."""
    return (_slack if kind == "slack" else _wecom)(notice, template)


def _slack(notice: Notice, template: str | None) -> dict[str, Any]:
    title = plain(notice.title, _SLACK_HEADER)
    blocks: list[dict[str, Any]] = []
    if template is not None:
        text = _fill(template, notice, lambda value: plain(value, _LINE).translate(_SLACK))
        # verbatim: no link is made of what only looks like one
        blocks.append({"type": "section", "text": {"type": "mrkdwn", "text": _cut(text, 3000), "verbatim": True}})
    else:
        blocks.append({"type": "header", "text": {"type": "plain_text", "text": title, "emoji": False}})
        text = "\n".join(f"{label}: {plain(value, _LINE)}" for label, value in notice.lines)
        if text:
            body = {"type": "plain_text", "text": _cut(text, _SLACK_SECTION), "emoji": False}
            blocks.append({"type": "section", "text": body})
    if notice.link:
        link = f"<{notice.link.translate(_SLACK)}|{notice.link_text.translate(_SLACK)}>"
        blocks.append({"type": "section", "text": {"type": "mrkdwn", "text": link}})
    return {"text": title.translate(_SLACK), "blocks": blocks}


def _wecom(notice: Notice, template: str | None) -> dict[str, Any]:
    def safe(value: str) -> str:
        return plain(value, _LINE).translate(_WECOM)

    end = f"\n[{notice.link_text}]({notice.link})" if notice.link else ""
    if template is not None:
        text = _fill(template, notice, safe)
    else:
        text = "\n".join([f"**{safe(notice.title)}**", *(f"> {label}: {safe(value)}" for label, value in notice.lines)])
    room = _WECOM_BYTES - len(end.encode())
    if len(text.encode()) > room:
        text = text.encode()[: room - 3].decode("utf-8", "ignore") + "…"
    return {"msgtype": "markdown", "markdown": {"content": text + end}}


def _fill(template: str, notice: Notice, safe: Any) -> str:
    return _VARIABLE.sub(lambda found: safe(notice.values.get(found[1]) or "-"), template)


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"
