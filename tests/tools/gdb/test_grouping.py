"""The same bug in another process, another build, without symbols: names and groups that stay."""

from __future__ import annotations

from dataclasses import replace

import pytest

from diagnosis.crashes.groups.clusters import Clusters
from diagnosis.crashes.identity import identity_of, stack_of
from incidents.crash_report import CrashReport
from settings import GdbSettings
from tests.standins import analysed, crashing
from tools.gdb.look import look_at_core

pytestmark = pytest.mark.gdb


async def report(mode: str, run: int = 0, build: tuple[str, ...] = ()) -> CrashReport:
    program = crashing.program(*build) if build else crashing.program()
    core = crashing.core(mode, run, executable=program)
    return (await analysed.examined(core, program)).report


def group(clusters: Clusters, crash: CrashReport, called: CrashReport | None = None) -> str:
    """The group of `crash`, as if its program were called as that of another: releases keep their name."""
    stack, name = stack_of(crash), stack_of(called or crash)
    assert stack is not None and name is not None and crash.signatures is not None
    return clusters.assign(replace(stack, program=name.program), crash.signatures.address_sig).group_id


async def test_another_run_and_another_optimisation_are_the_same_crash() -> None:
    clusters = Clusters()
    first, again = await report("double_free"), await report("double_free", run=1)
    found = group(clusters, first)
    assert again.signatures == first.signatures
    assert first.signatures is not None and first.signatures.group_id == found
    other = await report("double_free", build=("other-build", "-O1"))
    assert other.signatures is not None
    assert other.signatures.address_sig != first.signatures.address_sig
    assert other.signatures.duphash == first.signatures.duphash
    assert other.signature == first.signature
    assert group(clusters, other, first) == found


async def test_without_symbols_and_without_gdb_it_is_the_same_crash() -> None:
    clusters = Clusters()
    named = await report("offset")
    core = crashing.core("offset", executable=crashing.stripped())
    bare = (await analysed.examined(core, crashing.stripped())).report
    assert bare.signature != named.signature
    assert group(clusters, bare) == group(clusters, named)
    assert len(clusters) == 1
    seen = await look_at_core(crashing.core("offset", 1), executable=None, settings=GdbSettings())
    other = await look_at_core(crashing.core("double_free"), executable=None, settings=GdbSettings())
    assert seen.crash is not None and other.crash is not None
    assert identity_of(seen.crash) == identity_of(named) is not None
    assert identity_of(other.crash) not in (None, identity_of(named))
