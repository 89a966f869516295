"""Let go on what somebody stopped: a paused rollout, a suspended CronJob."""

from __future__ import annotations

from actions.catalogue.draft import Draft, patch_write, read_target
from actions.objects import container_names, normalise, replicas, template_of, title
from actions.patches import ABSENT, Change
from errors import Refused
from incidents.actions import ResumeCronJob, ResumeRollout
from incidents.plan import Risk
from tools.kubernetes.client import Cluster


async def derive_rollout(cluster: Cluster, action: ResumeRollout) -> Draft:
    """Raises Refused unless the Deployment is paused."""
    live = await read_target(cluster, action.target, ("Deployment",))
    if not (live.get("spec") or {}).get("paused"):
        raise Refused(f"{title(live)} is not paused")
    change = Change("/spec/paused", True, ABSENT)
    return Draft(
        title=f"Resume the rollout of {title(live)}",
        writes=[patch_write(live, [], [change])],
        risk=Risk.MEDIUM,
        blast_radius=f"rolls out what was changed while it was paused: up to {replicas(live)} pod(s) of {title(live)}",
        affected_pods=replicas(live),
        preimage=normalise(live),
        changes=[change],
        allowed=[change.path],
        containers=container_names(template_of(live)),
    )


async def derive_cron_job(cluster: Cluster, action: ResumeCronJob) -> Draft:
    """Raises Refused unless the CronJob is suspended."""
    live = await read_target(cluster, action.target, ("CronJob",))
    spec = live.get("spec") or {}
    if not spec.get("suspend"):
        raise Refused(f"{title(live)} is not suspended")
    change = Change("/spec/suspend", True, False)
    deadline = spec.get("startingDeadlineSeconds")
    missed = f"missed within the last {deadline} s" if deadline is not None else "missed last"  # one run, at most
    return Draft(
        title=f"Let {title(live)} run by its schedule again",
        writes=[patch_write(live, [], [change])],
        risk=Risk.MEDIUM,
        blast_radius=f"its Jobs start by schedule {spec.get('schedule')}; a run {missed} may start at once",
        affected_pods=0,
        preimage=normalise(live),
        changes=[change],
        allowed=[change.path],
    )
