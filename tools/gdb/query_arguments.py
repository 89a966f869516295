"""What a query may say: numbers, hexadecimal addresses, names, and expressions of a grammar without calls.

With a core loaded, gdb can still run a shell, Python and other programs. So no text of a caller reaches it: numbers
are numbers, an expression is an identifier with `->`, `.`, `[number]` and leading `*`, or a number, and a type is its
name.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

_MEMORY_LIMIT = 512

Expression = Annotated[
    str,
    StringConstraints(
        max_length=200,
        pattern=r"^(?:\*{0,3}[A-Za-z_][A-Za-z0-9_]*(?:(?:->|\.)[A-Za-z_][A-Za-z0-9_]*|\[(?:0x[0-9a-fA-F]{1,16}|[0-9]{1,9})\])*"
        r"|0x[0-9a-fA-F]{1,16}|[0-9]{1,19})$",
    ),
]
TypeName = Annotated[
    str,
    StringConstraints(
        max_length=200,
        pattern=r"^(?:(?:struct|class|union|enum) )?[A-Za-z_][A-Za-z0-9_]*(?:::[A-Za-z_][A-Za-z0-9_]*)*$",
    ),
]
Address = Annotated[str, StringConstraints(pattern=r"^0x[0-9a-fA-F]{1,16}$")]


class _Arguments(BaseModel):
    model_config = ConfigDict(extra="forbid")


class NoArguments(_Arguments):
    pass


class ThreadArguments(_Arguments):
    thread: int | None = Field(default=None, ge=0, description="Kernel thread id; default: the thread that crashed")


class BacktraceArguments(ThreadArguments):
    frames: int = Field(default=32, ge=1, le=256)


class FrameArguments(ThreadArguments):
    frame: int = Field(default=0, ge=0, le=255, description="0 is the innermost")


class ExpressionArguments(FrameArguments):
    expression: Expression = Field(description="Such as `node->next`, `*item.list[3]`; no calls, no arithmetic")


class TypeArguments(FrameArguments):
    type: TypeName = Field(description="A type or a variable of the frame, such as `struct node` or `Shop::Order`")


class SymbolArguments(_Arguments):
    address: Address = Field(description="Hexadecimal, with 0x; of code or of data")


class MemoryArguments(_Arguments):
    address: Address = Field(description="Hexadecimal, with 0x")
    count: int = Field(default=64, ge=1, le=_MEMORY_LIMIT, description="Bytes")
