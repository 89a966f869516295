"""The only code that changes a Kubernetes object: the approved bytes, sent once.

Facts behind it (Kubernetes 1.20.2, observed): a JSON Patch whose `test` operation fails is refused as a whole with
422 Invalid; `metadata.generation` can be tested and moves only with the spec; `dryRun=All` answers with the object as
it would become, its generation included; DELETE with another `preconditions.uid` is refused with 409 Conflict, and
**a DELETE with a body ignores the query, `dryRun=All` too**: its dry run is asked for in the body.
`fieldValidation` is known from 1.25 on; older servers ignore unknown query parameters.
"""

from __future__ import annotations

import json

from incidents.plan import DeleteWrite, PatchWrite
from tools.kubernetes.client import Cluster, Object

FIELD_MANAGER = "paramedic"


class Writer:
    """Sends writes to one cluster. Nothing is retried here: whether a lost answer was a write is the gate's question.

    Both methods raise KubernetesError when the server refused, ClusterUnreachable when there was no answer: then the
    write may or may not have happened.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    async def patch(self, write: PatchWrite, *, dry_run: bool) -> Object:
        """Send `write.body` as it is. Returns the object as it is, or with `dry_run` would be, afterwards."""
        path = await self._cluster.path(write.api_version, write.kind, write.namespace, write.name)
        query = {"fieldManager": FIELD_MANAGER, "fieldValidation": "Strict"} | ({"dryRun": "All"} if dry_run else {})
        body = write.body.encode()
        return await self._cluster.request("PATCH", path, query=query, body=body, content_type=write.content_type)

    async def delete(self, write: DeleteWrite, *, dry_run: bool) -> Object:
        """Delete the object of exactly this uid. Returns the server's answer (the object or a Status)."""
        path = await self._cluster.path(write.api_version, write.kind, write.namespace, write.name)
        return await self._cluster.request("DELETE", path, body=delete_body(write, dry_run=dry_run))


def delete_body(write: DeleteWrite, *, dry_run: bool) -> bytes:
    """The DeleteOptions of a write: always the same bytes for the same write."""
    options: dict[str, object] = {
        "apiVersion": "v1",
        "kind": "DeleteOptions",
        "preconditions": {"uid": write.uid},
        "propagationPolicy": "Background",
    }
    if write.grace_period_seconds is not None:
        options["gracePeriodSeconds"] = write.grace_period_seconds
    if dry_run:
        options["dryRun"] = ["All"]
    return json.dumps(options, sort_keys=True, separators=(",", ":")).encode()
