"""A CronJob that makes no jobs: suspended after it used to run, or never due, forbidden or too late to start.

A CronJob that was made suspended and never ran is as its author wants it. Rules: the controller's own (kubernetes/pkg/
controller/cronjob): more than 100 missed starts without a starting deadline are given up.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from diagnosis.workloads.contract import Claim, Documented, Found, quoted
from diagnosis.workloads.evidence import of_event, of_object
from diagnosis.workloads.fields import Object, number, objects, pick, text, when
from diagnosis.workloads.schedule import Schedule
from diagnosis.workloads.scope import Scope
from incidents.models import CauseClass, Fact, ObjectRef

NAME = "cron_job"
READS = ("CronJob", "Event")
RULED_OUT = "cron jobs: each that should have run has run"
CAUSES = {
    CauseClass.CRON_JOB_SUSPENDED: Documented(
        "A CronJob that used to run is suspended, and runs have been missed since.",
        "Its spec, the time of its last run, and its schedule.",
        "Resuming it, once it is known why it was suspended.",
    ),
    CauseClass.CRON_JOB_NEVER_SCHEDULED: Documented(
        "A CronJob makes no job: no date fulfils its schedule, a job of it hangs and forbids others, its starting "
        "deadline is shorter than its controller's round, or more than a hundred starts were missed.",
        "The controller's events, the schedule, the times of its last runs, and its active jobs.",
        "A person corrects the schedule, the deadline or the hanging job.",
    ),
}
_LATE = timedelta(minutes=3)
_ROUND = 10  # seconds between two looks of the controller
_TOO_MANY = "too many missed start time"


def find(scope: Scope) -> Iterable[Found]:
    for ref in scope.workloads:
        item = scope.snapshot.get("CronJob", ref.namespace, ref.name) if ref.kind == "CronJob" else None
        if item is not None and not text(item, "metadata", "deletionTimestamp"):
            found = _suspended(scope, ref, item) if pick(item, "spec", "suspend") is True else _silent(scope, ref, item)
            if found is not None:
                yield found


def _suspended(scope: Scope, ref: ObjectRef, item: Object) -> Found | None:
    now, last = scope.snapshot.observed_at, when(item, "status", "lastScheduleTime")
    schedule = Schedule.read(text(item, "spec", "schedule"))
    due = schedule.next_after(last) if schedule and last else None
    if last is None or due is None or due > now - _LATE:
        return None  # never ran, or nothing was missed yet
    claims = [
        Claim(f"CronJob {ref.name} is suspended", [of_object(item, "/spec/suspend", now)]),
        Claim(f"It ran last at {last:%Y-%m-%d %H:%M:%SZ} and was due at {due:%Y-%m-%d %H:%M:%SZ}",
              [of_object(item, "/status/lastScheduleTime", now), of_object(item, "/spec/schedule", now)]),
    ]  # fmt: skip
    return Found(
        CauseClass.CRON_JOB_SUSPENDED,
        ref,
        0.9,
        f"CronJob {ref.name} is suspended, and has missed its runs since {due:%Y-%m-%d %H:%M}.",
        claims,
        facts={"suspended": True, "last_run": last.isoformat(), "missed_since": due.isoformat()},
        next_steps=[f"Resume CronJob {ref.name} once it is known why it was suspended"],
    )


def _silent(scope: Scope, ref: ObjectRef, item: Object) -> Found | None:
    now = scope.snapshot.observed_at
    expression, last = text(item, "spec", "schedule"), when(item, "status", "lastScheduleTime")
    schedule = Schedule.read(expression)
    shown = of_object(item, "/spec/schedule", now)
    events = scope.snapshot.events_for("CronJob", ref.namespace, ref.name, text(item, "metadata", "uid"))
    told = [e for e in events if e.warning and (last is None or e.last is None or e.last > last)]
    facts: dict[str, Fact] = {"schedule": expression, "last_run": last.isoformat() if last else None}
    if missed := [event for event in told if _TOO_MANY in event.message]:
        claim = Claim(f"The controller says {quoted(missed[-1].message)}", [of_event(missed[-1], now)])
        why = "more than a hundred starts were missed, and its controller gave up"
        return _found(ref, "too_many_missed", why, facts, [claim, Claim("This is its schedule", [shown])], 0.95)
    if unread := [
        event for event in told if "unparseable" in event.message.lower() or "UnparseableSchedule" in event.reason
    ]:
        claim = Claim(f"The controller says {quoted(unread[-1].message)}", [of_event(unread[-1], now)])
        return _found(ref, "bad_schedule", f"its schedule {expression} is not understood", facts, [claim], 0.95)
    if schedule is None:
        return None
    if schedule.next_after(last or now) is None:
        claim = Claim(f"No date fulfils the schedule {quoted(expression)}", [shown])
        return _found(ref, "impossible_schedule", f"no date fulfils its schedule {expression}", facts, [claim], 0.95)
    began = last or when(item, "metadata", "creationTimestamp")
    due = schedule.next_after(began) if began else None
    if due is None or due > now - timedelta(seconds=30):
        return None
    return _overdue(scope, ref, item, due, facts)


def _overdue(scope: Scope, ref: ObjectRef, item: Object, due: datetime, facts: dict[str, Fact]) -> Found | None:
    now = scope.snapshot.observed_at
    active = [text(entry, "name") for entry in objects(item, "status", "active") if text(entry, "name")]
    facts = {**facts, "due": due.isoformat()}
    times = Claim(f"A run was due at {due:%Y-%m-%d %H:%M:%SZ}", [of_object(item, "/spec/schedule", now)])
    if text(item, "spec", "concurrencyPolicy") == "Forbid" and active:
        shown = [of_object(item, "/status/active", now), of_object(item, "/spec/concurrencyPolicy", now)]
        claim = Claim(f"Job {active[0]} is still active, and no other may run beside it", shown)
        facts |= {"active_job": active[0]}
        why = f"its job {active[0]} has not ended, and no other may run beside it"
        return _found(ref, "forbidden_by_running_job", why, facts, [claim, times], 0.85)
    deadline = number(item, "spec", "startingDeadlineSeconds")
    if deadline is not None and deadline < _ROUND:
        shown_deadline = of_object(item, "/spec/startingDeadlineSeconds", now)
        claim = Claim(f"It may start at most {deadline} s late, and is looked at every {_ROUND} s", [shown_deadline])
        facts |= {"starting_deadline_seconds": deadline}
        return _found(ref, "deadline_too_short", f"its starting deadline of {deadline} s is too short", facts,
                      [claim, times], 0.85)  # fmt: skip
    return None


def _found(
    ref: ObjectRef, kind: str, why: str, facts: dict[str, Fact], claims: list[Claim], confidence: float
) -> Found:
    return Found(
        CauseClass.CRON_JOB_NEVER_SCHEDULED,
        ref,
        confidence,
        f"CronJob {ref.name} makes no job: {why}.",
        claims,
        facts={"why": kind, **facts},
        next_steps=[f"Correct what keeps CronJob {ref.name} from making jobs: {why}"],
    )
