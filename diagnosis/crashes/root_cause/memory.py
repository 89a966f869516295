"""Root causes of a bad memory access: which pointer, what it was, and where its value came from."""

from __future__ import annotations

from collections.abc import Sequence

from diagnosis.crashes.accesses import is_guard_page
from diagnosis.crashes.bit_flips import bit_flips
from diagnosis.crashes.code import instruction_at
from diagnosis.crashes.core_file import CoreFile
from diagnosis.crashes.faults import NEAR_NULL, Fault, FaultKind
from diagnosis.crashes.frames import normalize
from diagnosis.crashes.layouts import Layout
from diagnosis.crashes.operands import Operand
from diagnosis.crashes.poison import poison_of, text_in
from diagnosis.crashes.root_cause.classes import Conclusion, Proof, RootClass
from diagnosis.crashes.root_cause.freed import freed_source
from diagnosis.crashes.root_cause.heap import bytes_at
from diagnosis.crashes.root_cause.pointers import Blamed, blamed_pointer
from diagnosis.crashes.root_cause.variables import origin
from diagnosis.crashes.signals import code_name
from incidents.crash_report import CrashReport, Frame

_PAGE = 4096
_STRING = 200
_LARGE_FRAME = 64 * 1024


def memory_cause(
    core: CoreFile, fault: Fault, report: CrashReport, frames: Sequence[Frame], layouts: Sequence[Layout]
) -> Conclusion | None:
    """The cause of a SIGSEGV. `frames` are those of the crash, innermost first."""
    if fault.kind is FaultKind.STACK_OVERFLOW:
        return _exhausted(fault, report)
    blamed = blamed_pointer(core, fault, frames, layouts)
    if fault.kind is FaultKind.NEAR_NULL:
        # where the heap is low, the mark in a freed chunk is a small number
        marked = blamed is not None and blamed.value >= _PAGE and not fault.at_pc
        return (freed_source(core, fault, blamed, frames) if marked else None) or _null(fault, blamed, frames, layouts)
    if fault.kind is FaultKind.PROTECTION:
        return Conclusion(
            RootClass.UNKNOWN, 0.3, "a general protection fault; the registers do not tell which address it was about"
        )
    return (
        _returned(core, fault)
        or freed_source(core, fault, blamed, frames)
        or _poisoned(core, fault, blamed)
        or _refused(core, fault, blamed)
        or _past_the_end(core, fault, blamed)
        or _flipped(core, fault)
        or _wild(core, fault, blamed)
    )


def bus_cause(core: CoreFile) -> Conclusion | None:
    """The cause of a SIGBUS, by what the kernel reports."""
    info = core.signal
    code = code_name(core.signo, info.code) if info else None
    if info is None or code is None:
        return None
    mapped = core.mapped_at(info.address)
    if code == "BUS_ADRERR" and mapped is not None:
        offset = mapped.file_offset + info.address - mapped.start
        name = ascii(mapped.path)[1:-1][:300]
        return Conclusion(
            RootClass.BUS_TRUNCATED_MAPPING,
            0.95,
            f"byte {offset} of the mapped file {name} was touched, and the file is shorter than that: it was "
            "truncated, or mapped too long, or its file system is full",
            name,
            None,
            (Proof(f"core note NT_FILE at offset {hex(core.files_offset)}", f"{hex(mapped.start)} {name}"),),
        )
    if code == "BUS_ADRALN":
        return Conclusion(RootClass.MISALIGNED_ACCESS, 0.9, f"the address {hex(info.address)} is not aligned")
    if code.startswith("BUS_MCEERR"):
        return Conclusion(
            RootClass.HARDWARE_MEMORY, 0.95, f"the hardware reports damaged memory at {hex(info.address)}"
        )
    return None


