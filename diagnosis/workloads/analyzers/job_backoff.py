"""A Job that its controller gave up: too many failures, or too long. Why its pods failed, where that is known, explains
it, and is found elsewhere."""

from __future__ import annotations

from collections.abc import Iterable

from diagnosis.workloads.contract import Claim, Documented, Found, quoted
from diagnosis.workloads.evidence import of_event, of_object
from diagnosis.workloads.fields import Object, condition, mapping, number, objects, pick, text
from diagnosis.workloads.scope import Scope
from diagnosis.workloads.snapshot import ref_of
from incidents.models import CauseClass, Fact, ObjectRef

NAME = "job_backoff"
READS = ("Job",)
RULED_OUT = "jobs: no Job was given up by its controller"
CAUSES = {
    CauseClass.JOB_BACKOFF: Documented(
        "A Job was given up: it failed more often than its back-off limit allows, or ran past its deadline.",
        "The Job's own Failed condition and events.",
        "None by rule: a Job may not be safe to run twice. A person starts it again once its pods' fault is known.",
    )
}


def find(scope: Scope) -> Iterable[Found]:
    wanted = set(scope.workloads)
    for item in scope.snapshot.all("Job"):
        ref, top = ref_of(item), scope.snapshot.workload_of(item)
        failed = condition(item, "Failed")
        if failed.get("status") == "True" and (ref in wanted or top in wanted) and not _got_over(scope, item, top):
            yield _found(scope, item, top, failed)


def _got_over(scope: Scope, item: Object, top: ObjectRef) -> bool:
    """Whether its CronJob has made a later Job that completed."""
    owner = scope.snapshot.get(top.kind, top.namespace, top.name)
    if top.kind != "CronJob" or owner is None:
        return False
    made = text(item, "metadata", "creationTimestamp")
    return any(
        text(other, "metadata", "creationTimestamp") > made and condition(other, "Complete").get("status") == "True"
        for other in scope.snapshot.owned_by(owner, "Job")
    )


def _found(scope: Scope, item: Object, top: ObjectRef, failed: Object) -> Found:
    now, name = scope.snapshot.observed_at, text(item, "metadata", "name")
    reason, message = text(failed, "reason"), text(failed, "message")
    index = next(i for i, c in enumerate(objects(item, "status", "conditions")) if c.get("type") == "Failed")
    claims = [Claim(f"The controller gave up Job {name} ({reason or 'no reason given'})",
                    [of_object(item, f"/status/conditions/{index}", now)])]  # fmt: skip
    events = scope.snapshot.events_for("Job", text(item, "metadata", "namespace"), name, text(item, "metadata", "uid"))
    told = [event for event in events if event.warning]
    if told:
        claims.append(Claim(f"Its event says {quoted(told[-1].message)}", [of_event(told[-1], now)]))
    facts: dict[str, Fact] = {
        "reason": reason or None,
        "failed_pods": number(item, "status", "failed"),
        "backoff_limit": number(item, "spec", "backoffLimit"),
        "active_deadline_seconds": number(item, "spec", "activeDeadlineSeconds"),
        "job": name,
    }
    facts |= _exits(scope, item)
    if reason == "DeadlineExceeded":
        why = f"it ran longer than its {facts['active_deadline_seconds']} s"
    elif pick(item, "status", "failed"):
        why = f"{facts['failed_pods']} of its pods failed, {facts['backoff_limit']} may"
    else:
        why = message.strip(" .") or "its pods failed too often"
    exits = f"; exit codes {facts['exit_codes']}" if facts.get("exit_codes") else ""
    return Found(
        CauseClass.JOB_BACKOFF,
        top if top.kind == "CronJob" else ref_of(item),
        0.9,
        f"Job {name} was given up: {why}{exits}.",
        claims,
        facts=facts,
        subject=name,
        next_steps=[f"Find out why the pods of Job {name} failed, then run it again"],
    )


def _exits(scope: Scope, item: Object) -> dict[str, Fact]:
    codes = {
        str(code)
        for pod in scope.snapshot.owned_by(item, "Pod")
        for status in objects(pod, "status", "containerStatuses")
        if (code := number(mapping(status, "state", "terminated"), "exitCode"))
    }
    return {"exit_codes": ", ".join(sorted(codes))} if codes else {}
