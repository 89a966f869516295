"""Stand-ins for Slack's incoming webhooks and WeCom's group robots: they refuse what the vendors refuse.

Slack (docs.slack.dev, "Sending messages using incoming webhooks"): 200 `ok`, or a word with 400, 403, 404, 429.
WeCom (developer.work.weixin.qq.com, "Group robot configuration"): always 200, the code is in the body.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

SLACK_PATH = "/services/T0CANARY/B0CANARY/s3cretSlackCanary"
WECOM_KEY = "693a91f6-7777-4bc4-97a0-0ec2canary00"
_ENTITY = re.compile(r"&(?!amp;|lt;|gt;)")
_SPECIAL = re.compile(r"<(?!https?://[^<>|]+(\|[^<>|]+)?>)")


@dataclass
class NoticeServers:
    """`refuse` holds answers that are given first: a status and text for Slack, a code for WeCom."""

    url: str = ""
    slack: list[dict[str, Any]] = field(default_factory=list)
    wecom: list[dict[str, Any]] = field(default_factory=list)
    refuse: list[tuple[int, str, dict[str, str]] | int] = field(default_factory=list)
    tries: int = 0

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_post("/services/{team}/{hook}/{token}", self._slack)
        app.router.add_post("/cgi-bin/webhook/send", self._wecom)
        return app

    async def _slack(self, request: web.Request) -> web.Response:
        self.tries += 1
        if self.refuse and isinstance(self.refuse[0], tuple):
            status, word, headers = self.refuse.pop(0)  # type: ignore[misc]
            return web.Response(status=status, text=word, headers=headers)
        if request.path != SLACK_PATH:
            return web.Response(status=404, text="no_service")
        body = await request.json()
        if wrong := slack_wrong(body):
            return web.Response(status=400, text=wrong)
        self.slack.append(body)
        return web.Response(text="ok")

    async def _wecom(self, request: web.Request) -> web.Response:
        self.tries += 1
        code = 0
        if self.refuse and isinstance(self.refuse[0], int):
            code = self.refuse.pop(0)  # type: ignore[assignment]
        elif request.query.get("key") != WECOM_KEY:
            code = 93000
        else:
            code = wecom_wrong(body := await request.json())
            if code == 0:
                self.wecom.append(body)
        return web.json_response({"errcode": code, "errmsg": "ok" if code == 0 else "refused"})


def slack_wrong(body: dict[str, Any]) -> str:
    """Slack's word for what is wrong with a message; empty when nothing is."""
    if not body.get("text") and not body.get("blocks"):
        return "no_text"
    if set(body) - {"text", "blocks"} or len(body.get("blocks", [])) > 50:
        return "invalid_payload"
    for block in body.get("blocks", []):
        text = block.get("text", {})
        limit = {"header": 150, "section": 3000}.get(block.get("type"), 0)
        kinds = {"header": {"plain_text"}, "section": {"plain_text", "mrkdwn"}}.get(block.get("type"), set())
        allowed = {"type", "text", "emoji" if text.get("type") == "plain_text" else "verbatim"}
        if text.get("type") not in kinds or not 1 <= len(text.get("text", "")) <= limit or set(text) - allowed:
            return "invalid_blocks"
        if text["type"] == "mrkdwn" and (_ENTITY.search(text["text"]) or _SPECIAL.search(text["text"])):
            return "invalid_blocks"  # stricter than Slack: an unescaped < could call a whole channel
    return ""


def wecom_wrong(body: dict[str, Any]) -> int:
    """WeCom's code for what is wrong with a message; 0 when nothing is."""
    if body.get("msgtype") != "markdown":
        return 40008
    content = body.get("markdown", {}).get("content")
    if set(body) != {"msgtype", "markdown"} or not isinstance(content, str) or not content:
        return 40058
    return 45002 if len(content.encode()) > 4096 else 0