def _exhausted(fault: Fault, report: CrashReport) -> Conclusion:
    recursion = report.threads[0].recursion if report.threads else None
    start, end = fault.stack_start or 0, hex(fault.stack_end or 0)
    if recursion is not None:
        # frames are listed innermost first, people read who calls whom
        cycle = " → ".join(dict.fromkeys(normalize(name) for name in reversed(recursion.functions[:8])))
        how = "called each other in a circle" if "→" in cycle else "called itself"
        return Conclusion(
            RootClass.UNBOUNDED_RECURSION,
            0.98,
            f"{cycle} {how} {recursion.count} times until the stack that ends at {end} was used up",
            cycle,
            recursion.first,
        )
    used = ((fault.stack_end or 0) - (fault.address or 0)) // 1024
    missing = (start - (fault.address or 0)) // 1024
    return Conclusion(
        RootClass.STACK_EXHAUSTION,
        0.9 if missing > _LARGE_FRAME // 1024 else 0.85,
        f"{_frame_of(report)} needs more stack than there is: {used} KiB below the end at {end}, "
        f"where {((fault.stack_end or 0) - start) // 1024} KiB are mapped: large local variables, or alloca"
        if missing > _LARGE_FRAME // 1024
        else f"the stack that ends at {end} was used up ({used} KiB) without a recursion: by large local variables",
    )


def _frame_of(report: CrashReport) -> str:
    frames = report.threads[0].frames if report.threads else []
    return normalize(frames[0].function) if frames and frames[0].function else "the function"


def misaligned_cause(fault: Fault) -> Conclusion:
    """An instruction that needs an aligned address got another."""
    size = (fault.operand.size if fault.operand else None) or 16
    address = fault.address or 0
    return Conclusion(
        RootClass.MISALIGNED_ACCESS,
        0.95,
        f"{_access(fault)} at {hex(address)}, which is {address % size} bytes past a multiple of {size}: the "
        "instruction needs an aligned address",
    )


def _null(fault: Fault, blamed: Blamed | None, frames: Sequence[Frame], layouts: Sequence[Layout]) -> Conclusion:
    address = fault.address or 0
    if fault.at_pc:
        caller = next((normalize(frame.function) for frame in frames if frame.function), "an unknown function")
        return Conclusion(
            RootClass.NULL_FUNCTION_POINTER, 0.95, f"{caller} called a function pointer that is {hex(address)}"
        )
    access = _access(fault)
    name = f"`{blamed.expression}`" if blamed and blamed.expression else "a pointer"
    where, how = origin(frames, blamed.held) if blamed and blamed.held else (None, None)
    told = f"; {how}" if how else ""
    proofs = blamed.proofs if blamed else ()
    indexed = fault.operand is not None and len(fault.operand.registers) > 1
    if address == 0 or indexed:
        which = f"element at {hex(address)} of {name}" if indexed and address else name
        return Conclusion(
            RootClass.NULL_DEREFERENCE,
            0.97 if blamed else 0.9,
            f"{access} through {which}, which is null{told}",
            blamed.expression if blamed else None,
            where,
            proofs,
        )
    small = fault.operand.registers[0][1] if fault.operand and fault.operand.registers else 0
    if small and (blamed is None or blamed.value == small):
        pointer = f"`{blamed.expression}`" if blamed and blamed.expression else "the pointer"
        return Conclusion(
            RootClass.NEAR_NULL_MEMBER,
            0.75 if blamed and blamed.expression else 0.8,
            f"{access} through {pointer} = {hex(small)}, which is no address: offset {hex(small)} of a null pointer, "
            f"or a small number{told}",
            blamed.expression if blamed else None,
            where,
            proofs,
        )
    layout = blamed.layout if blamed else None
    member = layout.member_at(address) if layout else None
    if layout is not None and member is not None and blamed is not None and blamed.expression:
        inside = f" + {address - member.offset}" if address != member.offset else ""
        shown = f"{blamed.expression}->{member.name}"
        return Conclusion(
            RootClass.NEAR_NULL_MEMBER,
            0.98,
            f"{access} of `{shown}`{inside} at offset {hex(member.offset)} of {layout.type}; {name} is null{told}",
            shown,
            where,
            (
                *proofs,
                Proof(
                    f'gdb -interpreter-exec --frame {layout.frame} console "ptype /o *{blamed.expression}"',
                    f"{member.type} {member.name} at {member.offset}",
                ),
            ),
        )
    return Conclusion(
        RootClass.NEAR_NULL_MEMBER,
        0.9 if blamed else 0.85,
        f"{access} of a member at offset {hex(address)} of what {name} points to, which is null{told}",
        blamed.expression if blamed else None,
        where,
        proofs,
    )


