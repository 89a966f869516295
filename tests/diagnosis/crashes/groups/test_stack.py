"""Stacks normalised: what differs between runs, builds and depths is gone, what tells crashes apart is left."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from diagnosis.crashes.groups.hashes import address_hash, address_signature, duphash
from diagnosis.crashes.groups.reading import PlainFrame
from diagnosis.crashes.groups.stack import DEPTH, NormalStack, named_frames, normal_stack

BOTTOM = ["main", "__libc_start_call_main", "__libc_start_main_impl", "_start"]
ABORT = ["__pthread_kill_implementation", "raise", "abort", "__libc_message", "malloc_printerr", "_int_free", "free"]


def frames(names: list[str], **more: bool) -> list[PlainFrame]:
    return [PlainFrame(function=name, **more) for name in names]  # type: ignore[arg-type]


def of(names: list[str], overflow: bool = False) -> NormalStack:
    found = normal_stack(frames(names), overflow=overflow)
    assert found is not None
    return found


def test_the_way_into_abort_and_the_start_of_the_program_are_no_part_of_it() -> None:
    assert of([*ABORT, "Cache::evict(int)", "Cache::put<int>(int)", *BOTTOM]).names == (
        "Cache::evict",
        "Cache::put<T>",
        "main",
    )


@given(st.integers(1, 60))
def test_depth_of_a_recursion_does_not_matter(depth: int) -> None:
    expected = of(["fail", "visit", "each", "visit", "each", "load", *BOTTOM])
    assert of(["fail", *["visit", "each"] * (depth + 1), "load", *BOTTOM]) == expected


def test_where_a_stack_ran_out_does_not_matter() -> None:
    first = of(["leaf", *["f", "g", "h"] * 60], overflow=True)
    assert first == of(["g", "h", *["f", "g", "h"] * 90], overflow=True)
    counted = normal_stack(frames(["h", "f", "g", "h", "f", "g", "main"]), overflow=True, round_of=["g", "h", "f"])
    assert counted == first


def test_inlined_library_code_does_not_matter() -> None:
    plain = of(["Shop::load", *BOTTOM])
    assert of(["std::vector<int, std::allocator<int> >::operator[](unsigned long)", "Shop::load", *BOTTOM]) == plain
    assert of(["std::sort<int*>(int*, int*)", "std::__sort<int*>(int*)"]).names  # nothing else is left: it stays


def test_the_crash_frame_is_the_programs_own() -> None:
    found = normal_stack(
        [PlainFrame("inflate", in_app=False), PlainFrame("unpack", in_app=True), PlainFrame("main", in_app=True)]
    )
    assert found is not None
    assert found.crash_frame == "unpack"
    assert of(["__memmove_avx_unaligned_erms", "copy", "main"]).crash_frame == "copy"


def test_addresses_are_told_by_file_and_offset_alone() -> None:
    def run(slide: int, depth: int) -> list[PlainFrame]:
        offsets = [0x1200, *[0x1300] * depth, 0x1400]
        return [
            PlainFrame(build_id="ab12", module_offset=hex(o), offset=hex(slide + o), function=f"f{o}") for o in offsets
        ]

    assert address_signature(run(0x550000000000, 1)) == address_signature(run(0x7F0000000000, 30)) is not None
    inlined = run(0x1000, 1)
    inlined.insert(1, inlined[1]._replace(function="inlined"))
    assert address_signature(inlined) == address_signature(run(0, 1))
    assert address_signature(run(0, 1)[:1]) is None
    assert address_hash(["a+1", "?", "?", "?"]) is None


def test_hashes_differ_where_stacks_do() -> None:
    assert duphash(["a", "b"]) != duphash(["b", "a"])
    assert duphash([]) is None
    assert address_hash(["x+1", "x+2"]) != address_hash(["x+1", "y+2"])
    # a round of a recursion that ran out may be told from any of its functions
    assert address_hash(["x+1", "x+2"] * 50) == address_hash(["x+2", "x+1"] * 50)


NAME = st.one_of(st.none(), st.text(max_size=40), st.sampled_from(["abort", "main", "std::sort", "f", "g", "_start"]))


@given(
    st.lists(
        st.builds(PlainFrame, NAME, st.sampled_from([None, "/x", ""]), st.sampled_from([None, "0x1"])), max_size=500
    )
)
def test_any_stack_is_normalised_or_has_no_name(given_frames: list[PlainFrame]) -> None:
    for overflow in (False, True):
        found = normal_stack(given_frames, overflow=overflow, signal="SIGSEGV")
        if found is None:
            assert named_frames(given_frames)[1] == []
        else:
            assert 0 < len(found.names) <= DEPTH + 1
            assert found.crash_frame in found.names
            assert found.key.startswith("grp_")
