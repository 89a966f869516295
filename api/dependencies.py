"""What route functions are given: the services, and things named in the path."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, cast

from fastapi import Depends, Path, Request

from errors import NotFound
from incidents.models import Incident

if TYPE_CHECKING:
    from graph.services import Services

_ID = re.compile(r"[a-z]{2,8}_[0-9a-f]{1,64}")


def services_of(request: Request) -> Services:
    """The services that `create_app` was given."""
    return cast("Services", request.app.state.services)


def checked_id(value: str, what: str) -> str:
    """`value` when it can be an identifier at all. Raises NotFound otherwise: such a thing cannot exist."""
    if not _ID.fullmatch(value):
        raise NotFound(f"no {what} {value[:80]!r}")
    return value


async def _known_incident(request: Request, incident_id: Annotated[str, Path(max_length=80)]) -> Incident:
    return await services_of(request).incidents.get(checked_id(incident_id, "incident"))


KnownIncident = Annotated[Incident, Depends(_known_incident)]
"""The incident of the path. It is looked up before a stream begins, so an unknown id is a 404."""
