"""Cards in Feishu's card JSON 2.0: parts that every card shares.

Source: open.feishu.cn, "Card JSON 2.0 structure". Unknown properties are errors there, so only known ones are used.
Everything that is not ours goes through `tools.feishu.markup`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlsplit

from incidents.models import ObjectRef
from tools.feishu.client import Card, card_json
from tools.feishu.markup import block, clean, inline, plain
from tools.feishu.texts import Language, text

MAX_CARD_BYTES = 30_000
"""The vendor's 30 KB, read as thousands to be on the safe side."""
Element = dict[str, Any]
_SHRINKING = (1.0, 0.6, 0.35, 0.2, 0.1, 0.05, 0.02)


def fitted(build: Callable[[float], Card], max_bytes: int) -> Card:
    """The card with the longest excerpts that fits: `build` gets the share of their length to keep."""
    card: Card = {}
    for share in _SHRINKING:
        card = build(share)
        if len(card_json(card).encode()) <= max_bytes:
            break
    return card


def card(title: str, subtitle: str, template: str, elements: Sequence[Element], *, summary: str) -> Card:
    """A shared card. `title`, `subtitle` and `summary` are plain text; forwarded copies have no working buttons."""
    return {
        "schema": "2.0",
        "config": {"update_multi": True, "enable_forward_interaction": False, "summary": {"content": summary}},
        "header": {
            "title": {"tag": "plain_text", "content": title},
            "subtitle": {"tag": "plain_text", "content": subtitle},
            "template": template,
        },
        "body": {"direction": "vertical", "elements": list(elements)},
    }


def markdown(content: str) -> Element:
    return {"tag": "markdown", "content": content}


def rule() -> Element:
    return {"tag": "hr"}


def facts(language: Language, pairs: Sequence[tuple[str, str]]) -> Element:
    """Lines of `label: value`; values are escaped markdown, empty ones are left out."""
    return markdown("\n".join(f"**{text(language, label)}** {value}" for label, value in pairs if value))


def bullets(items: Sequence[str]) -> str:
    return "\n".join(f"- {item}" for item in items)


def excerpt(language: Language, content: str, limit: int, where: str) -> str:
    """Outside text of several lines, with a note when it is not the whole. `where` is our own markdown."""
    cleaned = clean(content, limit)
    notes = []
    if cleaned.cut:
        notes.append(text(language, "cut.lines", shown=cleaned.shown_lines, total=cleaned.total_lines, where=where))
    if cleaned.hidden:
        notes.append(text(language, "cut.hidden", where=where))
    return "\n".join([block(cleaned), *notes])


def callback_button(
    element_id: str, label: str, kind: str, value: dict[str, Any], confirm: tuple[str, str] | None = None
) -> Element:
    """A button that calls back. `kind` is primary, danger or default; `confirm` is title and text of a question."""
    button: Element = {
        "tag": "button",
        "element_id": element_id,
        "type": kind,
        "text": {"tag": "plain_text", "content": label},
        "behaviors": [{"type": "callback", "value": value}],
    }
    if confirm is not None:
        title, question = confirm
        button["confirm"] = {
            "title": {"tag": "plain_text", "content": title},
            "text": {"tag": "plain_text", "content": question},
        }
    return button


def link_button(label: str, url: str) -> Element:
    return {
        "tag": "button",
        "element_id": "open",
        "type": "default",
        "text": {"tag": "plain_text", "content": label},
        "behaviors": [{"type": "open_url", "default_url": url}],
    }


def button_row(buttons: Sequence[Element]) -> Element:
    columns = [{"tag": "column", "width": "auto", "elements": [button]} for button in buttons]
    return {"tag": "column_set", "flex_mode": "flow", "columns": columns}


def incident_link(public_url: str | None, incident_id: str) -> str | None:
    """Where people read the whole incident, when the service has a public address."""
    if not public_url or urlsplit(public_url).scheme not in ("http", "https"):
        return None
    return f"{public_url.rstrip('/')}/#{incident_id}"


def ref_markdown(ref: ObjectRef) -> str:
    return inline(str(ref), 300)


def ref_plain(ref: ObjectRef, limit: int = 80) -> str:
    where = f"{ref.namespace}/" if ref.namespace else ""
    return plain(f"{ref.kind} {where}{ref.name}", limit)
