"""What a sentence names: numbers, files with lines, functions, identifiers, Kubernetes objects, addresses.

Plain prose has none of these. They are found by shape alone, so that a checker can ask for each where it was seen.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_EDGES = "\"'`“”‘’«»()[]{}<>,;!?*…，。；：！？（）「」"
_URL = re.compile(r"(?:\b[a-z][a-z0-9+.-]*://|\bwww\.)\S+", re.IGNORECASE)
_FILE_LINE = re.compile(r"(?P<file>[\w.+/@-]*\w\.[A-Za-z]\w{0,4}):(?P<line>\d+)")
_FILE = re.compile(
    r"^[\w.+/@-]*\w\.(?:c|cc|cpp|cxx|h|hh|hpp|inl|s|py|go|rs|java|kt|js|ts|rb|php|cs|swift|scala|so|lua|pl|ex)$",
    re.IGNORECASE,
)
_CALL = re.compile(r"(?P<name>~?[A-Za-z_][\w:~]*(?:<[^<>()\s]*>)?)\((?P<args>[^()]*)\)")
_QUALIFIED = re.compile(r"~?[A-Za-z_]\w*(?:::~?\w+)+")
_SAID_FUNCTION = re.compile(
    r"\b(?:functions?|methods?|routines?|frames?|symbols?)\s+(?:named\s+|called\s+)?[`'\"]?(?P<name>~?[A-Za-z_][\w:~]*)",
    re.IGNORECASE,
)
_FUNCTION_SAID = re.compile(
    r"(?P<name>~?[A-Za-z_][\w:~]*)[`'\"]?\s+(?:functions?|methods?|routines?|frames?)\b", re.IGNORECASE
)
_PLACE = re.compile(r"\b(?:in|inside|by|at|from|into|calls?|called|calling)\s+[`'\"]?(?P<name>[A-Za-z_][\w:~]*)")
_KINDS = (
    "pod|deployment|statefulset|daemonset|replicaset|job|cronjob|service|configmap|secret|node|namespace|ingress|"
    "persistentvolumeclaim|pvc|persistentvolume|serviceaccount|horizontalpodautoscaler|hpa|container|release|helmrelease"
)
_OBJECT = re.compile(
    rf"\b(?P<kind>{_KINDS})s?(?P<gap>/|\s+)(?P<quote>[`'\"]?)(?P<name>[a-z0-9][-a-z0-9./]*[a-z0-9]|[a-z0-9])\b",
    re.IGNORECASE,
)
_NUMBER = re.compile(r"0[xX][0-9a-fA-F]+|\d+(?:\.\d+)*")
_QUANTITY = re.compile(r"^[-+~≈]?(?P<number>\d+(?:\.\d+)*)(?P<unit>[A-Za-zµ%°]{1,5})?$")
_WORDS_WITH_DIGITS = {"k8s", "c++11", "c++17", "c++20", "utf-8", "utf8"}
_KIND_WORDS = {"configmap", "statefulset", "daemonset", "replicaset", "cronjob", "helmrelease", "persistentvolumeclaim"}


@dataclass(frozen=True)
class Mentions:
    """Everything a sentence names.

    `functions` are named as such (a call, or "function f"); `places` are identifiers after words such as "in" or "by";
    `identifiers` are all other words of a shape that prose does not have.
    """

    urls: frozenset[str]
    file_lines: frozenset[tuple[str, int]]
    files: frozenset[str]
    functions: frozenset[str]
    places: frozenset[str]
    identifiers: frozenset[str]
    numbers: frozenset[str]
    objects: frozenset[str]


def mentions(text: str) -> Mentions:
    """Everything that `text` names. Linear in its length."""
    urls = frozenset(match[0].rstrip(_EDGES + ".:") for match in _URL.finditer(text))
    text = _URL.sub(" ", text)
    file_lines = frozenset((_base(match["file"]), int(match["line"])) for match in _FILE_LINE.finditer(text))
    text = _FILE_LINE.sub(" ", text)
    functions = {match["name"] for match in _CALL.finditer(text) if match["args"] not in ("s", "es")}
    functions |= {match[0] for match in _QUALIFIED.finditer(text)}
    for pattern in (_SAID_FUNCTION, _FUNCTION_SAID):
        functions |= {match["name"] for match in pattern.finditer(text) if _is_identifier(match["name"])}
    places = {match["name"] for match in _PLACE.finditer(text) if _is_identifier(match["name"])}
    objects = {
        part
        for match in _OBJECT.finditer(text)
        if match["gap"] == "/" or match["quote"] or re.search(r"[-\d/]", match["name"])
        for part in match["name"].split("/")
    }
    files: set[str] = set()
    identifiers: set[str] = set()
    numbers: set[str] = set()
    for word in re.split(r"[\s=|]+", text):
        word = word.strip(_EDGES + ".:").removesuffix("'s")
        if not word or word.lower() in _WORDS_WITH_DIGITS:
            continue
        if _FILE.match(word):
            files.add(_base(word))
        elif quantity := _QUANTITY.match(word):
            numbers.add(quantity["number"])
        elif _NUMBER.fullmatch(word):
            numbers.add(word)
        elif not re.search(r"[A-Za-z_]", word):
            numbers.update(_NUMBER.findall(word))  # 8080:80, 1-2, 12/15
        elif re.search(r"\d", word) or _is_identifier(word):
            identifiers.add(word)
    return Mentions(
        urls=urls,
        file_lines=file_lines,
        files=frozenset(files),
        functions=frozenset(functions),
        places=frozenset(places),
        identifiers=frozenset(identifiers),
        numbers=frozenset(numbers),
        objects=frozenset(objects),
    )


def _is_identifier(word: str) -> bool:
    """Whether a word has the shape of a name in code: an underscore, `::`, a capital after a small letter."""
    if word.lower() in _KIND_WORDS or word.lower().rstrip("s") in _KIND_WORDS:
        return False
    return "_" in word.strip("_") or "::" in word or re.search(r"[a-z][A-Z]", word) is not None


def _base(path: str) -> str:
    return path.rsplit("/", 1)[-1]
