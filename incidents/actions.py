"""The typed actions: what is wanted. A model may suggest one; what is written is derived by `actions/catalogue`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from incidents.models import Frozen, ObjectRef

_NAME = r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$"
"""RFC 1123 subdomain: what the API server takes for a name."""


class ProbeKind(StrEnum):
    LIVENESS = "liveness"
    READINESS = "readiness"
    STARTUP = "startup"


class ChangeProbe(Frozen):
    """Change fields of an existing probe: port, path, scheme, timings. Removing a probe is not offered."""

    type: Literal["change_probe"] = "change_probe"
    target: ObjectRef
    container: str
    probe: ProbeKind
    port: int | str | None = None
    path: str | None = None
    scheme: Literal["HTTP", "HTTPS"] | None = None
    initial_delay_seconds: int | None = Field(default=None, ge=0, le=3600)
    timeout_seconds: int | None = Field(default=None, ge=1, le=300)
    period_seconds: int | None = Field(default=None, ge=1, le=600)
    failure_threshold: int | None = Field(default=None, ge=1, le=100)


class ChangeResources(Frozen):
    """Set requests or limits of one container, as Kubernetes quantities ("512Mi", "500m")."""

    type: Literal["change_resources"] = "change_resources"
    target: ObjectRef
    container: str
    memory_limit: str | None = None
    memory_request: str | None = None
    cpu_limit: str | None = None
    cpu_request: str | None = None


class RollbackRevision(Frozen):
    """Put back the pod template of an earlier revision of a Deployment, StatefulSet or DaemonSet."""

    type: Literal["rollback_revision"] = "rollback_revision"
    target: ObjectRef
    revision: int = Field(ge=1)


class Restart(Frozen):
    """Restart a workload's pods by its pod template annotation `kubectl.kubernetes.io/restartedAt`."""

    type: Literal["restart"] = "restart"
    target: ObjectRef


class Scale(Frozen):
    type: Literal["scale"] = "scale"
    target: ObjectRef
    replicas: int = Field(ge=0, le=1000)


class DeletePod(Frozen):
    """Delete one pod that a controller will replace."""

    type: Literal["delete_pod"] = "delete_pod"
    target: ObjectRef


class HelmRollbackAction(Frozen):
    type: Literal["helm_rollback"] = "helm_rollback"
    target: ObjectRef = Field(description="kind HelmRelease")
    revision: int = Field(ge=1)


class HelmUninstallAction(Frozen):
    type: Literal["helm_uninstall"] = "helm_uninstall"
    target: ObjectRef = Field(description="kind HelmRelease")


class ChangeConfigReference(Frozen):
    """Point every reference of a pod template to one ConfigMap or Secret (or to one key in it) to another that exists.

    With `container` only what that container itself reads; volumes belong to all.
    """

    type: Literal["change_config_reference"] = "change_config_reference"
    target: ObjectRef
    kind: Literal["ConfigMap", "Secret"]
    name: str = Field(description="As it is referred to now")
    key: str | None = Field(default=None, description="As it is referred to now; null: every reference to the object")
    to_name: str = Field(pattern=_NAME)
    to_key: str | None = Field(default=None, description="Only with `key`")
    container: str | None = None


class ChangeVariable(Frozen):
    """Replace the one place of `old` in a literal environment variable by `new`: another address of a dependency.

    Afterwards it leads to `host` (and `port`), which must be a Service that exists and offers the port.
    """

    type: Literal["change_variable"] = "change_variable"
    target: ObjectRef
    container: str
    variable: str
    old: str = Field(min_length=1, max_length=300)
    new: str = Field(min_length=1, max_length=300)
    host: str = Field(pattern=_NAME)
    port: int | None = Field(default=None, ge=1, le=65535)


class AddPullSecret(Frozen):
    """Name a Secret of type kubernetes.io/dockerconfigjson that exists under imagePullSecrets."""

    type: Literal["add_pull_secret"] = "add_pull_secret"
    target: ObjectRef
    secret: str = Field(pattern=_NAME)
    replaces: str | None = Field(default=None, description="A named pull secret that does not exist")


class RevertImage(Frozen):
    """Put back an image that an earlier revision had in this container: same repository, never another product."""

    type: Literal["revert_image"] = "revert_image"
    target: ObjectRef
    container: str
    image: str


class Toleration(Frozen):
    key: str
    value: str | None = None
    effect: Literal["NoSchedule", "NoExecute", "PreferNoSchedule"]


class ChangeScheduling(Frozen):
    """Add one toleration, or set keys of the node selector, so that a node exists that takes the pods."""

    type: Literal["change_scheduling"] = "change_scheduling"
    target: ObjectRef
    toleration: Toleration | None = None
    node_selector: dict[str, str] | None = Field(default=None, description="Keys that are there, with other values")


TemplateChange = Annotated[
    ChangeProbe
    | ChangeResources
    | ChangeConfigReference
    | ChangeVariable
    | AddPullSecret
    | RevertImage
    | ChangeScheduling,
    Field(discriminator="type"),
]
"""Changes of a pod template that can be one patch."""


class Combined(Frozen):
    """Several changes of one workload's template: one patch, previewed, verified and undone together."""

    type: Literal["combined"] = "combined"
    target: ObjectRef
    parts: list[TemplateChange] = Field(min_length=2, max_length=8)


class ChangeService(Frozen):
    """Change what a Service selects, or what one of its ports leads to."""

    type: Literal["change_service"] = "change_service"
    target: ObjectRef
    selector: dict[str, str] | None = None
    port: int | None = Field(default=None, ge=1, le=65535, description="The Service's own port that is changed")
    target_port: int | str | None = None
    protocol: Literal["TCP", "UDP", "SCTP"] | None = None


class ResumeRollout(Frozen):
    """Take `spec.paused` off a Deployment."""

    type: Literal["resume_rollout"] = "resume_rollout"
    target: ObjectRef


class ResumeCronJob(Frozen):
    """Take `spec.suspend` off a CronJob."""

    type: Literal["resume_cron_job"] = "resume_cron_job"
    target: ObjectRef


class CordonNode(Frozen):
    """Keep new pods off a node, or let them on again. Nothing that runs there is touched."""

    type: Literal["cordon_node"] = "cordon_node"
    target: ObjectRef
    unschedulable: bool


Action = Annotated[
    ChangeProbe
    | ChangeResources
    | ChangeConfigReference
    | ChangeVariable
    | AddPullSecret
    | RevertImage
    | ChangeScheduling
    | Combined
    | ChangeService
    | RollbackRevision
    | ResumeRollout
    | ResumeCronJob
    | Restart
    | Scale
    | DeletePod
    | CordonNode
    | HelmRollbackAction
    | HelmUninstallAction,
    Field(discriminator="type"),
]
