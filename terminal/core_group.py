"""`paramedic core group`: crashes in, one JSON document a line; the same lines out, each with its group."""

from __future__ import annotations

import json
import sys
from typing import BinaryIO

import typer

from errors import InvalidInput, ToolFailed

MAX_LINE = 16 << 20
"""Bytes of one line. Longer ones are passed over as they come and refused by number."""


def group(
    stdin: bool = typer.Option(False, "--stdin", help="Read crashes from standard input, one JSON document a line"),
) -> None:
    """Group crashes: JSON lines in, the same lines with `group_id` and `similarity` out, as they come.

    A line is a crash report or diagnosis of ours, or an object with `frames`, `threads` or `stacktrace`; frames are
    objects (function, module, module_offset, …) or lines of text. `similarity` is that to the first crash of the
    group; both are null for a crash none of whose frames has a name. Ids depend on the crashes alone: the same crash
    has the same id tomorrow.

    Exit status: 0 all lines were grouped, 2 some were refused (each is named on stderr; the others were grouped).
    """
    if not stdin:
        raise InvalidInput("crashes are read from standard input: paramedic core group --stdin < crashes.jsonl")
    from diagnosis.crashes.groups.clusters import Clusters
    from diagnosis.crashes.groups.reading import read_crash

    clusters = Clusters()
    source, target = sys.stdin.buffer, sys.stdout.buffer
    refused = False
    number = 0
    while (line := _line(source)) != b"":
        number += 1
        if line is not None and not line.strip():
            continue
        try:
            if line is None:
                raise InvalidInput(f"longer than {MAX_LINE >> 20} MiB")
            document = _document(line)
            crash = read_crash(document)
            found = clusters.assign(crash.stack, crash.address_sig) if crash.stack else None
            answer = _with(line, document, found.group_id if found else None, found.similarity if found else None)
        except InvalidInput as error:
            typer.echo(f"paramedic: line {number}: {error}", err=True)
            refused = True
            continue
        try:
            target.write(answer)
            target.flush()
        except BrokenPipeError:
            sys.stderr.close()  # the reader has gone; nothing is left to say
            raise typer.Exit(0) from None
        except OSError as error:
            raise ToolFailed(f"the output cannot be written: {error.strerror}") from None
    if refused:
        raise typer.Exit(2)


def _line(source: BinaryIO) -> bytes | None:
    """The next line with its end; empty at the end of input, None for one that is too long."""
    line = source.readline(MAX_LINE + 1)
    if len(line) <= MAX_LINE:
        return line
    while line and not line.endswith(b"\n"):
        line = source.readline(1 << 20)
    return None


def _document(line: bytes) -> dict[str, object]:
    try:
        document = json.loads(line.decode("utf-8"), parse_constant=_no_number)
    except UnicodeDecodeError:
        raise InvalidInput("not UTF-8") from None
    except RecursionError:
        raise InvalidInput("nested too deep") from None
    except ValueError as error:
        raise InvalidInput(f"not JSON: {str(error)[:200]}") from None
    if not isinstance(document, dict):
        raise InvalidInput("a crash is a JSON object with its frames")
    return document


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


def _with(line: bytes, document: dict[str, object], group_id: str | None, similarity: float | None) -> bytes:
    """The line as it was, to the last digit, with the group at its end. Raises InvalidInput."""
    added: dict[str, object] = {"group_id": group_id, "similarity": similarity}
    if document.keys() & added.keys():  # then it has to be written anew
        try:
            return json.dumps(document | added, allow_nan=False).encode() + b"\n"
        except (ValueError, RecursionError):
            raise InvalidInput("it names a group already and cannot be written anew") from None
    inner = line.strip()[:-1].rstrip()
    comma = b", " if document else b""
    return inner + comma + json.dumps(added)[1:].encode() + b"\n"
