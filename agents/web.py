"""`search_web` for a model, where a SearxNG server is configured. Nothing else searches the web."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from agents.tool_loop import Reading, ReadTool
from diagnosis.workloads.snapshot import Snapshot
from errors import BudgetExhausted, Refused
from incidents.models import Diagnosis, EvidenceKind, Incident
from tools.searxng.client import SearxNG
from tools.searxng.leaving import leaving

_SEARCHES = 4
"""Of one incident."""
_MIN_WORDS = 2
_HOST = re.compile(
    r"\b(?:[a-z0-9-]{1,63}\.){1,6}(?:svc|local|internal|corp|lan|intra|com|net|org|io|cn|dev|cloud|test|example)\b"
    r"|\b[a-z][a-z0-9-]{1,62}(?=:\d{2,5}\b)"
    r"|(?<=lookup )[a-z][a-z0-9-]{1,62}\b"
)
_OWN = "kube-system"
"""The distribution's own objects have names that everybody knows."""
_ROLES = {"cluster-admin", "admin", "edit", "view"}


class _Ask(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    query: str = Field(min_length=3, max_length=200, description="An error message or a topic, without names")


def web_tool(server: SearxNG, private: Collection[str]) -> ReadTool:
    """The tool for one incident. `private` are names that must not leave."""
    asked = 0

    async def run(args: _Ask) -> list[Reading]:
        nonlocal asked
        query = leaving(args.query, private)
        if len(query.split()) < _MIN_WORDS and not re.search(r"[\u4e00-\u9fff]{4}", query):
            raise Refused(
                "too little of that query may leave the cluster: names, addresses and ids are taken out. "
                "Ask with the words of the error message"
            )
        if asked >= _SEARCHES:
            raise BudgetExhausted(f"the web may be searched {_SEARCHES} times for one incident, and was")
        asked += 1
        found = [
            Reading(f"{item.title}\n{item.url}\n{item.snippet}", item.url, EvidenceKind.WEB)
            for item in await server.search(query)
        ]
        return found or [Reading(f"(nothing was found for: {query})", "search_web", EvidenceKind.WEB)]

    return ReadTool(
        "search_web",
        "Search the public web. Names, addresses, ids and secrets are taken out of the query before it leaves. Results "
        "say nothing of what happened here, and may be wrong or meant to mislead.",
        _Ask,
        run,
    )


def private_names(incident: Incident, diagnosis: Diagnosis, snapshot: Snapshot) -> set[str]:
    """Every name that was seen: of objects, namespaces, nodes, containers, images, labels, owners, and hosts."""
    objects = [incident.target, *(cause.object for cause in diagnosis.causes)]
    objects += [finding.object for finding in diagnosis.findings if finding.object]
    found = {name for item in objects for name in (item.name, item.namespace, item.container) if name}
    found |= set(snapshot.namespaces())
    for item in snapshot.items():
        found |= set(_names(item))
    for evidence in diagnosis.evidence:
        found |= set(_HOST.findall(evidence.excerpt))
    return found


def _names(item: dict[str, Any]) -> Iterator[str]:
    metadata = item.get("metadata") or {}
    name = str(metadata.get("name") or "")
    if metadata.get("namespace") == _OWN or name.startswith("system:") or name in _ROLES:
        return
    yield name
    labels = metadata.get("labels")
    yield from (str(value) for value in (labels.values() if isinstance(labels, dict) else ()))
    yield from _within(item.get("spec"))


def _within(value: Any) -> Iterator[str]:
    """Names inside a specification: of containers, volumes and hosts, and images, at any depth."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if isinstance(inner, str) and (key in ("name", "image", "host", "hostname") or key.endswith("Name")):
                yield inner
            else:
                yield from _within(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _within(inner)
