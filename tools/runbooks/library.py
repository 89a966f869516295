"""The runbooks as a whole: brought up to date, searched by words and, where configured, by meaning.

Words are ranked by BM25 with headings first. With embeddings both rankings are joined by reciprocal rank fusion
(Cormack, Clarke, Büttcher 2009, k = 60). A passage must also pass a floor, because the best of bad passages is still a
ranking's first:

- of a diagnosis: it (or its heading) names the cause's class, or it has two further terms of the diagnosis that few
  passages have, or the front matter says that the runbook is for it;
- of a question: it has two of the question's words (all, when there is one).

Meaning alone puts a passage before a person who asked, never beside a diagnosis.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from errors import NotFound, ParamedicError
from settings import RunbookSettings, Settings
from tools.llm.embeddings import Embeddings, similarity
from tools.runbooks.asking import Question, Term
from tools.runbooks.folder import Folder
from tools.runbooks.index import Index, Stored, Update
from tools.runbooks.passages import Scope

_HEADING_WEIGHT = 4.0
_CANDIDATES = 200
_FUSION = 60
_RARE_SHARE = 0.2
_RARE_COUNT = 3
_EMBEDDED_A_SEARCH = 64
"""Passages without a vector that one search may have made; `paramedic runbooks index` makes all."""
_ALIKE = 0.5
"""Cosine below which a passage is not alike, whatever its rank."""


@dataclass(frozen=True)
class Hit:
    """A passage and the terms of the question that it has; none when it is only alike in meaning."""

    passage: Stored
    terms: tuple[Term, ...]
    in_heading: frozenset[str]
    told: bool
    """Whether it passes by what its words or its front matter say, and not by meaning alone."""


@dataclass(frozen=True)
class Answer:
    """Best first. `notes` say what of the runbooks could not be looked at."""

    hits: list[Hit]
    notes: list[str]


class Runbooks:
    """One for the process. Its methods raise ToolFailed when the index cannot be used."""

    def __init__(self, settings: RunbookSettings, data_dir: Path, embeddings: Embeddings | None = None) -> None:
        assert settings.folder is not None
        self.settings = settings
        self.index = Index(data_dir / "runbooks.db")
        self._folder = Folder(settings.folder, max_files=settings.max_files, max_bytes=settings.max_bytes)
        self._embeddings = embeddings
        self._turn = asyncio.Lock()

    @classmethod
    def from_settings(cls, settings: Settings, embeddings: Embeddings | None = None) -> Runbooks | None:
        """The runbooks, or None when no folder is configured."""
        if settings.runbooks.folder is None:
            return None
        return cls(settings.runbooks, settings.data_dir, embeddings)

    async def update(self) -> tuple[Update, int, list[str]]:
        """Read every file, and have a vector made of every passage that has none.

        Returns what was found, how many vectors were made, and what went wrong with them. Raises NotFound without the
        folder.
        """
        async with self._turn:
            update = await asyncio.to_thread(self.index.update, self._folder, thorough=True)
            made, notes = 0, []
            try:
                while self._embeddings is not None and (step := await self._embed(self._embeddings, None)):
                    made += step
            except ParamedicError as error:
                notes.append(f"not every passage has a vector: {error}")
            return update, made, notes

    async def search(
        self,
        question: Question,
        *,
        limit: int,
        incident_id: str | None = None,
        accept: Callable[[Scope], bool] | None = None,
    ) -> Answer:
        """The best passages for a question. `accept` says of a front matter whether it is for what is asked about.

        The folder is looked at first; when it is gone, what was read before is searched, and a note says so.
        """
        notes: list[str] = []
        async with self._turn:
            try:
                await asyncio.to_thread(self.index.update, self._folder)
            except NotFound as error:
                notes.append(f"{error}; what was read of it before was searched")
            alike: list[tuple[int, float]] = []
            if self._embeddings is not None and question.text.strip():
                try:
                    await self._embed(self._embeddings, incident_id)
                    (asked,) = await self._embeddings.embed([question.text], incident_id=incident_id)
                    alike = await asyncio.to_thread(self._alike, self._embeddings.name, asked)
                except ParamedicError as error:
                    notes.append(f"runbooks were searched by words alone: {error}")
        hits = await asyncio.to_thread(self._hits, question, alike, accept)
        return Answer(hits[:limit], notes)

    async def _embed(self, embeddings: Embeddings, incident_id: str | None) -> int:
        """Have vectors made of some passages that have none; how many were made."""
        missing = await asyncio.to_thread(self.index.without_vector, embeddings.name, _EMBEDDED_A_SEARCH)
        if not missing:
            return 0
        texts = [" / ".join(item.trail) + "\n" + item.text for item in missing]
        vectors = await embeddings.embed(texts, incident_id=incident_id)
        made = {item.id: vector for item, vector in zip(missing, vectors, strict=True)}
        await asyncio.to_thread(self.index.keep_vectors, embeddings.name, made)
        return len(made)

    def _alike(self, model: str, asked: bytes) -> list[tuple[int, float]]:
        """Passages by their cosine with what was asked, best first."""
        scored = [(number, similarity(asked, vector)) for number, vector in self.index.vectors(model)]
        return sorted((item for item in scored if item[1] >= _ALIKE), key=lambda item: (-item[1], item[0]))

    def _hits(
        self, question: Question, alike: list[tuple[int, float]], accept: Callable[[Scope], bool] | None
    ) -> list[Hit]:
        queries = [query for term in question.terms for query in term.queries]
        by_words = self._ranked(queries)
        by_meaning = [number for number, _ in alike[:_CANDIDATES]]
        scoped = [item for item in self.index.scoped() if accept is not None and accept(item.scope)]
        order = _fused([by_words, by_meaning])
        order += [item.id for item in scoped if item.id not in set(order)]
        found = {query: self.index.matching(query) for query in queries}
        heading = {query: self.index.matching(f"trail : {query}") for query in queries}
        common = max(_RARE_COUNT, _RARE_SHARE * self.index.count())
        for_this = {item.path for item in scoped}
        hits = []
        for passage in self.index.get(order):
            terms = tuple(term for term in question.terms if _has(term, passage.id, found))
            headed = frozenset(term.text for term in terms if _has(term, passage.id, heading))
            telling = [
                term
                for term in terms
                if not question.rare or min(len(found[query]) for query in term.queries) <= common
            ]
            told = (
                passage.path in for_this
                or any(term.body_tells or (term.heading_tells and term.text in headed) for term in terms)
                or _enough(telling, question)
            )
            if told or (not question.rare and passage.id in by_meaning):
                hits.append(Hit(passage, terms, headed, told))
        return hits

    def _ranked(self, queries: list[str]) -> list[int]:
        if not queries:
            return []
        return self.index.ranked(" OR ".join(queries), heading_weight=_HEADING_WEIGHT, limit=_CANDIDATES)


def _has(term: Term, number: int, found: dict[str, set[int]]) -> bool:
    return sum(number in found[query] for query in term.queries) >= 0.5 * len(term.queries)


def _enough(terms: list[Term], question: Question) -> bool:
    return question.needed > 0 and sum(term.weight for term in terms) >= question.needed


def _fused(rankings: Iterable[list[int]]) -> list[int]:
    """Reciprocal rank fusion."""
    scores: dict[int, float] = {}
    for ranking in rankings:
        for rank, number in enumerate(ranking, start=1):
            scores[number] = scores.get(number, 0.0) + 1.0 / (_FUSION + rank)
    return sorted(scores, key=lambda number: (-scores[number], number))
