"""Which action, if any, answers which cause. The order is the order of trial; rules only, no model."""

from agents.remedies.choose import MAX_CAUSES, MIN_CONFIDENCE, OFFERS, Course, course, remedies
from agents.remedies.remedy import Remedy
from agents.remedies.rollback import HelmHistories

__all__ = ["MAX_CAUSES", "MIN_CONFIDENCE", "OFFERS", "Course", "HelmHistories", "Remedy", "course", "remedies"]
