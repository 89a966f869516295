"""Frames normalised for people and for signatures: siggen's and satyr's rules on what does not tell crashes apart."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Protocol, TypeVar

from incidents.crash_report import Frame


class FrameLike(Protocol):
    """What these rules read of a frame: a report's, or one read from somebody else's crash."""

    @property
    def function(self) -> str | None: ...
    @property
    def module(self) -> str | None: ...
    @property
    def module_offset(self) -> str | None: ...
    @property
    def in_app(self) -> bool | None: ...
    @property
    def trust(self) -> str | None: ...


AnyFrame = TypeVar("AnyFrame", bound=FrameLike)

# Frames through which a program ends itself; they and all above them say nothing about the place
# (satyr: sr_normalize, "exit frames" and "removable with all above"; siggen: irrelevant list).
_EXIT_NAMES = """
    abort raise kill tgkill __pthread_kill_implementation __pthread_kill_internal
    pthread_kill __assert_fail __assert_fail_base __assert_perror_fail __assert __libc_message __libc_message_impl
    __libc_fatal __fortify_fail __fortify_fail_abort __chk_fail __stack_chk_fail __stack_chk_fail_local
    malloc_printerr malloc_consolidate _int_malloc _int_free _int_realloc _int_memalign unlink_chunk sysmalloc
    free cfree malloc calloc realloc tcache_double_free_verify _int_free_merge_chunk _int_free_maybe_consolidate
    std::terminate std::abort __gnu_cxx::__verbose_terminate_handler __cxxabiv1::__terminate
    __cxxabiv1::__cxa_throw __cxa_throw __cxxabiv1::__cxa_rethrow __cxa_rethrow __cxa_call_terminate
    __cxxabiv1::__unexpected std::unexpected _Unwind_RaiseException _Unwind_Resume __gxx_personality_v0
    __cxa_pure_virtual operator_new operator_delete rust_panic __rust_start_panic rust_begin_unwind
    core::panicking::panic core::panicking::panic_fmt std::panicking::begin_panic std::sys::abort_internal
    dispatch_abort g_assertion_message g_assertion_message_expr g_logv g_log gsignal
    runtime.sigpanic runtime.raise runtime.raise.abi0 runtime.dieFromSignal runtime.crash runtime.throw
    runtime.fatalthrow runtime.fatalpanic runtime.fatal runtime.gopanic runtime.sighandler runtime.sigtrampgo
    runtime.sigtramp runtime.sigreturn runtime.sigfwdgo"""
_EXIT_PREFIX = (
    "std::__throw_", "std::panicking::", "core::panicking::", "core::result::", "core::option::", "__rustc::",
    "std::process::abort", "std::sys::pal::", "__interceptor_", "__asan_", "__sanitizer_", "runtime.panic",
    "runtime.goPanic",
)  # fmt: skip
_ALLOCATOR_NAMES = """
    malloc_printerr malloc_consolidate _int_malloc _int_free _int_realloc unlink_chunk sysmalloc tcache_get
    tcache_put tcache_double_free_verify _int_free_merge_chunk _int_free_maybe_consolidate _int_free_chunk
    munmap_chunk"""
# Below these is only the start of the program or thread.
_BOTTOM_NAMES = """
    _start __libc_start_main __libc_start_call_main __libc_start_main_impl generic_start_main start_thread clone
    clone3 __clone __clone3 __clone_internal execute_native_thread_routine _dl_start_user
    runtime.main runtime.goexit runtime.rt0_go runtime.mstart runtime.mcall
    __rust_begin_short_backtrace runtime.goexit runtime.goexit.abi0 runtime.main"""
_BOTTOM_PREFIX = (
    "std::rt::lang_start", "std::sys::backtrace::__rust_begin", "std::sys_common::backtrace::__rust_begin",
    "std::panicking::try", "std::panicking::catch_unwind", "std::panic::catch_unwind", "core::ops::function::",
    "__libc_start_main@",
)  # fmt: skip
_LIBC_START = ("__libc_start_main", "__libc_start_call_main", "generic_start_main")
_EXIT = frozenset(_EXIT_NAMES.split())
_ALLOCATOR = frozenset(_ALLOCATOR_NAMES.split())
_BOTTOM = frozenset(_BOTTOM_NAMES.split())
_HELPER_PREFIX = (
    "std::__invoke", "std::__invoke_impl", "std::invoke", "std::function<", "std::_Function_handler<",
    "std::thread::_Invoker<", "std::thread::_State_impl<", "std::__invoke_r",
)  # fmt: skip
_VARIANT = re.compile(
    r"^(?:__|_)*(mem(?:cpy|move|set|chr|cmp)|str(?:len|cpy|ncpy|cmp|ncmp|chr|rchr|cat)|wcslen|rawmemchr)"
    r"(?:_(?:sse\w*|ssse3\w*|avx\w*|evex\w*|erms|unaligned\w*|generic|neon\w*|simd\w*|falkor|thunderx\w*)|_chk)*$"
)
_CLONE = re.compile(r"(?:\s*\[clone [^\]]*\])|(?:\.(?:cold|part|isra|constprop|lto_priv|llvm)(?:\.\d+)*)+$")
_RUST_HASH = re.compile(r"::h[0-9a-f]{16}$")
_PLAIN = re.compile(r"(?!_|mem|str|wcslen|rawmemchr|.*::h[0-9a-f]{16}$)[A-Za-z]\w*(?:::~?[A-Za-z]\w*)*")
"""Names with nothing to normalise."""
_GO = re.compile(r"[\w./%~-]+\.(?:\(\*?\w[^()]*\)\.\w|\w+\[[^\]])")
"""A method, or a function with type arguments, as Go's linker names it: `shop/store.(*Shelf[go.shape.int]).open`."""
_GO_TYPES = re.compile(r"\[.*\]")
_OPERATOR = re.compile(r"operator(?:<=>|<<=|>>=|<<|>>|<=|>=|->\*|->|<|>)")
_QUALIFIERS = re.compile(r"(?:\s+(?:const|volatile|noexcept)|\s*&&?)+$")
_CONTROL = re.compile(r"[^\x20-\x7e\u00a0-\U0010ffff]+")
_NAME_LIMIT = 120
_CACHED_LENGTH = 256
"""Longer names are not remembered: the cache must stay small whatever it is fed."""
_SEARCHED, _GAP = 40, 3
_TOOLCHAIN = ("/usr/include/", "/usr/lib/gcc", "/usr/lib/go", "/usr/lib/llvm", "/usr/local/go/src/", "/rustc/")
"""Where compilers keep the source of their libraries."""
HANDLER_FRAME = "<signal handler called>"
"""gdb's name for the frame that the kernel made for a signal handler."""
CRASHED_HANDLER = "<signal handler called, which ended the program>"
"""The same, where what happened is in the handler, and not in what it interrupted."""


