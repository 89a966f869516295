"""A program that a signal of its own making ended: SIGSEGV, SIGABRT and the like. Its core says the rest."""

from __future__ import annotations

from collections.abc import Iterable

from diagnosis.workloads.contract import Claim, Documented, Found, quoted
from diagnosis.workloads.evidence import of_object
from diagnosis.workloads.fields import text
from diagnosis.workloads.restarts import Ending
from diagnosis.workloads.scope import Scope
from incidents.models import CauseClass, Severity

NAME = "native_crash"
READS = ("Pod",)
RULED_OUT = "a crash of native code: no container ended by a signal that dumps core"
CAUSES = {
    CauseClass.NATIVE_CRASH: Documented(
        "A signal of the program's own making ended it (a segmentation fault, an abort and the like); its "
        "core says more.",
        "The exit code that stands for the signal, in the container's status.",
        "A rollback where an earlier revision was seen healthy; the fault itself is in the program.",
    ),
}


def find(scope: Scope) -> Iterable[Found]:
    now = scope.snapshot.observed_at
    for container in scope.troubled:
        crash = next((e for e in scope.recent_endings(container) if e.ending is Ending.CRASH_SIGNAL), None)
        if crash is None:
            continue
        name = crash.signal_name
        times = f", {container.restarts} restarts so far" if container.restarts else ""
        claims = [
            Claim(
                f"Container {container.name} of pod {container.pod_name} was ended by {name} "
                f"(exit code {crash.exit_code}){times}",
                [of_object(container.pod, crash.at, now)],
                Severity.CRITICAL,
            )
        ]
        log = scope.log(container, crash)
        line = log.telling_line() if log else None
        if log and line and line.strength >= 2:
            claims.append(Claim(f"Its log says {quoted(line.text)}", [log.evidence(line, now)]))
        owner = scope.owner(container)
        yield Found(
            CauseClass.NATIVE_CRASH,
            owner,
            0.95,
            f"Container {container.name} of {owner.kind} {owner.name} crashes by {name} (exit code {crash.exit_code}).",
            claims,
            facts={
                "signal": crash.signal,
                "signal_name": name,
                "exit_code": crash.exit_code,
                "pod": container.pod_name,
                "pod_uid": container.pod_uid,
                "container": container.name,
                "node": text(container.pod, "spec", "nodeName") or None,
                "image": text(container.status, "imageID") or container.image or None,
                "core_expected": True,
                "restarts": container.restarts,
            },
            place=container.pod_name,
            next_steps=[
                f"Analyse the core that {name} leaves: `paramedic diagnose core CORE --exe PROGRAM` names function "
                "and line",
            ],
        )
