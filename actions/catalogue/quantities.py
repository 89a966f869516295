"""Kubernetes quantities as numbers."""

from __future__ import annotations

import re
from decimal import Decimal

from errors import Refused

_QUANTITY = re.compile(r"(\d{1,15}(?:\.\d{1,9})?)(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?")
_BINARY = {"Ki": 1, "Mi": 2, "Gi": 3, "Ti": 4, "Pi": 5, "Ei": 6}
_DECIMAL = {"k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18, "m": -3}


def quantity(text: str) -> Decimal:
    """A Kubernetes quantity as a number (bytes, cores). Raises Refused when it is none.

    Source: k8s.io/apimachinery resource.Quantity; exponents ("1e3") are not offered.
    """
    match = _QUANTITY.fullmatch(text)
    if not match:
        raise Refused(f"{text!r} is no quantity such as 512Mi or 500m")
    number, suffix = Decimal(match[1]), match[2]
    if suffix in _BINARY:
        return number * Decimal(1024 ** _BINARY[suffix])
    return number.scaleb(_DECIMAL[suffix]) if suffix else number
