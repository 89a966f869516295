"""Frames normalised, and signatures that do not change with addresses, arguments, clones or luck."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diagnosis.crashes.frames import CRASHED_HANDLER, in_application, normalize, relevant
from diagnosis.crashes.signature import recursion, signature
from incidents.crash_report import Frame
from incidents.models import CauseClass


def stack(*functions: str | None, app: set[str] | None = None) -> list[Frame]:
    return [
        Frame(
            frame=index,
            function=function,
            module="/srv/shop",
            module_offset=hex(0x1000 + index),
            in_app=app is None or function in app,
        )
        for index, function in enumerate(functions)
    ]


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        ("main", "main"),
        ("App::handle(Request const&, int)", "App::handle"),
        ("App::Cache<int, std::allocator<int> >::evict(int) const", "App::Cache<T>::evict"),
        ("std::vector<std::pair<int, int>, A<B<C> > > App::load<int>(int)", "App::load<T>"),
        ("App::work(int) [clone .cold]", "App::work"),
        ("App::work.part.0", "App::work"),
        ("parse.constprop.0.isra.1", "parse"),
        ("(anonymous namespace)::run(char const*)", "(anonymous namespace)::run"),
        ("App::Matrix::operator()(int) const", "App::Matrix::operator()"),
        ("operator<<(std::ostream&, Order const&)", "operator<<"),
        ("bool operator< <int>(A<int> const&, A<int> const&)", "operator< <T>"),
        ("__memcpy_avx_unaligned_erms", "memcpy"),
        ("__strlen_evex", "strlen"),
        ("__GI_raise", "raise"),
        ("shop::orders::look::h0123456789abcdef", "shop::orders::look"),
        ("evil\x1b[31m\nname", "evil[31mname"),
        ("App::is_const", "App::is_const"),
        ("App::load(int) const &", "App::load"),
        ("f(int (*)(char))", "f"),
        ("", "??"),
        ("f(", "f"),
        ("<<<<", "<T>"),
    ],
)
def test_names(function: str, expected: str) -> None:
    assert normalize(function) == expected


@given(st.text(max_size=300))
def test_any_name_gives_a_short_printable_one(function: str) -> None:
    name = normalize(function)
    assert 0 < len(name) <= 120
    assert "\n" not in name


def test_the_way_into_abort_and_the_start_of_the_thread_are_dropped() -> None:
    frames = stack(
        *("__pthread_kill_implementation", "raise", "abort", None, "std::terminate()", "__cxa_throw"),
        *("Shop::query(std::string const&)", "main", "__libc_start_call_main", "__libc_start_main_impl", "_start"),
    )
    assert [frame.function for frame in relevant(frames)] == ["Shop::query(std::string const&)", "main"]
    assert signature("SIGABRT", frames, CauseClass.ABORT) == "SIGABRT | Shop::query | main"


def test_frames_below_a_signal_handler_are_where_it_happened() -> None:
    frames = stack("abort", "on_crash(int)", "<signal handler called>", "Shop::work(Order*)", "main")
    assert signature("SIGABRT", frames, CauseClass.ABORT) == "SIGABRT | Shop::work | main"


def test_a_function_of_the_program_that_is_called_free_deep_in_the_stack_hides_nothing() -> None:
    frames = stack("App::a", "App::b", "App::c", "App::d", "App::e", "free", "main")
    assert signature("SIGSEGV", frames, CauseClass.WILD_POINTER).startswith("SIGSEGV | App::a | App::b")


def test_recursion_is_merged_wherever_it_stops() -> None:
    first = stack("leaf", *["f", "g", "h"] * 30, "main")
    second = stack("other", "g", "h", *["f", "g", "h"] * 40)
    expected = "SIGSEGV | stack overflow | f | g | h"
    assert signature("SIGSEGV", first[:80], CauseClass.STACK_OVERFLOW) == expected
    assert signature("SIGSEGV", second, CauseClass.STACK_OVERFLOW) == expected
    assert recursion(stack("a", "b", "c")) == []
    assert signature("SIGSEGV", stack("a", "b", "b", "b", "main"), CauseClass.WILD_POINTER) == "SIGSEGV | a | b | main"
    walk = stack("x", *["visit", "each"] * 3, "main")
    assert signature("SIGSEGV", walk, CauseClass.WILD_POINTER) == "SIGSEGV | x | visit | each | main"


def test_nameless_frames_are_told_by_module_and_offset() -> None:
    assert signature("SIGSEGV", stack(None, None), CauseClass.WILD_POINTER) == "SIGSEGV | shop+0x1000 | shop+0x1001"
    assert signature("SIGSEGV", [], CauseClass.UNKNOWN) == "SIGSEGV"
    assert signature("SIGSEGV", stack("pause", "main"), CauseClass.EXTERNAL_SIGNAL) == "SIGSEGV | sent from outside"


def test_a_signature_has_at_most_255_characters() -> None:
    assert len(signature("SIGSEGV", stack(*(c * 200 for c in "abcdef")), CauseClass.WILD_POINTER)) <= 255


def test_the_innermost_frame_of_the_program_with_a_line_is_its_place() -> None:
    frames = stack("memcpy", "Shop::copy", "Shop::serve", "main", app={"Shop::copy", "Shop::serve", "main"})
    frames[2] = frames[2].model_copy(update={"file": "serve.cpp", "line": 7})
    found = in_application(frames)
    assert found is not None
    assert found.function == "Shop::serve"
    assert in_application(stack("memcpy", app=set())) is None


@given(st.lists(st.sampled_from(["f", "g", "abort", "main", "_start", None, "<signal handler called>"]), max_size=60))
def test_any_stack_has_a_signature(functions: list[str | None]) -> None:
    for cause in (CauseClass.STACK_OVERFLOW, CauseClass.ABORT):
        assert signature("SIGSEGV", stack(*functions), cause).startswith("SIGSEGV")


def test_the_start_of_the_program_is_not_in_it_whatever_libc_has_no_names_for() -> None:
    frames = stack(None, None, None, "__libc_start_main", None, app={None})
    frames[2] = frames[2].model_copy(update={"module": "/lib/libc.so.6", "in_app": False})
    frames[3] = frames[3].model_copy(update={"module": "/lib/libc.so.6"})
    assert signature("SIGSEGV", frames, CauseClass.NULL_DEREFERENCE) == "SIGSEGV | shop+0x1000 | shop+0x1001"


def test_what_a_crashed_handler_interrupted_is_not_in_it() -> None:
    frames = stack("abort", "on_alarm", CRASHED_HANDLER, "raise", "spin", "main")
    assert signature("SIGABRT", frames, CauseClass.ABORT) == "SIGABRT | on_alarm"