def _returned(core: CoreFile, fault: Fault) -> Conclusion | None:
    """Control went to, or was about to go to, an overwritten return address."""
    thread = core.crashed
    instruction = instruction_at(core, thread.pc)
    if thread.sp is None or fault.address is None:
        return None
    word = core.memory.word
    if instruction is not None and instruction.flow == "return" and fault.at_pc:
        slot = thread.sp
    elif fault.at_pc and core.memory.pointer(thread.sp - word) == thread.pc and not core.may_hold_code(thread.pc or 0):
        slot = thread.sp - word  # what a return has just taken from the stack
    else:
        return None
    text = text_in(fault.address)
    spelled = f', its bytes spell "{text}"' if text else ""
    proof = bytes_at(core.memory, slot - 64, 96, "the stack around the return address")
    return Conclusion(
        RootClass.STACK_BUFFER_OVERFLOW,
        0.93 if text else 0.75,
        f"the return address at {hex(slot)} was overwritten: it is {hex(fault.address)}{spelled}",
        f"return address at {hex(slot)}",
        None,
        (proof,) if proof else (),
    )


def _poisoned(core: CoreFile, fault: Fault, blamed: Blamed | None) -> Conclusion | None:
    """A pattern that somebody writes; who it was is surer where that allocator is among the mapped files."""
    value = blamed.value if blamed else fault.address
    found = poison_of(value) if value is not None else None
    if found is None or value is None:
        return None
    kind = {
        "freed": RootClass.USE_AFTER_FREE,
        "uninitialized": RootClass.UNINITIALIZED,
    }.get(found.state, RootClass.WILD_POINTER)
    name = f"`{blamed.expression}`" if blamed and blamed.expression else "the pointer"
    writer = found.source.partition("'")[0]
    there = any(writer in mapped.path.rsplit("/", 1)[-1] for mapped in core.files)
    return Conclusion(
        kind,
        0.85 if there or found.state == "marker" else 0.6,
        f"{_access(fault)} through {name} = {hex(value)}, which is {found.name}, known as {found.source}",
        blamed.expression if blamed else None,
        None,
        blamed.proofs if blamed else (),
    )


def _refused(core: CoreFile, fault: Fault, blamed: Blamed | None) -> Conclusion | None:
    """The mapping is there and does not allow the access."""
    if fault.kind is not FaultKind.REFUSED or fault.address is None:
        return None
    segment = core.memory.segment(fault.address)
    name = f"`{blamed.expression}`" if blamed and blamed.expression else "the pointer"
    mapped = core.mapped_at(fault.address)
    place = f" of {ascii(mapped.path.rsplit('/', 1)[-1])[1:-1]}" if mapped else ""
    if fault.at_pc:
        return Conclusion(
            RootClass.EXECUTE_NON_EXECUTABLE,
            0.95,
            f"control went to {hex(fault.address)}{place}, which holds data: the mapping is not executable",
            None,
            None,
            _some(bytes_at(core.memory, fault.address, 32, "where control went")),
        )
    if is_guard_page(core, fault.address):
        return None
    writes = fault.operand is None or fault.operand.writes
    if (segment is None or not segment.writable) and writes:
        start = blamed.value if blamed else fault.address
        data = core.memory.c_string(start, _STRING)
        text = data.decode("ascii") if data and all(32 <= byte < 127 for byte in data) else None
        literal = f', the string "{text[:80]}"' if text else ""
        return Conclusion(
            RootClass.WRITE_TO_READONLY,
            0.95,
            f"{_access(fault)} at {hex(fault.address)} through {name}, in a read-only mapping{place}{literal}",
            blamed.expression if blamed else None,
            None,
            _some(bytes_at(core.memory, start, 64, "the constant that was written to")),
        )
    return None


