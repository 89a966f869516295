"""A strict stand-in of the Kubernetes API server, over real HTTP, with what the gate's safety rests on.

Behaviour observed on Kubernetes 1.20.2: discovery, get and list, JSON Patch with `test` (422 Invalid, nothing
changed), `dryRun=All`, generation moving with the spec alone, resourceVersion moving with every change, DELETE with
preconditions (409), Status errors, unknown query parameters ignored. It keeps every write's exact bytes, as the audit
log does, and lets a test interfere between two requests, be away, or lose an answer after the write.
"""

from __future__ import annotations

import itertools
import json
import re
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

from tests.standins.json_patch import PatchRefused, apply_patch, copied

Object = dict[str, Any]

RESOURCES: dict[str, dict[str, tuple[str, bool]]] = {
    "v1": {
        "Namespace": ("namespaces", False),
        "Pod": ("pods", True),
        "ConfigMap": ("configmaps", True),
        "Secret": ("secrets", True),
        "Service": ("services", True),
        "Event": ("events", True),
        "PersistentVolumeClaim": ("persistentvolumeclaims", True),
        "Endpoints": ("endpoints", True),
        "LimitRange": ("limitranges", True),
        "ResourceQuota": ("resourcequotas", True),
        "Node": ("nodes", False),
    },
    "apps/v1": {
        "Deployment": ("deployments", True),
        "ReplicaSet": ("replicasets", True),
        "StatefulSet": ("statefulsets", True),
        "DaemonSet": ("daemonsets", True),
        "ControllerRevision": ("controllerrevisions", True),
    },
    "batch/v1": {"Job": ("jobs", True)},
    "batch/v1beta1": {"CronJob": ("cronjobs", True)},
    "example.io/v1": {"Shop": ("shops", True)},
    "autoscaling/v1": {"HorizontalPodAutoscaler": ("horizontalpodautoscalers", True)},
}
_PATH = re.compile(
    r"/(?:api/(?P<core>v1)|apis/(?P<group>[^/]+/v[0-9a-z]+))"
    r"(?:/namespaces/(?P<namespace>[^/]+)(?=/))?/(?P<plural>[a-z]+)(?:/(?P<name>[^/]+))?"
)
_NO_GENERATION = (
    *("Pod", "ConfigMap", "Secret", "Namespace", "Service", "Event", "PersistentVolumeClaim", "Endpoints"),
    *("LimitRange", "ResourceQuota", "Node", "CronJob"),
)
_SWITCHES = ("Service", "CronJob", "Node")


@dataclass
class Write:
    """One PATCH or DELETE as it arrived, and what came of it."""

    method: str
    path: str
    query: dict[str, str]
    body: bytes
    dry_run: bool
    code: int = 0


@dataclass
class Hook:
    """Called once before (or after) the next matching request is handled."""

    method: str
    dry_run: bool | None
    when: str
    call: Callable[[], Awaitable[None] | None]
    match: str = ""


class Refusal(Exception):
    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.code, self.reason, self.message = code, reason, message


