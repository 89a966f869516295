"""Crashes in: the main job's intake, a look at a namespace, a problem in words, a notice to people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from fastapi import APIRouter, Header, Query, Request, Response
from pydantic import BaseModel, Field, model_validator

from api.answers import IncidentAnswer, IncidentDetail, incident_answer, incident_detail
from api.auth import Caller, Fixer, Reader
from api.cores import CoreBody, checked_core, program
from api.dependencies import services_of
from api.fields import Body, Line, Namespace, ObjectName, Text, field_error
from api.idempotency import Answer, IdempotencyKeys
from api.problems import RESPONSES
from errors import InvalidInput, ParamedicError, ToolMissing
from graph.mentions import workload_named
from graph.observed import namespace_diagnosis
from graph.subject import Resolver
from graph.watching import wait_settled
from incidents.models import Diagnosis, Incident, ObjectRef, Via
from tools.kubernetes.client import ClusterUnreachable

if TYPE_CHECKING:
    from graph.services import Services

router = APIRouter(prefix="/api/v1/autofix", tags=["autofix"], responses=RESPONSES)
_MAX_WAIT = 60.0


class AutofixBody(Body):
    """A crash. Name the workload (`deployment` or `workload`), or give a `core`, or both."""

    deployment: ObjectName | None = Field(default=None, examples=["api"])
    workload: Line | None = Field(default=None, description="Kind/name", examples=["StatefulSet/db"])
    namespace: Namespace = Field(default="default", description="Of the workload")
    event: Text | None = Field(default=None, description="What happened, in words", examples=["pods restart"])
    core: CoreBody | None = None
    force: bool = Field(default=False, description="Analyse again what is already known; nothing skips the gate")

    @model_validator(mode="after")
    def _one_target(self) -> AutofixBody:
        if self.deployment and self.workload:
            raise field_error("workload", "give either deployment or workload, not both")
        if not (self.deployment or self.workload or self.core):
            raise field_error("deployment", "required, unless workload or core is given")
        if self.event is None and self.core is None:
            raise field_error("event", "required: say in a few words what happened")
        if self.workload:
            try:
                workload_named(self.workload, self.namespace)
            except InvalidInput as error:
                raise field_error("workload", str(error)) from None
        return self

    def target(self) -> ObjectRef | None:
        """The workload; None for a core alone."""
        if self.deployment:
            return ObjectRef(kind="Deployment", namespace=self.namespace, name=self.deployment)
        return workload_named(self.workload, self.namespace) if self.workload else None


@router.post(
    "",
    status_code=202,
    response_model=IncidentDetail | IncidentAnswer,
    responses={
        200: {"model": IncidentDetail, "description": "The incident has ended within `wait` seconds"},
        202: {"model": IncidentAnswer, "description": "Taken; follow `links.events`"},
    },
)
async def autofix(
    request: Request,
    response: Response,
    caller: Fixer,
    body: AutofixBody,
    wait: Annotated[float, Query(ge=0, le=_MAX_WAIT, allow_inf_nan=False, description="Seconds")] = 0,
    idempotency_key: Annotated[str | None, Header()] = None,
) -> IncidentDetail | IncidentAnswer | Response:
    """Take a crash: opens an incident (or returns the open one about the same target) and starts on it.

    Nothing is changed in the cluster without an approval.
    """
    services = services_of(request)
    keys = IdempotencyKeys(services.database)
    stored: Answer | None = None
    if idempotency_key is not None:
        stored = await keys.begin(caller.identity, idempotency_key, body.model_dump(mode="json"))
    if stored is not None:
        response.headers["Idempotent-Replayed"] = "true"
        incident_id = str(stored.body["incident"]["id"])
        answer: IncidentDetail | IncidentAnswer = _restore(stored)
    else:
        try:
            incident = await _submit(services, caller, body)
        except ParamedicError:
            if idempotency_key is not None:
                await keys.release(caller.identity, idempotency_key)
            raise
        incident_id, answer = incident.id, incident_answer(incident)
        if idempotency_key is not None:
            await keys.finish(caller.identity, idempotency_key, _store(answer, 202))
    if wait and not isinstance(answer, IncidentDetail):
        ended = await wait_settled(services.incidents, incident_id, wait)
        if ended.status.ended:
            answer = await incident_detail(services, ended)
            if idempotency_key is not None:
                await keys.finish(caller.identity, idempotency_key, _store(answer, 200))
        elif stored is None:
            answer = incident_answer(ended)
    response.headers["Location"] = answer.links.self
    response.status_code = 200 if isinstance(answer, IncidentDetail) else 202
    return answer


async def _submit(services: Services, caller: Caller, body: AutofixBody) -> Incident:
    core = await checked_core(body.core, services, caller) if body.core else None
    target = body.target()
    if target is None:
        assert core is not None
        target = program(core)
    event = body.event or "a core dump was posted"
    return await services.runner.submit(
        target, event, requested_by=caller.identity, via=Via.API, core=core, force=body.force
    )


def _store(answer: IncidentAnswer, status: int) -> Answer:
    return Answer(status, answer.model_dump(mode="json", by_alias=True))


def _restore(stored: Answer) -> IncidentDetail | IncidentAnswer:
    kind = IncidentDetail if stored.status == 200 else IncidentAnswer
    return kind.model_validate(stored.body)


class NamespaceBody(Body):
    namespace: Namespace


@router.post("/diagnose", response_model=Diagnosis)
async def diagnose_namespace(request: Request, caller: Reader, body: NamespaceBody) -> Diagnosis:
    """Look at a whole namespace, by rules alone, without opening an incident. Changes nothing."""
    services = services_of(request)
    if services.cluster is None:
        raise ToolMissing("no cluster is connected; set KUBECONFIG or kubernetes.kubeconfig and start again")
    return await namespace_diagnosis(services.cluster, body.namespace, services.monitoring)


class WorkflowBody(Body):
    problem_description: Text = Field(examples=["the api deployment in shop restarts all the time"])


class WorkflowAnswer(BaseModel):
    """What came of a description: an incident, or what is missing to begin one."""

    status: Literal["submitted", "ambiguous", "unresolved"]
    incident: IncidentAnswer | None = None
    question: str | None = Field(default=None, description="What to say more precisely")
    candidates: list[ObjectRef] = Field(default_factory=list)


@router.post(
    "/workflow",
    status_code=202,
    responses={200: {"model": WorkflowAnswer, "description": "Not begun: the description does not name one workload"}},
)
async def workflow(request: Request, response: Response, caller: Fixer, body: WorkflowBody) -> WorkflowAnswer:
    """Begin an incident from a description in words, when it names exactly one known workload."""
    services = services_of(request)
    resolver: Resolver = request.app.state.resolver
    subject = await resolver.workload(body.problem_description)
    if subject.cluster_silent:
        raise ClusterUnreachable("the cluster does not answer, so the workload cannot be looked up; try again")
    if subject.ref is not None and subject.ref.kind != "Process":
        incident = await services.runner.submit(
            subject.ref, body.problem_description, requested_by=caller.identity, via=Via.API
        )
        answer = incident_answer(incident)
        response.headers["Location"] = answer.links.self
        return WorkflowAnswer(status="submitted", incident=answer)
    response.status_code = 200
    candidates = [item for item in subject.candidates if isinstance(item, ObjectRef)]
    if candidates:
        return WorkflowAnswer(status="ambiguous", question="Which of these is meant?", candidates=candidates)
    if services.cluster is None:
        question = "No cluster is connected. Post a core to /api/v1/autofix, or connect a cluster."
    elif subject.mentions.unknown:
        near = f" Near it: {', '.join(subject.close)}." if subject.close else ""
        question = f"{subject.mentions.unknown} is not known.{near} Name a workload as kind namespace/name."
    else:
        question = 'Name the workload, such as "deployment shop/api".'
    return WorkflowAnswer(status="unresolved", question=question)


class NotifyBody(Body):
    """A notice to people: a call for help (`urgency`) or an incident (`affected_services`)."""

    type: Literal["human_help", "incident"]
    message: Text
    urgency: Literal["low", "medium", "high", "critical"] | None = None
    affected_services: Annotated[list[Line], Field(max_length=50)] | None = None
    severity: Literal["low", "medium", "high", "critical"] = "medium"

    @model_validator(mode="after")
    def _fields_of_type(self) -> NotifyBody:
        if self.type == "incident" and self.urgency is not None:
            raise field_error("urgency", "belongs to type human_help; use severity")
        if self.type == "human_help" and self.affected_services is not None:
            raise field_error("affected_services", "belongs to type incident")
        return self


class NotifyAnswer(Body):
    queued: bool = Field(description="False: no channel is configured, or the same notice was queued just before")


@router.post("/notify", status_code=202)
async def notify(request: Request, caller: Fixer, body: NotifyBody) -> NotifyAnswer:
    """Queue a notice for the configured channel. It is delivered in the background, with retries."""
    if body.type == "human_help":
        severity = body.urgency or body.severity
        title = f"Help is wanted ({severity})"
        text = body.message
    else:
        severity = body.severity
        title = f"Incident ({severity})"
        services = f"\nAffected: {', '.join(body.affected_services)}" if body.affected_services else ""
        text = f"{body.message}{services}"
    queued = await services_of(request).notifier.notice(title, f"{text}\nFrom: {caller.identity}", severity)
    return NotifyAnswer(queued=queued)
