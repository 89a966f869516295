"""A connection to one cluster: raw JSON in and out.

Crash evidence must not be lost to a client's model of the API, so objects stay as the server sent them; and a write
must leave as exactly the bytes that were approved, so bodies are sent as given. Configuration, TLS and credentials
(with their refresh) are `kubernetes.aio`'s.
"""

from __future__ import annotations

import asyncio
import json
import os
from types import TracebackType
from typing import Any, cast
from urllib.parse import quote, urlencode, urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp

from errors import InvalidInput, ToolFailed, ToolMissing
from settings import KubernetesSettings

Object = dict[str, Any]
"""One Kubernetes object, or a list, as JSON."""

_READ_ATTEMPTS = 3
_NAMES = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json"


class KubernetesError(ToolFailed):
    """The API server answered with an error.

    `status` is the HTTP status; `reason` the server's machine-readable word (NotFound, Conflict, Invalid, Forbidden).
    """

    title = "The Kubernetes API refused a request"

    def __init__(self, code: int, reason: str, message: str, request: str) -> None:
        super().__init__(f"{request}: {code} {reason}: {message[:500]}")
        self.code = code
        self.reason = reason
        self.server_message = message


class ClusterUnreachable(ToolFailed):
    """The API server cannot be reached or did not answer in time. A write may or may not have happened."""

    title = "The cluster cannot be reached"
    status = 503


