"""What leads to pods, and what was stopped: Services, replicas, paused rollouts, suspended CronJobs."""

from __future__ import annotations

from agents.remedies.configuration import OFFERS as CONFIGURATION
from agents.remedies.remedy import Offers, Remedy, bare, because, number, pairs, words
from incidents.actions import ChangeService, DeletePod, ResumeCronJob, ResumeRollout, Scale
from incidents.models import Cause, CauseClass, ObjectRef

_PROTOCOLS = ("TCP", "UDP", "SCTP")


def _selector(cause: Cause) -> list[Remedy]:
    selector = pairs(cause, "suggested_selector")
    if not selector or cause.object.kind != "Service":
        return []
    said = ", ".join(f"{key}={value}" for key, value in sorted(selector.items()))
    return [
        Remedy(
            f"Let Service {cause.object.name} select {said}",
            because(cause),
            action=ChangeService(target=bare(cause.object), selector=selector),
        )
    ]


def _port(cause: Cause) -> list[Remedy]:
    if cause.object.kind != "Service":
        # the client is wrong, not the Service: it speaks another scheme than the other side
        return CONFIGURATION[CauseClass.WRONG_DEPENDENCY_ADDRESS](cause)
    goal = number(cause, "suggested_target_port") or words(cause, "suggested_target_port")
    protocol = words(cause, "suggested_protocol")
    if goal is None and protocol not in _PROTOCOLS:
        return []
    action = ChangeService.model_validate(
        {
            "target": bare(cause.object),
            "port": number(cause, "port"),
            "target_port": goal,
            "protocol": protocol if protocol in _PROTOCOLS else None,
        }
    )
    said = " ".join(str(part) for part in (action.protocol, "port", goal) if part)
    return [Remedy(f"Let Service {cause.object.name} lead to {said} of its pods", because(cause), action=action)]


def _scale(cause: Cause) -> list[Remedy]:
    replicas = number(cause, "suggested_replicas")
    if replicas is None or replicas < 1 or cause.object.kind not in ("Deployment", "StatefulSet"):
        return []
    return [
        Remedy(
            f"Scale {cause.object.name} to {replicas}",
            because(cause),
            action=Scale(target=bare(cause.object), replicas=replicas),
        )
    ]


def _resume(cause: Cause) -> list[Remedy]:
    if cause.facts.get("paused") is not True or cause.object.kind != "Deployment":
        return []
    return [
        Remedy(
            f"Resume the rollout of {cause.object.name}",
            f"{cause.summary} Who paused it, and why, is not in the cluster: approve it only if that is over.",
            action=ResumeRollout(target=bare(cause.object)),
        )
    ]


def _unblock(cause: Cause) -> list[Remedy]:
    """The controller waits for a pod of the template before the correction: it does not replace it by itself."""
    pod = words(cause, "pod")
    if pod is None or cause.facts.get("template_corrected") is not True:
        return []
    return [
        Remedy(
            f"Delete pod {pod}: {cause.object.name} makes it again from the corrected template",
            cause.summary,
            action=DeletePod(target=ObjectRef(kind="Pod", namespace=cause.object.namespace, name=pod)),
        )
    ]


def _unsuspend(cause: Cause) -> list[Remedy]:
    if cause.object.kind != "CronJob":
        return []
    return [
        Remedy(
            f"Let CronJob {cause.object.name} run by its schedule again",
            f"{cause.summary} Who suspended it, and why, is not in the cluster: approve it only if that is over.",
            action=ResumeCronJob(target=bare(cause.object)),
        )
    ]


OFFERS: dict[CauseClass, Offers] = {
    CauseClass.SERVICE_SELECTOR_MISMATCH: _selector,
    CauseClass.SERVICE_WITHOUT_ENDPOINTS: _selector,
    CauseClass.SERVICE_WRONG_TARGET_PORT: _port,
    CauseClass.SERVICE_WRONG_PROTOCOL: _port,
    CauseClass.ZERO_REPLICAS: _scale,
    CauseClass.ROLLOUT_STUCK: _resume,
    CauseClass.CRON_JOB_SUSPENDED: _unsuspend,
    CauseClass.STATEFUL_SET_BLOCKED: _unblock,
}
