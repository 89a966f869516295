"""Instances of the software that the configuration's rules know, as they are on the cluster now."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field

from api.auth import Reader
from api.dependencies import services_of
from api.problems import RESPONSES
from diagnosis.workloads.fields import text
from errors import ToolMissing
from incidents.database import utcnow
from incidents.models import ObjectRef
from tools.kubernetes.instances import discover

router = APIRouter(prefix="/api/v1", tags=["instances"], responses=RESPONSES)


class InstancePod(BaseModel):
    name: str
    node: str | None
    workload: ObjectRef
    version: str | None
    ready: bool
    restarts: int = Field(description="Of all containers together, as the kubelet counts them")


class InstanceAnswer(BaseModel):
    rule: str
    namespace: str
    name: str
    versions: list[str]
    workloads: list[ObjectRef]
    pods: list[InstancePod]
    restarts: int
    crashes: int = Field(description="On record within the policy's window")


class InstancesAnswer(BaseModel):
    mode: Literal["propose", "dry-run", "off"] = Field(description="Of the policy; off: no crash is counted")
    threshold: int = Field(description="More crashes than this within the window are a storm")
    window_seconds: float
    instances: list[InstanceAnswer]


@router.get("/instances")
async def instances(
    request: Request,
    _: Reader,
    namespace: Annotated[str | None, Query(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")] = None,
) -> InstancesAnswer:
    """Instances with their pods, versions, restarts, and the crashes on record. 503 without a cluster."""
    services = services_of(request)
    if services.cluster is None:
        raise ToolMissing("no cluster is connected, so there are no instances to list")
    policy = services.settings.policy
    counts = await services.storms.counts(utcnow() - timedelta(seconds=policy.window_seconds))
    found = await discover(services.cluster, services.settings.instances, [namespace] if namespace else [])
    answers = []
    for one in found:
        pods = [
            InstancePod(
                name=member.name,
                node=text(member.pod, "spec", "nodeName") or None,
                workload=member.workload,
                version=member.version,
                ready=member.ready,
                restarts=member.restarts,
            )
            for member in one.members
        ]
        answers.append(
            InstanceAnswer(
                rule=one.rule,
                namespace=one.namespace,
                name=one.name,
                versions=one.versions,
                workloads=one.workloads,
                pods=pods,
                restarts=sum(pod.restarts for pod in pods),
                crashes=counts.get(one.key, 0),
            )
        )
    return InstancesAnswer(
        mode=policy.mode, threshold=policy.threshold, window_seconds=policy.window_seconds, instances=answers
    )