def normalize(function: str) -> str:
    """A function's name without what differs between builds and calls: arguments, template arguments, clones.

    `App::Cache<int, Alloc>::evict(int) const [clone .cold]` becomes `App::Cache<T>::evict`.
    """
    return _normalized(function) if len(function) <= _CACHED_LENGTH else _normal_name(function)


@lru_cache(maxsize=131_072)
def _normalized(function: str) -> str:
    return _normal_name(function)


def _normal_name(function: str) -> str:
    if _PLAIN.fullmatch(function) or function in (HANDLER_FRAME, CRASHED_HANDLER):
        return function[:_NAME_LIMIT]
    name = _CONTROL.sub("", function).strip()[:4000]
    if _GO.match(name):
        return _GO_TYPES.sub("[...]", name)[:_NAME_LIMIT]
    name = _RUST_HASH.sub("", _CLONE.sub("", name))
    name = name.replace("(anonymous namespace)", "{anon}").replace("operator()", "operator{call}")
    operator = _OPERATOR.search(name)
    kept = ""
    if operator:
        name = name.replace(operator[0], "operator{op}")
        kept = operator[0]
    name = _without_brackets(name, "(", ")", "")
    name = _without_brackets(name, "<", ">", "<T>")
    name = _QUALIFIERS.sub("", name).strip()
    head, found, tail = name.partition("operator")
    name = head.rsplit(" ", 1)[-1] + found + tail  # without the return type that template functions have
    if kept:
        name = name.replace("operator{op}", kept)
    name = name.replace("operator{call}", "operator()").replace("{anon}", "(anonymous namespace)")
    if name.startswith("__GI_"):
        name = name[5:]
    if variant := _VARIANT.match(name):
        name = variant[1]
    return name[:_NAME_LIMIT] or "??"


