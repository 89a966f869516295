"""Every error that Paramedic raises on purpose, as one tree.

    ParamedicError
    ├── InvalidInput            the caller sent something that cannot be used          400, exit 2
    │   ├── UnusableCore        not a core, truncated past use, or for another program  422
    │   └── InputTooLarge       past a configured size                                  413
    ├── NotFound                no such incident, approval, object or file              404
    ├── Conflict                the state does not allow it (already decided, …)        409
    ├── Forbidden               this caller may not                                     403
    ├── Unauthenticated         no usable credential                                    401
    ├── Refused                 a safety rule says no; nothing was written              409
    │   └── Stale               the object is no longer the one that was approved
    ├── BudgetExhausted         tokens, money or rate used up                           429
    └── ToolFailed              an outside tool or server did not do its part           502
        ├── ToolMissing         the program is not installed                            503
        └── ToolTimeout         it did not answer in time                               504

The `title` is constant for a class, the message says what happened and what to do. `api/problems.py` maps the tree
to problem details (RFC 9457) once; `cli.py` maps it to exit codes once. Tools never leak a client library's error.
"""

from __future__ import annotations


class ParamedicError(Exception):
    """Base of all errors raised on purpose. `str(error)` is one sentence fit for a user."""

    title = "Paramedic error"
    status = 500
    exit_code = 3


class InvalidInput(ParamedicError):
    """What the caller sent cannot be used; the message says what would be."""

    title = "Invalid input"
    status = 400
    exit_code = 2


class UnusableCore(InvalidInput):
    """The file is not a core dump, is damaged past use, or belongs to another program."""

    title = "Unusable core dump"
    status = 422


class InputTooLarge(InvalidInput):
    """The input is larger than the configured limit."""

    title = "Input too large"
    status = 413


class NotFound(ParamedicError):
    """No such incident, approval, object or file."""

    title = "Not found"
    status = 404
    exit_code = 2


class Conflict(ParamedicError):
    """The current state does not allow the request."""

    title = "Conflict"
    status = 409
    exit_code = 2


class Forbidden(ParamedicError):
    """The caller is known and may not do this."""

    title = "Forbidden"
    status = 403
    exit_code = 2


class Unauthenticated(ParamedicError):
    """No usable credential was given."""

    title = "Unauthenticated"
    status = 401
    exit_code = 2


class Refused(ParamedicError):
    """A safety rule of the gate said no. Nothing was written."""

    title = "Refused by the gate"
    status = 409
    exit_code = 2


class Stale(Refused):
    """The target, something it refers to, or its dry run differs from what was approved."""

    title = "Approval is stale"


class BudgetExhausted(ParamedicError):
    """A budget of tokens, money or requests is used up."""

    title = "Budget exhausted"
    status = 429


class ToolFailed(ParamedicError):
    """An outside program or server did not do its part."""

    title = "A tool failed"
    status = 502


class ToolMissing(ToolFailed):
    """The program or server is not there; the message says how to get it."""

    title = "A tool is missing"
    status = 503


class ToolTimeout(ToolFailed):
    """The program or server did not answer in time."""

    title = "A tool timed out"
    status = 504
