"""Admission reviews (admission.k8s.io/v1) in and out. Whatever happens, the pod is allowed: no core is worth a pod."""

from __future__ import annotations

import base64
import json
from collections.abc import Awaitable, Callable
from typing import Literal

import structlog

from collector.webhook.inject import VOLUME, inject, wanted
from diagnosis.workloads.fields import Object, mapping, text
from errors import InvalidInput, ParamedicError
from settings import WebhookSettings

_API = "admission.k8s.io/v1"
_MAX_WARNING = 250  # longer ones are cut by the API server: KEP-1693

Look = Callable[[str], Awaitable[list[str]]]
"""Warnings about where cores of a pod would be lost; raises ParamedicError when nobody knows."""
Ask = Callable[[str], Awaitable[str | None]]
"""Why a pod of a namespace is not given a folder for cores; None when it may be. Raises as `Look` does."""
Result = Literal["untouched", "injected", "unchanged", "refused", "failed"]
"""Of one review: not asked for; given a folder; had it already; asked for in vain, with a warning; our own fault."""

log = structlog.get_logger(__name__)


class Reviewer:
    """Answers reviews of pods. The others ask the cluster: `forbids` whether it would refuse a pod with a folder,
    `quota` whether a namespace has as many of them as it may."""

    def __init__(
        self,
        settings: WebhookSettings,
        look: Look,
        quota: Ask,
        forbids: Ask,
        count: Callable[[Result], None] = lambda _: None,
    ) -> None:
        self._settings, self._look, self._quota, self._forbids, self._count = settings, look, quota, forbids, count

    async def answer(self, body: bytes) -> Object:
        """The AdmissionReview to send back. Raises InvalidInput when `body` is none."""
        review = _review(body)
        request = mapping(review, "request")
        uid = text(request, "uid")
        pod = mapping(request, "object")
        patch: list[Object] | None = None
        warnings: list[str] = []
        result: Result = "untouched"
        try:
            if text(request, "operation") == "CREATE" and text(request, "kind", "kind") == "Pod" and wanted(pod):
                patch, warnings = await self._pod(text(request, "namespace"), pod)
                if warnings and patch is None:  # who made the pod is told, and that is a controller most often
                    name = text(pod, "metadata", "name") or text(pod, "metadata", "generateName")
                    log.info("no folder", namespace=text(request, "namespace"), pod=name[:253], why=warnings[0])
                result = "injected" if patch else "refused" if warnings else "unchanged"
        except Exception as error:  # a pod that nobody foresaw must run all the same
            log.exception("a pod could not be looked at", uid=uid)
            warnings = [f"cores are not collected: {type(error).__name__} in the webhook"]
            result = "failed"
        self._count(result)
        response: Object = {"uid": uid, "allowed": True}
        if warnings:
            response["warnings"] = [_fit(f"paramedic: {warning}") for warning in warnings]
        if patch is not None:
            response |= {"patchType": "JSONPatch", "patch": base64.b64encode(json.dumps(patch).encode()).decode()}
        return {"apiVersion": _API, "kind": "AdmissionReview", "response": response}

    async def _pod(self, namespace: str, pod: Object) -> tuple[list[Object] | None, list[str]]:
        allowed = self._settings.namespaces
        if allowed and namespace not in allowed:
            return None, [f"cores are not collected: namespace {namespace} is not one of webhook.namespaces"]
        done = inject(pod, str(self._settings.node_folder), self._settings.mount_path)
        if done.pod is None:
            return None, done.warnings
        try:
            if reason := await self._forbids(namespace):
                return None, [f"cores are not collected: {reason}"]
        except ParamedicError as error:  # as with a chart of before: the rest is asked all the same
            log.warning("a namespace could not be looked at", error=str(error))
        try:
            if reason := await self._quota(namespace):
                return None, [f"cores are not collected: {reason}"]
            lost = await self._look(_path(done.pod))
        except ParamedicError as error:
            log.warning("the cluster could not be asked", error=str(error))
            lost = []
        return _patch(pod, done.pod), [*done.warnings, *lost]


def _path(pod: Object) -> str:
    for container in [*mapping(pod, "spec").get("initContainers", []), *mapping(pod, "spec").get("containers", [])]:
        for mount in container.get("volumeMounts", []):
            if mount.get("name") == VOLUME:
                return str(mount["mountPath"])
    return "/"


def _patch(before: Object, after: Object) -> list[Object]:
    """The difference by whole lists: one operation for each of labels, volumes, environments and mounts."""
    operations: list[Object] = []

    def put(pointer: str, old: object, new: object) -> None:
        if old != new:
            operations.append({"op": "add" if old is None else "replace", "path": pointer, "value": new})

    put("/metadata/labels", before["metadata"].get("labels"), after["metadata"]["labels"])
    put("/spec/volumes", before["spec"].get("volumes"), after["spec"].get("volumes"))
    for section in ("initContainers", "containers"):
        pairs = zip(before["spec"].get(section) or [], after["spec"].get(section) or [], strict=True)
        for index, (old, new) in enumerate(pairs):
            for field in ("env", "volumeMounts"):
                put(f"/spec/{section}/{index}/{field}", old.get(field), new.get(field))
    return operations


def _review(body: bytes) -> Object:
    try:
        review = json.loads(body)
    except (ValueError, RecursionError):
        raise InvalidInput("the body is no JSON") from None
    if not isinstance(review, dict) or review.get("kind") != "AdmissionReview" or review.get("apiVersion") != _API:
        raise InvalidInput(f"this is no AdmissionReview of {_API}")
    if not text(review, "request", "uid"):
        raise InvalidInput("the review has no request with a uid")
    return review


def _fit(warning: str) -> str:
    return warning if len(warning) <= _MAX_WARNING else warning[: _MAX_WARNING - 1] + "…"