@dataclass
class KubeApi:
    """`async with KubeApi() as api:` serves on a free loopback port; `api.kubeconfig(folder)` names it to clients."""

    objects: dict[tuple[str, str, str, str], Object] = field(default_factory=dict)
    log: list[Write] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    hooks: list[Hook] = field(default_factory=list)
    down: bool = False
    lose_answers: int = 0
    """So many applied (not dry-run) writes are answered by a cut connection."""
    controller: Callable[[Object], None] | None = None
    """Called with each workload whose spec was really changed: plays the controllers."""
    mutate: Callable[[Object], None] | None = None
    """Called on each patched object before it is stored or answered: a mutating webhook."""
    forbidden_kinds: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._versions = itertools.count(100)
        self._runner: web.AppRunner | None = None
        self.port = 0
        self.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kube-system"}})

    async def __aenter__(self) -> KubeApi:
        app = web.Application(client_max_size=1 << 24)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        assert site._server is not None
        self.port = site._server.sockets[0].getsockname()[1]  # type: ignore[attr-defined]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._runner
        await self._runner.cleanup()

    def kubeconfig(self, folder: Path) -> Path:
        """Write a kubeconfig for this server."""
        path = folder / "kubeconfig"
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{self.port}"}}],
            "users": [{"name": "u", "user": {"token": "stand-in"}}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "x",
        }
        path.write_text(json.dumps(config))  # which is YAML
        path.chmod(0o600)
        return path

    # what tests do to the cluster behind the gate's back

    @property
    def writes(self) -> list[Write]:
        """The writes that changed something."""
        return [write for write in self.log if not write.dry_run and write.code < 300]

    @property
    def attempts(self) -> list[Write]:
        """Every write that was sent in earnest, refused ones too."""
        return [write for write in self.log if not write.dry_run]

    def put(self, obj: Object) -> Object:
        """Create or replace an object, as kubectl would: uid, resourceVersion and generation are the server's."""
        obj = copied(obj)
        key = self._key(obj)
        old = self.objects.get(key)
        meta = obj["metadata"]
        meta["uid"] = old["metadata"]["uid"] if old else meta.get("uid") or str(uuid.uuid4())
        meta.setdefault("creationTimestamp", "2026-01-01T00:00:00Z")
        self._store(key, obj, old)
        return obj

    def get(self, kind: str, namespace: str, name: str) -> Object | None:
        api_version = next(version for version, kinds in RESOURCES.items() if kind in kinds)
        return self.objects.get((api_version, kind, namespace, name))

    def edit(self, kind: str, namespace: str, name: str, change: Callable[[Object], None]) -> Object:
        """Change an object as somebody else would. Status changes do not move the generation."""
        found = self.get(kind, namespace, name)
        assert found is not None
        new = copied(found)
        change(new)
        self._store(self._key(new), new, found)
        return new

    def remove(self, kind: str, namespace: str, name: str) -> None:
        found = self.get(kind, namespace, name)
        assert found is not None
        del self.objects[self._key(found)]

    def recreate(self, kind: str, namespace: str, name: str) -> Object:
        """Delete and create again: the same in all but uid."""
        found = copied(self.get(kind, namespace, name))
        assert found is not None
        self.remove(kind, namespace, name)
        found["metadata"].pop("uid")
        return self.put(found)

    def before(
        self, method: str, call: Callable[[], Awaitable[None] | None], *, dry_run: bool | None = None, match: str = ""
    ) -> None:
        """Call once, right before the next request of this method (whose path holds `match`) is handled."""
        self.hooks.append(Hook(method, dry_run, "before", call, match))

    def after(
        self, method: str, call: Callable[[], Awaitable[None] | None], *, dry_run: bool | None = None, match: str = ""
    ) -> None:
        """Call once, after the next such request was carried out and before it is answered."""
        self.hooks.append(Hook(method, dry_run, "after", call, match))

    # HTTP

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        if self.down:
            return self._cut(request)
        body = await request.read()
        query = dict(request.query)
        dry_run = _is_dry_run(request.method, query, body)
        self.requests.append(f"{request.method} {request.path}")
        await self._run_hooks("before", request, dry_run)
        if self.down:
            return self._cut(request)
        write = None
        if request.method != "GET":
            write = Write(request.method, request.path, query, body, dry_run)
            self.log.append(write)
        try:
            if query.get("dryRun", "All") != "All":
                raise Refusal(400, "BadRequest", f"invalid dryRun {query['dryRun']!r}")
            answer, code = self._answer(request, query, body, dry_run), 200
        except Refusal as refusal:
            answer, code = _status(refusal), refusal.code
        if write:
            write.code = code
        await self._run_hooks("after", request, dry_run)
        if write and code < 300 and not dry_run and self.lose_answers:
            self.lose_answers -= 1
            return self._cut(request)
        return web.json_response(answer, status=code)

    async def _run_hooks(self, when: str, request: web.Request, dry_run: bool) -> None:
        for hook in list(self.hooks):
            fits = hook.when == when and hook.method == request.method and hook.match in request.path
            if fits and hook.dry_run in (None, dry_run) and hook in self.hooks:
                self.hooks.remove(hook)
                result = hook.call()
                if result is not None:
                    await result

    def _cut(self, request: web.Request) -> web.StreamResponse:
        assert request.transport
        request.transport.abort()
        return web.Response()

    def _answer(self, request: web.Request, query: dict[str, str], body: bytes, dry_run: bool) -> Object:
        discovery = re.fullmatch(r"/(?:api/(v1)|apis/([^/]+/[^/]+))", request.path)
        if discovery:
            return self._discovery(discovery[1] or discovery[2])
        match = _PATH.fullmatch(request.path)
        if not match:
            raise Refusal(404, "NotFound", "404 page not found")
        api_version = match["core"] or match["group"]
        kind = next((k for k, (plural, _) in RESOURCES.get(api_version, {}).items() if plural == match["plural"]), None)
        if kind is None:
            raise Refusal(404, "NotFound", "the server could not find the requested resource")
        if kind in self.forbidden_kinds:
            raise Refusal(403, "Forbidden", f"{match['plural']} is forbidden")
        namespace, name = match["namespace"] or "", match["name"]
        if request.method == "GET" and name is None:
            return self._list(api_version, kind, namespace, query)
        found = self.objects.get((api_version, kind, namespace, name or ""))
        if found is None:
            raise Refusal(404, "NotFound", f'{match["plural"]} "{name}" not found')
        if request.method == "GET":
            return found
        if request.method == "PATCH":
            return self._patch(found, request.content_type, body, dry_run)
        if request.method == "DELETE":
            return self._delete(found, body, dry_run)
        raise Refusal(405, "MethodNotAllowed", request.method)

    def _discovery(self, api_version: str) -> Object:
        if api_version not in RESOURCES:
            raise Refusal(404, "NotFound", "404 page not found")
        resources = [
            {"name": plural, "singularName": "", "namespaced": namespaced, "kind": kind, "verbs": ["get", "list"]}
            for kind, (plural, namespaced) in RESOURCES[api_version].items()
        ]
        return {"kind": "APIResourceList", "groupVersion": api_version, "resources": resources}

    def _list(self, api_version: str, kind: str, namespace: str, query: dict[str, str]) -> Object:
        wanted = [part.split("=", 1) for part in query.get("labelSelector", "").split(",") if part]
        items = [
            {key: value for key, value in obj.items() if key not in ("apiVersion", "kind")}  # items carry neither
            for (version, a_kind, a_namespace, _), obj in sorted(self.objects.items())
            if (version, a_kind) == (api_version, kind) and namespace in ("", a_namespace)
        ]
        items = [
            item
            for item in items
            if all((item["metadata"].get("labels") or {}).get(key) == value for key, value in wanted)
        ]
        for field_, _, value in (part.partition("=") for part in query.get("fieldSelector", "").split(",") if part):
            items = [item for item in items if _at(item, field_) == value]
        return {"kind": f"{kind}List", "apiVersion": api_version, "metadata": {"resourceVersion": "1"}, "items": items}

    def _patch(self, found: Object, content_type: str, body: bytes, dry_run: bool) -> Object:
        if content_type != "application/json-patch+json":
            raise Refusal(415, "UnsupportedMediaType", content_type)
        try:
            operations = json.loads(body)
        except ValueError as error:
            raise Refusal(400, "BadRequest", str(error)) from None
        try:
            new = apply_patch(found, operations)
        except PatchRefused:
            raise Refusal(422, "Invalid", "the server rejected our request due to an error in our request") from None
        for name in ("uid", "name", "namespace"):
            if new["metadata"].get(name) != found["metadata"].get(name):
                raise Refusal(409, "Conflict", f"metadata.{name} is immutable")
        if new["metadata"].get("resourceVersion") != found["metadata"]["resourceVersion"]:
            raise Refusal(409, "Conflict", "the object has been modified")
        _validate(new)
        if self.mutate:
            self.mutate(new)
        new["status"] = copied(found.get("status") or {})  # the main resource cannot write it
        if dry_run:
            self._advance(new, found)
            new["metadata"]["resourceVersion"] = found["metadata"]["resourceVersion"]
            return new
        if new != found:
            self._store(self._key(found), new, found)
        return self.objects[self._key(found)]

    def _delete(self, found: Object, body: bytes, dry_run: bool) -> Object:
        options = json.loads(body) if body else {}
        conditions = options.get("preconditions") or {}
        for name in ("uid", "resourceVersion"):
            if name in conditions and conditions[name] != found["metadata"][name]:
                message = f"the {name} in the precondition ({conditions[name]}) does not match"
                raise Refusal(409, "Conflict", f"Operation cannot be fulfilled: {message}")
        if not dry_run:
            del self.objects[self._key(found)]
            if self.controller:
                self.controller(found)
        return {"kind": "Status", "apiVersion": "v1", "status": "Success", "details": {"uid": found["metadata"]["uid"]}}

    def _store(self, key: tuple[str, str, str, str], new: Object, old: Object | None) -> None:
        moved = self._advance(new, old)
        new["metadata"]["resourceVersion"] = str(next(self._versions))
        self.objects[key] = new
        if moved and self.controller:
            self.controller(new)

    def _advance(self, new: Object, old: Object | None) -> bool:
        """Move the generation when the spec changed."""
        if new["kind"] in _NO_GENERATION:
            return new["kind"] in _SWITCHES
        if old is None:
            new["metadata"]["generation"] = 1
            return True
        same = new.get("spec") == old.get("spec")
        new["metadata"]["generation"] = old["metadata"]["generation"] + (0 if same else 1)
        return not same

    def _key(self, obj: Object) -> tuple[str, str, str, str]:
        return obj["apiVersion"], obj["kind"], obj["metadata"].get("namespace", ""), obj["metadata"]["name"]


