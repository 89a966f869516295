"""What Feishu's card JSON 2.0 allows, as far as a bot of ours could use it. Unknown properties are errors there too."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from typing import Any

_TEXT = {"tag", "content", "i18n_content"}
_SPACING = {"horizontal_spacing", "horizontal_align", "vertical_spacing", "vertical_align", "padding"}
_PROPERTIES: dict[str, set[str]] = {
    "card": {"schema", "config", "card_link", "header", "body"},
    "config": {
        *("streaming_mode", "streaming_config", "summary", "locales", "enable_forward", "update_multi", "width_mode"),
        *("use_custom_translation", "enable_forward_interaction", "style"),
    },
    "summary": {"content", "i18n_content"},
    "header": {"title", "subtitle", "text_tag_list", "i18n_text_tag_list", "template", "icon", "padding"},
    "body": {"direction", "elements", *_SPACING},
    "plain_text": _TEXT,
    "confirm": {"title", "text"},
}
_ELEMENTS: dict[str, set[str]] = {
    "markdown": {"content", "i18n_content", "text_size", "text_align", "icon"},
    "hr": set(),
    "div": {"width", "text", "icon"},
    "column_set": {"horizontal_spacing", "horizontal_align", "flex_mode", "background_style", "columns", "action"},
    "button": {
        *("type", "size", "width", "text", "icon", "hover_tips", "disabled", "disabled_tips", "confirm"),
        *("behaviors", "name", "required", "form_action_type"),
    },
}
_COLUMN = {"tag", "element_id", "margin", "background_style", "width", "weight", "direction", "elements", *_SPACING}
_BEHAVIOURS = {
    "callback": {"type", "value"},
    "open_url": {"type", "default_url", "pc_url", "ios_url", "android_url"},
}
_TEMPLATES = {
    *("blue", "wathet", "turquoise", "green", "yellow", "orange", "red", "carmine", "violet", "purple", "indigo"),
    *("grey", "default"),
}
_BUTTON_TYPES = {
    *("default", "primary", "danger", "text", "primary_text", "danger_text"),
    *("primary_filled", "danger_filled", "laser"),
}
_FLEX = {"none", "stretch", "flow", "bisect", "trisect"}
_ELEMENT_ID = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,19}")
_MOST_ELEMENTS = 200

# visible text that a data-loss rule of the tenant refuses
_PRIVATE = re.compile(r"(?<![\w.])1[3-9]\d{9}(?!\w)|[\w.+-]+@[\w-]+\.[A-Za-z]{2,}")


class CardRefused(Exception):
    """Feishu would answer 230099 with this detail."""


def check_card(card: Any) -> None:
    _known(card, "card", _PROPERTIES["card"])
    if card.get("schema") != "2.0":
        raise CardRefused("schema is not 2.0")
    config = card.get("config", {})
    _known(config, "config", _PROPERTIES["config"])
    if config.get("update_multi", True) is not True:
        raise CardRefused("config.update_multi: only true is supported")
    if "summary" in config:
        _known(config["summary"], "summary", _PROPERTIES["summary"])
    if "header" in card:
        header = card["header"]
        _known(header, "header", _PROPERTIES["header"])
        for part in ("title", "subtitle"):
            if part in header:
                _plain(header[part], f"header.{part}")
        if header.get("template", "default") not in _TEMPLATES:
            raise CardRefused(f"header.template: {header['template']!r}")
    body = card.get("body")
    _known(body, "body", _PROPERTIES["body"])
    ids: list[str] = []
    _elements(body.get("elements"), "body", ids)
    named = [name for name in ids if name]
    if len(set(named)) != len(named):
        raise CardRefused("element_id is not unique")
    if len(ids) > _MOST_ELEMENTS:
        raise CardRefused("too many elements")


def elements_of(card: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every element of a card, at any depth."""
    waiting = list(card["body"]["elements"])
    while waiting:
        element = waiting.pop(0)
        yield element
        waiting[:0] = [inner for column in element.get("columns", []) for inner in column["elements"]]


def buttons_of(card: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {element["element_id"]: element for element in elements_of(card) if element["tag"] == "button"}


def visible_text(card: dict[str, Any]) -> str:
    """What a reader sees, one element a line, character references resolved and our bold marks kept."""
    lines = [card["header"][part]["content"] for part in ("title", "subtitle") if part in card.get("header", {})]
    for element in elements_of(card):
        if element["tag"] == "markdown":
            lines.append(html.unescape(element["content"]))
        elif "text" in element:
            lines.append(element["text"]["content"])
    return "\n".join(lines)


def is_private(card: dict[str, Any]) -> bool:
    return _PRIVATE.search(visible_text(card)) is not None


def _elements(elements: Any, where: str, ids: list[str]) -> None:
    if not isinstance(elements, list):
        raise CardRefused(f"{where}.elements is not a list")
    for element in elements:
        _element(element, f"{where}.elements", ids)


def _element(element: Any, where: str, ids: list[str]) -> None:
    tag = element.get("tag") if isinstance(element, dict) else None
    if tag not in _ELEMENTS:
        raise CardRefused(f"{where}: tag {tag!r} is not supported")
    _known(element, tag, _ELEMENTS[tag] | {"tag", "element_id", "margin"})
    _element_id(element, ids)
    if tag == "markdown" and not isinstance(element.get("content"), str):
        raise CardRefused("markdown.content is not a string")
    if tag == "div":
        _plain(element.get("text"), "div.text")
    if tag == "button":
        _button(element)
    if tag == "column_set":
        if element.get("flex_mode", "none") not in _FLEX:
            raise CardRefused("column_set.flex_mode")
        for column in element.get("columns", []):
            if not isinstance(column, dict) or column.get("tag") != "column":
                raise CardRefused("column_set.columns holds no column")
            _known(column, "column", _COLUMN)
            _element_id(column, ids)
            _elements(column.get("elements"), "column", ids)


def _element_id(element: dict[str, Any], ids: list[str]) -> None:
    name = element.get("element_id")
    if name is not None and (not isinstance(name, str) or not _ELEMENT_ID.fullmatch(name)):
        raise CardRefused(f"element_id {name!r}")
    ids.append(name or "")


def _button(button: dict[str, Any]) -> None:
    _plain(button.get("text"), "button.text")
    if button.get("type", "default") not in _BUTTON_TYPES:
        raise CardRefused(f"button.type {button['type']!r}")
    if "confirm" in button:
        _known(button["confirm"], "confirm", _PROPERTIES["confirm"])
        _plain(button["confirm"].get("title"), "confirm.title")
        _plain(button["confirm"].get("text"), "confirm.text")
    for behaviour in button.get("behaviors", []):
        kind = behaviour.get("type") if isinstance(behaviour, dict) else None
        if kind not in _BEHAVIOURS:
            raise CardRefused(f"button.behaviors: {kind!r}")
        _known(behaviour, kind, _BEHAVIOURS[kind])
        if kind == "callback" and not isinstance(behaviour.get("value"), dict):
            raise CardRefused("callback value is not an object")


def _plain(text: Any, where: str) -> None:
    _known(text, where, _PROPERTIES["plain_text"])
    if text.get("tag") != "plain_text" or not isinstance(text.get("content"), str):
        raise CardRefused(f"{where} is not plain_text")


def _known(value: Any, where: str, allowed: set[str]) -> None:
    if not isinstance(value, dict):
        raise CardRefused(f"{where} is not an object")
    if unknown := set(value) - allowed:
        raise CardRefused(f"{where}: unknown property {sorted(unknown)[0]!r}")
