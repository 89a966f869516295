"""Which workload a selector that matches nothing was meant for: the labels that differ, and how sure that is."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import SequenceMatcher

from diagnosis.workloads.services import Template

ALIKE = 0.74
"""Similarity (0 to 1, difflib's ratio) from which two names are taken for one with a slip."""
_CLEAR = 0.5


@dataclass(frozen=True)
class NearMiss:
    """A workload that a selector almost matches. `selector` is the corrected one; `key` the first pair that differs,
    with `observed` in the selector and `suggested` in the workload under `suggested_key`."""

    template: Template
    score: float
    key: str
    observed: str
    suggested_key: str
    suggested: str
    selector: dict[str, str]


def near_misses(name: str, selector: dict[str, str], templates: list[Template], taken: set[int]) -> list[NearMiss]:
    """The likeliest first; those equally likely come together (more than one means that it is not clear which).

    `taken` are templates (by id) that another Service selects already: those need another one less.
    """
    found = [miss for template in templates if (miss := _near(name, selector, template, id(template) in taken))]
    found.sort(key=lambda miss: (-miss.score, str(miss.template.ref)))
    return [miss for miss in found if found[0].score - miss.score < _CLEAR]


def alike(first: str, second: str) -> float:
    """Similarity of two names, 0 to 1."""
    return SequenceMatcher(None, first.lower(), second.lower()).ratio()


def closest(name: str, names: list[str]) -> str | None:
    """The one of `names` that `name` is a slip of, if one is clearly the closest."""
    ranked = sorted(((alike(name, other), other) for other in set(names)), reverse=True)
    if not ranked or ranked[0][0] < ALIKE or (len(ranked) > 1 and ranked[0][0] - ranked[1][0] < 0.05):
        return None
    return ranked[0][1]


def _near(name: str, selector: dict[str, str], template: Template, taken: bool) -> NearMiss | None:
    labels, fixed = template.labels, dict(selector)
    matched = 0
    closeness = 0.0
    differing: list[tuple[str, str, str, str]] = []
    for key, value in sorted(selector.items()):
        if labels.get(key) == value:
            matched += 1
            continue
        closest_key, likeness = _counterpart(key, value, labels)
        if not closest_key:
            return None  # a pair that the workload has nothing like: a person must say what was meant
        closeness += likeness
        differing.append((key, value, closest_key, labels[closest_key]))
        del fixed[key]
        fixed[closest_key] = labels[closest_key]
    if not differing:
        return None
    named = _named_alike(name, template.ref.name)
    if not matched and not named and closeness / len(differing) < ALIKE:
        return None
    score = 1.5 * matched + closeness + named - (0.6 if taken else 0.0)
    key, observed, suggested_key, suggested = differing[0]
    return NearMiss(template, score, key, observed, suggested_key, suggested, fixed)


def _counterpart(key: str, value: str, labels: dict[str, str]) -> tuple[str, float]:
    """The workload's label that a pair of the selector stands for, and how alike (0 to 1) the two are."""
    if key in labels:
        return key, alike(value, labels[key])
    same_value = sorted(other for other, found in labels.items() if found == value)
    if same_value:
        return same_value[0], 0.9
    slips = sorted(((alike(key, other), other) for other in labels), reverse=True)
    if slips and slips[0][0] >= ALIKE:
        return slips[0][1], alike(value, labels[slips[0][1]]) * slips[0][0]
    return "", 0.0


def _named_alike(service: str, workload: str) -> float:
    if service == workload:
        return 2.0
    shorter, longer = sorted((service, workload), key=len)
    if longer.startswith(f"{shorter}-") or longer.endswith(f"-{shorter}"):
        return 1.5
    return 1.0 if alike(service, workload) >= ALIKE else 0.0
