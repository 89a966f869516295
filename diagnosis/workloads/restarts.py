"""Why a container instance ended, from its status joined with the kubelet's events. Rules, not an exit code table.

- The kubelet never writes "liveness" into `terminated.reason`: a probe kill is known only by its `Killing` event of
  that container, and the program may then leave with any code (0 and 143 when it obeys SIGTERM, 137 when it does not).
- `OOMKilled` is 137 too, or any other code when a child of the main process was the victim.
- 128+n is a crash only for signals that dump core by default (signal(7)); 143 and 137 are someone's wish.
- 126, 127 and the runtime's own start errors mean that the program did not start.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from diagnosis.workloads.containers import Container
from diagnosis.workloads.events import Event
from diagnosis.workloads.fields import Object, condition, mapping, number, pick, text, when

CORE_SIGNALS = frozenset(
    {
        signal.SIGQUIT,
        signal.SIGILL,
        signal.SIGTRAP,
        signal.SIGABRT,
        signal.SIGBUS,
        signal.SIGFPE,
        signal.SIGSEGV,
        signal.SIGXCPU,
        signal.SIGXFSZ,
        signal.SIGSYS,
    }
)
"""Signals whose default action is to dump core (signal(7))."""

START_REASONS = frozenset({"StartError", "ContainerCannotRun", "RunContainerError", "CreateContainerError"})
_EVICTION_REASONS = frozenset({"Evicted", "Preempting", "Preempted"})
_NODE_REASONS = frozenset({"NodeLost", "NodeShutdown", "Shutdown", "Terminated", "NodeAffinity", "Terminating"})
_EVENT_GAP = timedelta(minutes=6)
_CLOCK = timedelta(seconds=3)  # event and status times have whole seconds and come from different places


class Ending(StrEnum):
    """What ended a container instance."""

    CRASH_SIGNAL = "crash_signal"
    OOM_KILLED = "oom_killed"
    LIVENESS_KILL = "liveness_kill"
    STARTUP_KILL = "startup_kill"
    NOT_STARTED = "not_started"
    EXIT_CODE = "exit_code"
    EVICTED = "evicted"
    NODE_LOST = "node_lost"
    STOPPED = "stopped"  # asked to end: a deleted pod, a rollout, SIGTERM from outside
    KILLED = "killed"  # SIGKILL, and nothing seen says by whom
    COMPLETED = "completed"


@dataclass(frozen=True, eq=False)
class Restart:
    """One ended instance of a container. `at` is the JSON pointer of its terminated state in the pod."""

    container: Container
    ending: Ending
    exit_code: int | None
    signal: int | None
    reason: str
    message: str
    started: datetime | None
    finished: datetime | None
    at: str
    is_last_state: bool
    why: str
    event: Event | None = None

    @property
    def lifetime(self) -> timedelta | None:
        return self.finished - self.started if self.started and self.finished else None

    @property
    def signal_name(self) -> str | None:
        return signal_name(self.signal)


def signal_name(value: int | None) -> str | None:
    try:
        return signal.Signals(value).name if value else None
    except ValueError:
        return f"signal {value}"


def restarts_of(container: Container, events: list[Event]) -> list[Restart]:
    """The ended instances that the status still shows (at most two), newest first.

    `events` are those of the container's pod.
    """
    mine = [event for event in events if event.container in (container.name, None)]
    found = []
    for field, is_last in (("state", False), ("lastState", True)):
        terminated = pick(container.status, field, "terminated")
        if isinstance(terminated, dict):
            found.append(_classify(container, terminated, f"{container.status_at}/{field}/terminated", is_last, mine))
    return found


def _classify(container: Container, state: Object, at: str, is_last: bool, events: list[Event]) -> Restart:
    code, reason = number(state, "exitCode"), text(state, "reason")
    number_of_signal = _signal(code, number(state, "signal"))
    started, finished = _real(when(state, "startedAt")), _real(when(state, "finishedAt"))
    kill = _probe_kill(container, events, started, finished, number_of_signal)
    ending, why, event = _ending(container, code, reason, number_of_signal, kill, is_last)
    return Restart(
        container=container,
        ending=ending,
        exit_code=code,
        signal=number_of_signal,
        reason=reason,
        message=text(state, "message"),
        started=started,
        finished=finished,
        at=at,
        is_last_state=is_last,
        why=why,
        event=event,
    )


def _ending(
    container: Container, code: int | None, reason: str, number_of_signal: int | None, kill: Event | None, is_last: bool
) -> tuple[Ending, str, Event | None]:
    pod_reason = text(container.pod, "status", "reason")
    if reason == "OOMKilled":
        return Ending.OOM_KILLED, "the runtime reports OOMKilled", None
    if kill is not None:
        startup = "startup probe" in kill.message.lower()
        which = "startup" if startup else "liveness"
        return (
            Ending.STARTUP_KILL if startup else Ending.LIVENESS_KILL,
            f"the kubelet killed it for its {which} probe",
            kill,
        )
    if reason in START_REASONS or (code == 128 and number_of_signal is None and reason not in ("Error", "Completed")):
        return Ending.NOT_STARTED, f"the runtime could not start it ({reason or 'exit code 128'})", None
    if not is_last and pod_reason in _EVICTION_REASONS:
        return Ending.EVICTED, f"the pod was evicted ({pod_reason})", None
    lost = reason in ("ContainerStatusUnknown", "Unknown") or (not is_last and pod_reason in _NODE_REASONS)
    if lost:
        return Ending.NODE_LOST, "the node or its runtime lost the container", None
    if number_of_signal in CORE_SIGNALS:
        return Ending.CRASH_SIGNAL, f"{signal_name(number_of_signal)} ended it", None
    if code in (126, 127):
        return Ending.NOT_STARTED, f"exit code {code}: the command was not found or may not be executed", None
    if number_of_signal in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        return Ending.STOPPED, f"{signal_name(number_of_signal)} asked it to end", None
    if number_of_signal == signal.SIGKILL:
        if _being_deleted(container.pod):
            return Ending.STOPPED, "the pod is being deleted and it did not end in its grace period", None
        return Ending.KILLED, "SIGKILL ended it; neither OOM, probe nor eviction is recorded", None
    if code == 0:
        return Ending.COMPLETED, "it ended by itself with exit code 0", None
    if code is None:
        return Ending.NODE_LOST, "no exit code is recorded", None
    return Ending.EXIT_CODE, f"it ended by itself with exit code {code}", None


def _signal(code: int | None, field: int | None) -> int | None:
    """The signal by the runtime's own field, else by the shell's convention 128+n for signals 1 to 31."""
    if field:
        return field
    if code is not None and 128 < code <= 128 + 31:
        return code - 128
    return None


def _probe_kill(
    container: Container,
    events: list[Event],
    started: datetime | None,
    finished: datetime | None,
    number_of_signal: int | None,
) -> Event | None:
    """The event that shows that a failed probe ended this instance, joined by container and time; None if none does.

    The kubelet limits its events (a burst of 25 for an object, then one in five minutes: client-go's spam filter), so
    in a crash loop the last `Killing` event can be older than the last kill. Then a failed probe just before the end
    tells, or an end by 137 or 143 soon after such a kill.
    """
    kills = [event for event in reversed(events) if _is_probe_kill(event, container)]
    if finished is None:
        return kills[0] if kills else None
    grace = timedelta(seconds=_grace(container)) + _CLOCK
    for event in kills:
        if event.first is None or event.last is None:
            return event
        if event.last - _CLOCK <= finished <= event.last + grace:
            return event
        if started and started <= event.last <= finished:
            return event
        inside = event.count > 1 and event.first - _CLOCK <= finished <= event.last + grace
        if inside and number_of_signal not in CORE_SIGNALS:
            return event
    by_signal = number_of_signal in (signal.SIGKILL, signal.SIGTERM)
    if (kills and number_of_signal not in CORE_SIGNALS) or by_signal:
        failed = _failed_probe_before(container, events, finished, grace)
        if failed is not None:
            return failed
    lately = [event for event in kills if event.last and timedelta(0) <= finished - event.last <= _EVENT_GAP]
    # a program that obeys SIGTERM ends with 0: then it must also have lived as long as the probe needs to fail
    if not lately or (number_of_signal is not None and not by_signal):
        return None
    return lately[0] if by_signal or _lived_until_killed(container, started, finished) else None


def _lived_until_killed(container: Container, started: datetime | None, finished: datetime) -> bool:
    """Whether the instance ended when its liveness or startup probe could have failed once too often, or soon after."""
    if started is None:
        return False
    for kind in ("startupProbe", "livenessProbe"):
        if not mapping(container.spec, kind):
            continue
        period = number(container.spec, kind, "periodSeconds") or 10
        failures = number(container.spec, kind, "failureThreshold") or 3
        least = (number(container.spec, kind, "initialDelaySeconds") or 0) + period * (failures - 1)
        lived = (finished - started).total_seconds()
        if least - 1 <= lived <= least + 2 * period + _grace(container) + _CLOCK.total_seconds():
            return True
    return False


def _is_probe_kill(event: Event, container: Container) -> bool:
    message = event.message.lower()
    named = event.container == container.name or f"container {container.name.lower()} " in message
    return event.reason == "Killing" and "failed" in message and "probe" in message and named


def _failed_probe_before(
    container: Container, events: list[Event], finished: datetime, grace: timedelta
) -> Event | None:
    """The failed liveness or startup probe just before an end."""
    for event in reversed(events):
        kind = event.message.split(" ", 1)[0].lower()
        killer = kind in ("liveness", "startup") and "probe" in event.message[:20]
        if event.reason != "Unhealthy" or event.container != container.name or not killer or event.last is None:
            continue
        period = number(container.spec, f"{kind}Probe", "periodSeconds") or 10
        if -_CLOCK <= finished - event.last <= grace + timedelta(seconds=2 * period):
            return event
    return None


def _grace(container: Container) -> int:
    """The seconds a container has to end: the probe's own value (since 1.25), else the pod's."""
    values = [
        number(container.spec, "livenessProbe", "terminationGracePeriodSeconds"),
        number(container.pod, "spec", "terminationGracePeriodSeconds"),
    ]
    found = [value for value in values if value is not None]
    return max(found, default=30)


def _being_deleted(pod: Object) -> bool:
    return bool(mapping(pod, "metadata").get("deletionTimestamp")) or bool(condition(pod, "DisruptionTarget"))


def _real(time: datetime | None) -> datetime | None:
    """The runtime writes 1970 (or year 1) for a container that never started."""
    return time if time and time.year > 1970 else None
