"""gdb's answers in the vocabulary of the crash report."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from diagnosis.crashes.modules import Modules
from diagnosis.redaction import redact_literals
from incidents.crash_report import Frame, Instruction, Variable

_ZEROS = ("add BYTE PTR [rax],al", "add BYTE PTR [eax],al", "udf #0", "unimp", "c.unimp", "andeq r0, r0, r0")
"""How bytes of zero are disassembled on x86-64, i386, aarch64, riscv64 and arm."""
_SPACES = re.compile(r"\s+")
_VALUE_LIMIT = 500
_NAME_LIMIT = 1000
_VARIABLES = 64


def frames_of(payload: Mapping[str, Any], modules: Modules) -> list[Frame]:
    """Frames of one `-stack-list-frames` answer, innermost first."""
    found = []
    for item in _list(payload, "stack"):
        address = number(item.get("addr"))
        function = _name(item.get("func"))
        if item.get("func") is None and address is None:
            continue
        module = modules.at(address) if address is not None else None
        line = number(item.get("line"))
        found.append(
            Frame(
                frame=number(item.get("level")) or 0,
                trust="context" if item.get("level") == "0" else "gdb",
                offset=hex(address) if address is not None else None,
                module=module.path.encode("utf-8", "replace").decode() if module else None,
                module_offset=hex(address - module.base) if module and address is not None else None,
                build_id=module.build_id if module else None,
                build_id_match=modules.matches.get(module.path, "absent") if module else None,
                function=None if function == "??" else function,
                file=_name(item.get("fullname")) or _name(item.get("file")),
                line=line if line else None,
                in_app=module.is_main if module else None,
            )
        )
    return found


def arguments_of(payload: Mapping[str, Any]) -> dict[int, list[Variable]]:
    """Arguments by frame of one `-stack-list-arguments` answer."""
    result: dict[int, list[Variable]] = {}
    for item in _list(payload, "stack-args"):
        level = number(item.get("level"))
        if level is not None:
            result[level] = [variable for entry in _list(item, "args")[:_VARIABLES] if (variable := _variable(entry))]
    return result


def variables_of(simple: Mapping[str, Any], full: Mapping[str, Any]) -> tuple[list[Variable], list[Variable]]:
    """Arguments and locals of one frame.

    gdb gives types only with `--simple-values`, and values of compounds only with `--all-values`: both are merged.
    """
    values = [str(entry.get("value", "")) for entry in _list(full, "variables")]
    arguments: list[Variable] = []
    local: list[Variable] = []
    for index, entry in enumerate(_list(simple, "variables")[:_VARIABLES]):
        variable = _variable(entry)
        if variable is None:
            continue
        if variable.value is None and index < len(values):
            variable = variable.model_copy(update={"value": _value(redact_literals(variable.name, values[index]))})
        (arguments if entry.get("arg") else local).append(variable)
    return arguments, local


def disassembly_of(payload: Mapping[str, Any], pc: int) -> list[Instruction]:
    """What gdb disassembled; nothing when that was zeros.

    A mapping that the core only names, of a file that is not at hand, gdb reads as zeros: no instructions of the
    program, and no evidence of anything.
    """
    found = []
    for item in _list(payload, "asm_insns"):
        address = number(item.get("address"))
        if address is None:
            continue
        found.append(
            Instruction(
                address=hex(address),
                text=_SPACES.sub(" ", str(item.get("inst", "")))[:300],
                function=_name(item.get("func-name")),
                offset=number(item.get("offset")),
                is_pc=address == pc,
            )
        )
    return [] if found and all(item.text in _ZEROS for item in found) else found


def number(text: object) -> int | None:
    try:
        return int(str(text), 0)
    except ValueError:
        return None


def _list(payload: Mapping[str, Any], key: str) -> Sequence[Mapping[str, Any]]:
    value = payload.get(key)
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _name(value: object) -> str | None:
    return str(value)[:_NAME_LIMIT] if value else None


def _value(text: str) -> str:
    return text if len(text) <= _VALUE_LIMIT else text[: _VALUE_LIMIT - 1] + "…"


def _variable(entry: Mapping[str, Any]) -> Variable | None:
    name = _name(entry.get("name"))
    if name is None:
        return None
    value = entry.get("value")
    shown = _value(redact_literals(name, str(value))) if value is not None else None
    return Variable(name=name, type=_name(entry.get("type")), value=shown)
