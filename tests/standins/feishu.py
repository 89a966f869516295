"""A strict stand-in for Feishu: it rejects what Feishu rejects and presses buttons through the real callback.

In a test of the same process:

    async with FeishuStandIn(callback_url="http://127.0.0.1:8080/api/v1/feishu/callback") as feishu:
        Settings(feishu=feishu.settings())         # or feishu.environment() for a child process
        message = feishu.only_message()            # feishu.messages: id -> Message(card, versions, …)
        pressed = await feishu.press(message.id, "approve", open_id="ou_alice")
        pressed.client_code                        # 0, or what the client would show: 200341, 200671, 200672, 200673 …
        pressed.toast, pressed.card                # of the answer; the card is also applied to the message
        await feishu.replay(pressed)               # the same bytes and headers again
        await feishu.press(message.id, "approve", variant="stale")   # see VARIANTS
        feishu.notices                             # cards that came through the custom bot
        feishu.down = True                         # answers 503 until it is False again
        feishu.answer_seconds = 30                 # more patience than Feishu has, for a loaded machine
        feishu.clock.advance(3600)                 # the vendor's clock (signatures, ages, tokens)

`press(version=0)` presses a button on the card as it was first sent (a client that has not refreshed).

For tests of another process: `python -m tests.standins.feishu --state-file F [--port 0] [--callback-url U]` writes
`{"base_url", "environment", "chat_id", "tenant_key", …}` to F and serves, besides Feishu's API:

    GET  /_test/messages | /_test/notices | /_test/presses
    POST /_test/press      {"message_id", "element_id", "open_id"?, "tenant_key"?, "variant"?, "version"?}
    POST /_test/replay     {"index"}               a press of /_test/presses once more
    POST /_test/configure  {"callback_url"?, "down"?, "advance_seconds"?}
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import httpx
from pydantic import SecretStr

from settings import FeishuSettings
from tests.standins.feishu_api import build_app
from tests.standins.feishu_press import ANSWER_SECONDS, Sent, build_event, deliver, seal
from tests.standins.feishu_schema import buttons_of
from tests.standins.serving import ServerThread

Variant = Literal[
    "genuine", "bad_signature", "tampered", "stale", "wrong_token", "unsigned", "plain", "giant", "other_app"
]
VARIANTS: tuple[Variant, ...] = (
    "genuine",
    "bad_signature",
    "tampered",
    "stale",
    "wrong_token",
    "unsigned",
    "plain",
    "giant",
    "other_app",
)
FORGED = VARIANTS[1:]


class Clock:
    """Wall time that a test can move."""

    def __init__(self) -> None:
        self.offset = 0.0

    def __call__(self) -> float:
        return time.time() + self.offset

    def advance(self, seconds: float) -> None:
        self.offset += seconds


@dataclass
class Message:
    """A message in the chat; `versions` are its cards since it was sent, the last is what people see."""

    id: str
    chat_id: str
    uuid: str | None
    sent_at: float
    versions: list[dict[str, Any]]

    @property
    def card(self) -> dict[str, Any]:
        return self.versions[-1]


@dataclass
class Pressed:
    """What came of one press. `status` is None when there was no answer."""

    message_id: str
    element_id: str
    open_id: str
    variant: str
    client_code: int
    status: int | None
    reply: Any
    sent: Sent = field(repr=False)

    @property
    def toast(self) -> dict[str, Any]:
        return dict(self.reply["toast"])

    @property
    def card(self) -> dict[str, Any] | None:
        return self.reply["card"]["data"] if "card" in self.reply else None


class SharedServer:
    """One server for the stand-ins of many tests, one after another: starting and stopping one takes 0.2 s."""

    def __init__(self) -> None:
        self.app: Any = None
        self.thread = ServerThread(self)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.app(scope, receive, send)


class FeishuStandIn:
    """One tenant with one app, one chat and one custom bot. Not thread-safe beyond what tests need."""

    def __init__(
        self, *, callback_url: str | None = None, port: int = 0, served_by: SharedServer | None = None
    ) -> None:
        self.app_id = "cli_a1b2c3"
        self.app_secret = "app-secret-S3cr3tValue"
        self.encrypt_key = "encrypt-key-S3cr3tValue"
        self.verification_token = "verification-S3cr3tValue"
        self.webhook_id = "hook-5f0c1d2e-S3cr3tValue"
        self.webhook_secret = "webhook-secret-S3cr3tValue"
        self.chat_id = "oc_oncall"
        self.tenant_key = "tenant1"
        self.callback_url = callback_url
        self.clock = Clock()
        self.answer_seconds = ANSWER_SECONDS
        self.down = False
        self.messages: dict[str, Message] = {}
        self.notices: list[dict[str, Any]] = []
        self.presses: list[Pressed] = []
        self.answers: list[tuple[str, str, int]] = []
        """Method, path and code of every answered API call."""
        self.tokens_issued = 0
        self.revoked = False
        self.callback_tokens: dict[str, tuple[str, float, int]] = {}
        app = build_app(self)
        self._shared = served_by
        self._server = served_by.thread if served_by else ServerThread(app, port=port)
        self.base_url = self._server.url
        if served_by:
            served_by.app = app

    # --- configuration of the service under test ------------------------------------------------------------------

    @property
    def secrets(self) -> list[str]:
        return [
            self.app_secret,
            self.encrypt_key,
            self.verification_token,
            self.webhook_id,
            self.webhook_secret,
        ]

    @property
    def webhook_url(self) -> str:
        return f"{self.base_url}/open-apis/bot/v2/hook/{self.webhook_id}"

    def settings(self, *, webhook: bool = False, app: bool = True, **changes: Any) -> FeishuSettings:
        values: dict[str, Any] = {"base_url": self.base_url}
        if app:
            values |= {
                "app_id": self.app_id,
                "app_secret": SecretStr(self.app_secret),
                "encrypt_key": SecretStr(self.encrypt_key),
                "verification_token": SecretStr(self.verification_token),
                "chat_id": self.chat_id,
            }
        if webhook:
            values |= {
                "webhook_url": SecretStr(self.webhook_url),
                "webhook_secret": SecretStr(self.webhook_secret),
            }
        return FeishuSettings(**(values | changes))

    def environment(self) -> dict[str, str]:
        """The same (app bot) as environment variables of a child process."""
        values = {
            "base_url": self.base_url,
            "app_id": self.app_id,
            "app_secret": self.app_secret,
            "encrypt_key": self.encrypt_key,
            "verification_token": self.verification_token,
            "chat_id": self.chat_id,
        }
        return {f"PARAMEDIC_FEISHU__{name.upper()}": value for name, value in values.items()}

    def identity(self, open_id: str) -> str:
        """As the gate knows the person."""
        return f"feishu:{self.tenant_key}/{open_id}"

    # --- life -----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        if self._shared is None:
            self._server.start()

    def stop(self) -> None:
        if self._shared is None:
            self._server.stop()

    async def __aenter__(self) -> FeishuStandIn:
        self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.stop()

    def __enter__(self) -> FeishuStandIn:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # --- what people do -------------------------------------------------------------------------------------------

    def only_message(self) -> Message:
        (message,) = self.messages.values()
        return message

    async def press(
        self,
        message_id: str,
        element_id: str,
        open_id: str = "ou_alice",
        tenant_key: str | None = None,
        *,
        variant: Variant = "genuine",
        version: int = -1,
        value: dict[str, Any] | None = None,
    ) -> Pressed:
        """Press a button. `value` replaces the button's own (a client that edits what it sends).

        Raises KeyError when there is no such button.
        """
        message = self.messages[message_id]
        button = buttons_of(message.versions[version])[element_id]
        behaviour = next(item for item in button["behaviors"] if item["type"] == "callback")
        event = build_event(
            self,
            message_id=message_id,
            chat_id=message.chat_id,
            open_id=open_id,
            tenant_key=tenant_key or self.tenant_key,
            value=value if value is not None else behaviour["value"],
            variant=variant,
        )
        sent = seal(self, event, variant)
        return await self._deliver(sent, message_id, element_id, open_id, variant)

    async def replay(self, pressed: Pressed) -> Pressed:
        """The same bytes with the same headers, a second time."""
        return await self._deliver(pressed.sent, pressed.message_id, pressed.element_id, pressed.open_id, "replay")

    async def send(self, event: dict[str, Any], variant: Variant = "genuine") -> httpx.Response:
        """Push any event, sealed as `variant` says; the raw answer."""
        assert self.callback_url is not None
        sent = seal(self, event, variant)
        async with httpx.AsyncClient(timeout=self.answer_seconds, verify=False) as client:
            return await client.post(self.callback_url, content=sent.body, headers=sent.headers)

    async def verify_url(self, challenge: str = "ajls384kdjx98XX", token: str | None = None) -> httpx.Response:
        """What Feishu does when the callback address is configured. The challenge is not signed."""
        event = {"challenge": challenge, "token": token or self.verification_token, "type": "url_verification"}
        return await self.send(event, "unsigned")

    async def _deliver(self, sent: Sent, message_id: str, element_id: str, open_id: str, variant: str) -> Pressed:
        code, status, reply = await deliver(self.callback_url, sent, self.answer_seconds)
        if code == 0 and isinstance(reply, dict) and "card" in reply:
            self.messages[message_id].versions.append(reply["card"]["data"])
        if sent.callback_token in self.callback_tokens:
            self.callback_tokens[sent.callback_token] = (message_id, self.clock(), 2)
        pressed = Pressed(message_id, element_id, open_id, variant, code, status, reply, sent)
        self.presses.append(pressed)
        return pressed

    def state(self) -> dict[str, Any]:
        """What another process needs to use this stand-in."""
        return {
            "base_url": self.base_url,
            "environment": self.environment(),
            "chat_id": self.chat_id,
            "tenant_key": self.tenant_key,
            "webhook_url": self.webhook_url,
            "webhook_secret": self.webhook_secret,
        }


def pressed_json(pressed: Pressed) -> dict[str, Any]:
    document = asdict(pressed)
    del document["sent"]
    return document


def main() -> None:
    parser = argparse.ArgumentParser(description="A strict stand-in for Feishu")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--callback-url")
    parser.add_argument("--state-file", type=Path, required=True)
    arguments = parser.parse_args()
    with FeishuStandIn(callback_url=arguments.callback_url, port=arguments.port) as feishu:
        draft = arguments.state_file.with_suffix(".part")
        draft.write_text(json.dumps(feishu.state()))
        draft.replace(arguments.state_file)
        try:
            while True:
                time.sleep(3600)
        except KeyboardInterrupt:
            return


if __name__ == "__main__":
    main()
