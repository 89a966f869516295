"""The analyzers, in the order in which they are asked. A new one is a module here and a line in `ANALYZERS`."""

from __future__ import annotations

from diagnosis.workloads.contract import Analyzer

ANALYZERS: tuple[Analyzer, ...] = ()
