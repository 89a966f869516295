"""A probe that asks the wrong question: port, path, scheme or timing. Suggestions come from observation only.

That a probe fails is no proof that it is wrong: a program that crashes, hangs or says 503 is not. A port is called
wrong when the program is seen to listen elsewhere, a path when the program answers that it has none, timing when the
container is killed at the first opportunity although nothing contradicts port and path.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

from diagnosis.workloads.containers import Container
from diagnosis.workloads.contract import Claim, Documented, Found, quoted
from diagnosis.workloads.events import Event
from diagnosis.workloads.evidence import of_event, of_object
from diagnosis.workloads.fields import strings, text
from diagnosis.workloads.probe_advice import Advice, advise
from diagnosis.workloads.probes import KINDS, Probe, Symptom, listening_in, port_number, probe_of, telling_failure
from diagnosis.workloads.restarts import Ending, Restart
from diagnosis.workloads.scope import Scope
from incidents.models import CauseClass, Fact

NAME = "wrong_probe"
READS = ("Pod", "Event")
RULED_OUT = "probes: no container was killed or kept from being ready by a failed probe"
CAUSES = {
    CauseClass.WRONG_LIVENESS_PROBE: Documented(
        "The liveness probe asks the wrong question and kills a program that works.",
        "The kubelet's record of the failing probe, and what the container is seen to listen on, to answer, "
        "or how long it took to start.",
        "The probe's port, path, scheme or timing as observed; none where nothing shows what would be right.",
    ),
    CauseClass.WRONG_READINESS_PROBE: Documented(
        "The readiness probe asks the wrong question and keeps a program that works out of service.",
        "The kubelet's record of the failing probe, and what the container is seen to listen on, to answer, "
        "or how long it took to start.",
        "The probe's port, path, scheme or timing as observed; none where nothing shows what would be right.",
    ),
    CauseClass.WRONG_STARTUP_PROBE: Documented(
        "The startup probe asks the wrong question and kills a program before it has started.",
        "The kubelet's record of the failing probe, and what the container is seen to listen on, to answer, "
        "or how long it took to start.",
        "The probe's port, path, scheme or timing as observed; none where nothing shows what would be right.",
    ),
}

_CLASSES = {
    "liveness": CauseClass.WRONG_LIVENESS_PROBE,
    "readiness": CauseClass.WRONG_READINESS_PROBE,
    "startup": CauseClass.WRONG_STARTUP_PROBE,
}
_KILLS = {Ending.LIVENESS_KILL: "liveness", Ending.STARTUP_KILL: "startup"}
_ANSWERS = {
    Symptom.NOT_FOUND,
    Symptom.SPEAKS_HTTP,
    Symptom.SPEAKS_HTTPS,
    Symptom.NAMED_PORT,
    Symptom.COMMAND_MISSING,
    Symptom.NO_HEALTH_SERVICE,
    Symptom.UNKNOWN_SERVICE,
}
_SETTLING = timedelta(seconds=5)


def find(scope: Scope) -> Iterable[Found]:
    for container in scope.troubled:
        endings = scope.recent_endings(container)
        for kind in KINDS:
            probe = probe_of(container.spec, kind)
            if probe is None:
                continue
            told = telling_failure(probe, scope.container_events(container))
            killed = next((e for e in endings if _KILLS.get(e.ending) == kind), None)
            if told is None and killed is None:
                continue
            symptom = told[1] if told else Symptom.OTHER
            if killed is not None or _keeps_unready(scope, container, probe, endings, symptom):
                yield from _found(scope, container, probe, told[0] if told else None, symptom, killed)


def _keeps_unready(scope: Scope, container: Container, probe: Probe, endings: list[Restart], symptom: Symptom) -> bool:
    """Whether a probe that does not kill is what keeps a running container from being ready."""
    started = scope.ran_since(container)
    if probe.kind == "liveness" or container.ready or not (container.running or started):
        return False
    if any(ending.ending not in _KILLS for ending in endings):
        return False  # it ends by itself; between two ends no probe can succeed
    waits_for_startup = container.status.get("started") is False and "startupProbe" in container.spec
    if probe.kind == "readiness" and waits_for_startup:
        return False
    if endings:
        return symptom in _ANSWERS
    ran = scope.snapshot.observed_at - started if started else _SETTLING
    log = scope.log(container)
    listens = log is not None and bool(listening_in(log.lines))  # it has started, then
    return symptom in _ANSWERS or ran >= timedelta(seconds=probe.budget) + (_SETTLING if not listens else timedelta(0))


def _found(
    scope: Scope, container: Container, probe: Probe, event: Event | None, symptom: Symptom, killed: Restart | None
) -> Iterable[Found]:
    now, owner = scope.snapshot.observed_at, scope.owner(container)
    claims = []
    if killed is not None:
        evidence = [of_object(container.pod, killed.at, now)]
        evidence += [of_event(killed.event, now)] if killed.event is not None else []
        where = f"container {container.name} of pod {container.pod_name}"
        if killed.event is not None and killed.event.reason == "Killing":
            said = f"The kubelet killed {where} for its failed {probe.kind} probe; exit code {killed.exit_code}"
        else:
            said = f"A failed {probe.kind} probe came just before the end of {where}; exit code {killed.exit_code}"
        claims.append(Claim(said, evidence))
    if event is not None:
        claims.append(Claim(f"The kubelet says {quoted(event.message)}", [of_event(event, now)]))
    shown = of_object(container.pod, f"{container.spec_at}/{probe.kind}Probe", now)
    claims.append(Claim(f"The {probe.kind} probe asks {describe(probe)}", [shown]))
    advice = advise(scope, container, probe, symptom, killed)
    claims += advice.claims
    if advice.field is None:
        yield Found(
            advice.cause or CauseClass.UNKNOWN,
            owner,
            advice.confidence,
            f"Container {container.name} of {owner.kind} {owner.name} fails its {probe.kind} probe: {advice.why}.",
            claims,
            facts={"probe": probe.kind},
            place=container.pod_name,
            next_steps=[f"Look at what container {container.name} does when its {probe.kind} probe fails"],
        )
        return
    facts: dict[str, Fact] = {"probe": probe.kind, "field": advice.field, "observed": _observed(probe, advice.field)}
    facts |= {"suggested": advice.suggested, "suggested_from": advice.suggested_from, **advice.more}
    yield Found(
        _CLASSES[probe.kind],
        owner,
        advice.confidence,
        f"The {probe.kind} probe of container {container.name} in {owner.kind} {owner.name} has the wrong "
        f"{advice.field}: {advice.why}.",
        claims,
        facts=facts,
        place=container.pod_name,
        next_steps=[_step(container, probe, advice)],
    )


def describe(probe: Probe) -> str:
    """A probe in words."""
    timing = f"every {probe.period} s, {probe.failure_threshold} failures count"
    if probe.handler == "httpGet":
        return f"{probe.scheme} {probe.path} on port {probe.port}, {timing}"
    if probe.handler in ("tcpSocket", "grpc"):
        return f"{'TCP' if probe.handler == 'tcpSocket' else 'gRPC'} port {probe.port}, {timing}"
    return f"a command, {timing}"


def _observed(probe: Probe, field: str) -> Fact:
    if field == "timing":
        return f"{probe.budget} s"
    values: dict[str, Fact] = {"port": probe.port, "path": probe.path, "scheme": probe.scheme, "handler": probe.handler}
    values["service"] = text(probe.raw, "grpc", "service") or None
    values["command"] = " ".join(strings(probe.raw, "exec", "command")) or None
    return values.get(field)


def _step(container: Container, probe: Probe, advice: Advice) -> str:
    what = f"the {probe.kind} probe of container {container.name}"
    if advice.suggested is not None:
        return f"Set the {advice.field} of {what} to {advice.suggested} ({advice.suggested_from})"
    if advice.field == "timing":
        return f"Give {what} more time: {advice.suggested_from}"
    listens = port_number(probe.port, container.ports())
    return f"Find out which {advice.field} answers (now {probe.path or listens}) and correct {what}"