def is_exit(name: str) -> bool:
    if name.startswith("runtime."):  # Go's, between a panic and the signal
        return name not in _BOTTOM
    return name in _EXIT or name.startswith(_EXIT_PREFIX)


def is_allocator(name: str) -> bool:
    return name in _ALLOCATOR


def is_bottom(name: str) -> bool:
    return name in _BOTTOM or name.startswith(_BOTTOM_PREFIX)


def is_helper(function: str) -> bool:
    """Standard library plumbing between a caller and the function that it was given."""
    return function.startswith(_HELPER_PREFIX) or function in (HANDLER_FRAME, CRASHED_HANDLER)


def label(frame: FrameLike) -> str | None:
    """The frame in a signature: its function, else module and offset; None when not even the module is known."""
    return normalize(frame.function) if frame.function else place(frame)


def place(frame: FrameLike) -> str | None:
    """A nameless frame by its module, and its offset there if that is known (siggen: the module alone)."""
    if not frame.module:
        return None
    name = _CONTROL.sub("", frame.module.rsplit("/", 1)[-1])[:80]
    return f"{name}+{frame.module_offset}" if frame.module_offset else name or None


def relevant(frames: Sequence[AnyFrame]) -> list[AnyFrame]:
    """The frames that say where it happened: without the way into abort above and the start of the thread below."""
    return [frame for frame, _ in relevant_named(frames)]


def relevant_named(frames: Sequence[AnyFrame]) -> list[tuple[AnyFrame, str | None]]:
    """The same, each with its normalised name."""
    start = 0
    handler = next((index for index, frame in enumerate(frames) if frame.function == CRASHED_HANDLER), None)
    frames = frames[:handler] or frames  # what was interrupted is chance
    names = [normalize(frame.function) if frame.function else None for frame in frames]
    for index, name in enumerate(names[:_SEARCHED]):
        if frames[index].function == HANDLER_FRAME:
            start = index + 1
        elif name and index - start <= _GAP and is_exit(name):
            start = index + 1  # frames between two exit frames are unnamed insides of libraries
    kept: list[tuple[AnyFrame, str | None]] = []
    for index, (frame, name) in enumerate(zip(frames[start:], names[start:], strict=True), start):
        if name and name.startswith(_LIBC_START):
            while kept and kept[-1][1] is None and kept[-1][0].module == frame.module:
                kept.pop()  # an unnamed inside of libc's; what is below is the start of the program
            if kept or not any(names[index + 1 :]):
                break
        if name and (is_bottom(name) or is_helper(frame.function or "")):
            continue
        kept.append((frame, name))
    if kept and kept[-1][1] is None and any(frame.in_app for frame, _ in kept):
        while kept[-1][1] is None and not kept[-1][0].in_app:
            kept.pop()  # a library that started the thread, without names
    # what a search of a damaged stack found may be a frame that had returned long before
    better = [pair for pair in kept if pair[0].trust != "scan"]
    return better if any(frame.function or frame.module for frame, _ in better) else kept


def in_application(frames: Sequence[Frame]) -> Frame | None:
    """The innermost relevant frame in the executable itself, one with a line of its own source if there is any.

    Optimised code may be told by the line of a library's header that was compiled into it.
    """
    own = [frame for frame in relevant(frames) if frame.in_app]
    told = [frame for frame in own if frame.line is not None]
    written = (frame for frame in told if not (frame.file or "").startswith(_TOOLCHAIN))
    return next(written, told[0] if told else own[0] if own else None)


def _without_brackets(text: str, opening: str, closing: str, instead: str) -> str:
    """`text` with each outermost bracket pair replaced; unbalanced text is cut at the bracket."""
    head, found, rest = text.partition(opening)
    if not found:
        return text
    if opening not in rest and rest.count(closing) == 1 and closing not in head:  # most names
        return head + instead + rest.partition(closing)[2]
    result: list[str] = []
    depth = 0
    for char in text:
        if char == opening:
            if depth == 0:
                result.append(instead)
            depth += 1
        elif char == closing and depth:
            depth -= 1
        elif depth == 0:
            result.append(char)
    return "".join(result)
