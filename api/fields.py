"""Types of request fields: bounded plain text, Kubernetes names, and the base of request bodies."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, StringConstraints
from pydantic_core import PydanticCustomError

NAMESPACE = r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"
"""A DNS label (RFC 1123), as Kubernetes wants namespaces."""
OBJECT_NAME = r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$"
"""A DNS subdomain (RFC 1123), as Kubernetes wants most object names."""


def _plain(value: str) -> str:
    if "\0" in value or any("\ud800" <= char <= "\udfff" for char in value):
        raise ValueError("must be text without NUL characters or lone surrogates")
    return value


Plain = AfterValidator(_plain)
Line = Annotated[str, StringConstraints(min_length=1, max_length=1024), Plain]
Text = Annotated[str, StringConstraints(min_length=1, max_length=8000, strip_whitespace=True), Plain]
Namespace = Annotated[str, StringConstraints(pattern=NAMESPACE)]
ObjectName = Annotated[str, StringConstraints(pattern=OBJECT_NAME)]


class Body(BaseModel):
    """Base of request bodies: unknown fields and wrong types are refused, nothing is coerced."""

    model_config = ConfigDict(extra="forbid", strict=True)


def field_error(field: str, message: str) -> PydanticCustomError:
    """An error of a whole-body rule that names the field to look at."""
    return PydanticCustomError("field_rule", "{message}", {"field": field, "message": message})
