"""Evidence closure: whether each claim's evidence is there and says what the claim quotes. Nothing of the analyzers'
own checking is used: a claim is open until its quotes are found."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from incidents.models import Diagnosis

_QUOTE = re.compile(r"«([^»]*)»")


@dataclass(frozen=True)
class Closure:
    """Claims are findings, and causes (whose findings must be there). `open` says what is not borne out."""

    claims: int = 0
    closed: int = 0
    open: list[str] = field(default_factory=list)


def closure(diagnosis: Diagnosis) -> Closure:
    texts = {item.id: item.excerpt for item in diagnosis.evidence}
    findings = {finding.id: finding for finding in diagnosis.findings}
    faults: list[str] = []
    for finding in diagnosis.findings:
        missing = [item for item in finding.evidence_ids if item not in texts]
        said = [texts[item] for item in finding.evidence_ids if item in texts]
        quotes = [quote for quote in _QUOTE.findall(finding.claim) if not any(quote in text for text in said)]
        if missing or not said:
            faults.append(f"{finding.rule}: its evidence is not there: {', '.join(missing)}")
        elif quotes:
            faults.append(f"{finding.rule}: not in its evidence: {quotes[0][:120]!r}")
    for cause in diagnosis.causes:
        if not cause.finding_ids or any(item not in findings for item in cause.finding_ids):
            faults.append(f"{cause.cause_class}: a finding that it rests on is not there")
        elif any(
            quote not in text
            for quote in _QUOTE.findall(cause.summary)
            for text in ["\n".join(texts.get(e, "") for f in cause.finding_ids for e in findings[f].evidence_ids)]
        ):
            faults.append(f"{cause.cause_class}: its summary quotes what is in no evidence of it")
    claims = len(diagnosis.findings) + len(diagnosis.causes)
    return Closure(claims, claims - len(faults), faults)