def _is_dry_run(method: str, query: dict[str, str], body: bytes) -> bool:
    """A DELETE with a body takes all its options from there, and none from the query."""
    if method == "DELETE" and body:
        return bool(json.loads(body).get("dryRun") == ["All"])
    return query.get("dryRun") == "All"


def _validate(obj: Object) -> None:
    """Some of the server's validation of workloads."""
    spec = obj.get("spec") or {}
    replicas = spec.get("replicas", 1)
    if not isinstance(replicas, int) or isinstance(replicas, bool) or replicas < 0:
        raise Refusal(422, "Invalid", f"spec.replicas: Invalid value: {replicas}")
    if obj["kind"] not in ("Deployment", "StatefulSet", "DaemonSet"):
        return
    containers = ((spec.get("template") or {}).get("spec") or {}).get("containers")
    if not containers or any(not item.get("name") or not item.get("image") for item in containers):
        raise Refusal(422, "Invalid", "spec.template.spec.containers: Required value")
    for item in containers:
        for probe in ("livenessProbe", "readinessProbe", "startupProbe"):
            port = ((item.get(probe) or {}).get("httpGet") or {}).get("port", 1)
            if isinstance(port, int) and not 0 < port < 65536:
                raise Refusal(422, "Invalid", f"{probe}.httpGet.port: Invalid value: {port}")


def _status(refusal: Refusal) -> Object:
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": refusal.message,
        "reason": refusal.reason,
        "code": refusal.code,
    }


def _at(item: Object, field_: str) -> Any:
    value: Any = item
    for step in field_.split("."):
        value = (value or {}).get(step)
    return value