class Cluster:
    """One API server. Reads are retried on connection errors and 5xx; writes are sent exactly once."""

    def __init__(self, configuration: Any, ssl_context: Any, settings: KubernetesSettings, name: str) -> None:
        self._configuration = configuration
        self._timeout = aiohttp.ClientTimeout(total=settings.request_timeout)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=ssl_context or True, limit=32),
            proxy=_proxy(str(configuration.host)),
            read_bufsize=2**21,
        )
        # aiohttp sends a DELETE again by itself when the connection breaks; only the gate may decide that
        self._session._retry_connection = False
        self.settings = settings
        self.name = name
        self._plurals: dict[str, dict[str, tuple[str, bool]]] = {}
        self._discovering: dict[str, asyncio.Lock] = {}
        self._id: str | None = None

    @classmethod
    async def connect(cls, settings: KubernetesSettings) -> Cluster:
        """Open the configured cluster without talking to it yet.

        Raises ToolMissing when no kubeconfig is found (or use of a cluster is switched off).
        """
        if not settings.enabled:
            raise ToolMissing("no cluster: kubernetes.enabled is false")
        from kubernetes.aio import client, config  # heavy: only when a cluster is used

        configuration = client.Configuration()
        try:
            if "KUBERNETES_SERVICE_HOST" in os.environ and not (settings.kubeconfig or os.environ.get("KUBECONFIG")):
                config.load_incluster_config(client_configuration=configuration)
            else:
                file = str(settings.kubeconfig) if settings.kubeconfig else None
                await config.load_kube_config(file, settings.context, configuration, persist_config=False)
        except (config.ConfigException, OSError, ValueError) as error:
            raise ToolMissing(f"no cluster: {error}; set KUBECONFIG or PARAMEDIC_KUBERNETES__KUBECONFIG") from error
        tls = None
        if not str(configuration.host).startswith("http://"):  # certificates take 50 ms to read
            tls = client.rest.RESTClientObject(configuration).ssl_context
        return cls(configuration, tls, settings, str(configuration.host))

    async def __aenter__(self) -> Cluster:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        await self._session.close()

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: dict[str, str] | None = None,
        body: bytes | None = None,
        content_type: str = "application/json",
        accept: str = "application/json",
    ) -> Object:
        """Send one request and return the JSON answer.

        Raises KubernetesError for an error status, ClusterUnreachable when there was no answer. Only GET is retried.
        """
        text = await self._send(method, path, query or {}, body, content_type, accept)
        try:
            return cast(Object, json.loads(text))
        except ValueError as error:
            raise ToolFailed(f"{method} {path}: the answer is not JSON") from error

    async def get(self, api_version: str, kind: str, namespace: str | None, name: str) -> Object | None:
        """The object, or None where there is none."""
        try:
            return await self.request("GET", await self.path(api_version, kind, namespace, name))
        except KubernetesError as error:
            if error.code == 404:
                return None
            raise

    async def list_all(
        self,
        api_version: str,
        kind: str,
        namespace: str | None = None,
        *,
        labels: str = "",
        fields: str = "",
        names_only: bool = False,
    ) -> list[Object]:
        """All objects of a kind (in a namespace), read in pages, at most `max_objects`. Items carry their kind.

        With `names_only` the server is asked for the metadata alone, and nothing else is kept.
        """
        path = await self.path(api_version, kind, namespace)
        items: list[Object] = []
        query = {"limit": "500"} | ({"labelSelector": labels} if labels else {})
        query |= {"fieldSelector": fields} if fields else {}
        while True:
            page = await self.request("GET", path, query=query, accept=_NAMES if names_only else "application/json")
            for item in page.get("items") or []:
                kept = {"metadata": item.get("metadata")} if names_only else item
                items.append({"apiVersion": api_version, "kind": kind, **kept})
            token = (page.get("metadata") or {}).get("continue")
            if not token or len(items) >= self.settings.max_objects:
                return items
            query["continue"] = token

    async def log(self, namespace: str, pod: str, container: str, *, previous: bool = False, lines: int = 2000) -> str:
        """The end of a container's log; with `previous`, of its last terminated instance. Raises as `request`."""
        path = f"/api/v1/namespaces/{_segment(namespace)}/pods/{_segment(pod)}/log"
        query = {"container": container, "tailLines": str(lines), "limitBytes": str(self.settings.max_log_bytes)}
        query |= {"previous": "true"} if previous else {}
        return await self._send("GET", path, query, None, "application/json", "*/*")

    async def cluster_id(self) -> str:
        """The uid of the kube-system namespace: the usual identity of a cluster."""
        if self._id is None:
            space = await self.request("GET", "/api/v1/namespaces/kube-system")
            self._id = str(space["metadata"]["uid"])
        return self._id

    async def path(self, api_version: str, kind: str, namespace: str | None, name: str | None = None) -> str:
        """The URL path of a kind or object; the plural and scope come from the server's own discovery."""
        base = f"/api/{api_version}" if "/" not in api_version else f"/apis/{api_version}"
        async with self._discovering.setdefault(api_version, asyncio.Lock()):
            if api_version not in self._plurals:
                found = await self.request("GET", base)
                self._plurals[api_version] = {
                    item["kind"]: (item["name"], bool(item["namespaced"]))
                    for item in found.get("resources") or []
                    if "/" not in item["name"]
                }
        if kind not in self._plurals[api_version]:
            raise KubernetesError(404, "NotFound", f"the server knows no {kind} in {api_version}", f"GET {base}")
        plural, namespaced = self._plurals[api_version][kind]
        scope = f"/namespaces/{_segment(namespace)}" if namespaced and namespace else ""
        return f"{base}{scope}/{plural}" + (f"/{_segment(name)}" if name else "")

    async def _send(
        self, method: str, path: str, query: dict[str, str], body: bytes | None, content_type: str, accept: str
    ) -> str:
        attempts = _READ_ATTEMPTS if method == "GET" else 1
        for attempt in range(1, attempts + 1):
            try:
                code, text = await self._once(method, path, query, body, content_type, accept)
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                if attempt == attempts:
                    what = "did not answer in time" if isinstance(error, TimeoutError) else f"failed: {error}"
                    raise ClusterUnreachable(f"{method} {self.name}{path} {what}") from error
            else:
                if code < 400:
                    return text
                transient = code == 429 or code >= 500
                if not transient or attempt == attempts:
                    raise _error(code, text, f"{method} {path}")
            await asyncio.sleep(0.2 * 2**attempt)
        raise AssertionError("unreachable")

    async def _once(
        self, method: str, path: str, query: dict[str, str], body: bytes | None, content_type: str, accept: str
    ) -> tuple[int, str]:
        headers = {"Accept": accept, "User-Agent": "paramedic"}
        if body is not None:
            headers["Content-Type"] = content_type
        for setting in (await self._configuration.auth_settings()).values():
            if setting.get("value"):
                headers[setting["key"]] = setting["value"]
        url = f"{self._configuration.host}{path}" + (f"?{urlencode(query)}" if query else "")
        async with self._session.request(
            method, url, data=body, headers=headers, timeout=self._timeout, allow_redirects=False
        ) as response:
            return response.status, (await response.read()).decode("utf-8", "backslashreplace")


def _proxy(server: str) -> str | None:
    """The proxy that the environment names for this server.

    aiohttp's `trust_env` looks for it, and for a .netrc, in threads at every request, and takes a password of the
    .netrc for one of the API server.
    """
    url = urlsplit(server)
    if url.hostname is None or proxy_bypass(url.hostname):
        return None
    return getproxies().get(url.scheme)


def _error(code: int, text: str, request: str) -> KubernetesError:
    try:
        status = json.loads(text)
        reason, message = str(status.get("reason") or ""), str(status.get("message") or "")
    except (ValueError, AttributeError):
        reason, message = "", text
    return KubernetesError(code, reason, message, request)


def _segment(name: str) -> str:
    """A name as one segment of a path. Raises InvalidInput for what would be another path."""
    if name in (".", ".."):
        raise InvalidInput(f"{name!a} is no name of a Kubernetes object")
    return quote(name, safe="")