def _past_the_end(core: CoreFile, fault: Fault, blamed: Blamed | None) -> Conclusion | None:
    """Just behind a mapping that the access began in, or a large index from a good base."""
    operand, address = fault.operand, fault.address
    if operand is None or address is None or fault.at_pc:
        return None
    base = next((value for _, value in operand.registers if core.memory.segment(value)), None)
    started = core.memory.segment(base) if base is not None else None
    before = core.memory.segment(address - 1) or core.memory.segment((address & ~(_PAGE - 1)) - 1)
    indexed = started is not None and len(operand.registers) > 1 and started.writable
    if not indexed and (before is None or not before.writable or address - before.end >= _PAGE):
        return None
    reached = started if indexed and started is not None else before
    if reached is None or (reached.vaddr <= address < reached.end and reached.flags):
        return None
    on_stack = core.crashed.sp is not None and reached.vaddr <= core.crashed.sp < reached.end
    if not operand.writes:
        kind = RootClass.OUT_OF_BOUNDS_READ
    else:
        kind = RootClass.STACK_BUFFER_OVERFLOW if on_stack else RootClass.HEAP_OVERFLOW
    region = "the stack" if on_stack else "the memory"
    name = f" from `{blamed.expression}`" if blamed and blamed.expression else ""
    how = f"index {_index(operand)} leads" if indexed else "the access ran"
    distance = address - reached.end
    past = f"{distance} bytes past" if distance else "directly past"
    return Conclusion(
        kind,
        0.8,
        f"{how}{name} to {hex(address)}, {past} the end of {region} at {hex(reached.vaddr)}-{hex(reached.end)}"
        if distance >= 0
        else f"{how}{name} to {hex(address)}, below {region} at {hex(reached.vaddr)}-{hex(reached.end)}",
        blamed.expression if blamed else None,
        None,
        _some(bytes_at(core.memory, reached.end - 64, 64, "the last bytes before the end")),
    )


def _flipped(core: CoreFile, fault: Fault) -> Conclusion | None:
    flips = bit_flips(core, fault)
    if not flips or flips[0].confidence < 0.5 or len(flips) > 2 or text_in(fault.address or 0):
        return None
    best = flips[0]
    return Conclusion(
        RootClass.POSSIBLE_BIT_FLIP,
        best.confidence,
        f"{hex(fault.address or 0)} is bit {best.bit} away from {best.address}, which is mapped: memory or processor "
        "may be faulty, if other programs on the node crash too",
        best.register_name,
    )


def _wild(core: CoreFile, fault: Fault, blamed: Blamed | None) -> Conclusion:
    value = blamed.value if blamed else fault.address
    name = f"`{blamed.expression}`" if blamed and blamed.expression else "a pointer"
    text = text_in(value) if value is not None else None
    spelled = f'; its bytes spell "{text}", as when text is written over a pointer' if text else ""
    came = f"; {blamed.came_from}" if blamed and blamed.came_from and not blamed.expression else ""
    small = value is not None and NEAR_NULL <= value < 1 << 32 and core.memory.word == 8
    number = "; it looks like a number, not like an address" if small else ""
    kind = RootClass.NON_CANONICAL_POINTER if fault.kind is FaultKind.NON_CANONICAL else RootClass.WILD_POINTER
    why = "nothing is mapped there"
    if kind is RootClass.NON_CANONICAL_POINTER:
        why = "no program can own that address"
    elif fault.kind is FaultKind.REFUSED:
        why = "what is mapped there does not allow it"
    shown = hex(value) if value is not None else "an address that the processor did not report"
    return Conclusion(
        kind,
        0.85 if blamed else 0.7,
        f"{_access(fault)} through {name} = {shown}: {why}{spelled}{number}{came}{_handed(blamed)}",
        blamed.expression if blamed else None,
        blamed.origin_frame if blamed else None,
        blamed.proofs if blamed else (),
    )


def _handed(blamed: Blamed | None) -> str:
    return f"; {blamed.handed_in}" if blamed and blamed.handed_in else ""


def _access(fault: Fault) -> str:
    if fault.at_pc:
        return "jump"
    operand = fault.operand
    if operand is None:
        return "access"
    kind = operand.access.replace("_", " and ")
    return f"{kind} of {operand.size} bytes" if operand.size else kind


def _index(operand: Operand) -> str:
    name, value = operand.registers[-1]
    signed = value - (1 << 64) if value >= 1 << 63 else value
    return f"{name} = {signed}"


def _some(*found: Proof | None) -> tuple[Proof, ...]:
    return tuple(proof for proof in found if proof is not None)
