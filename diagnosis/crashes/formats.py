"""What a file is by its first bytes, for sentences about files that are no core dump."""

from __future__ import annotations

from diagnosis.crashes.elf import ET_CORE, ET_DYN, ET_EXEC, parse_header

COMPRESSED = {
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\x1f\x8b": "gzip",
    b"\xfd7zXZ\0": "xz",
    b"\x04\x22\x4d\x18": "lz4",
    b"BZh": "bzip2",
}
"""Streams that are unpacked here."""

_OTHERS = {
    b"PK\x03\x04": "a zip archive",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
    b"Rar!\x1a\x07": "a rar archive",
    b"LZIP": "lzip data",
    b"\x1f\x9d": "compress data",
    b"MDMP": "a minidump, not an ELF core",
    b"\xcf\xfa\xed\xfe": "a Mach-O file, not an ELF core",
    b"PAGEDU64": "a Windows dump, not an ELF core",
    b"KDUMP   ": "a kdump of a kernel, not the core of a program",
    b"\x89PNG": "an image",
    b"%PDF": "a PDF document",
}
_SHOWN = 40


def packed_with(head: bytes) -> str | None:
    """The compression that starts with `head`."""
    return next((name for magic, name in COMPRESSED.items() if head.startswith(magic)), None)


def is_tar(head: bytes) -> bool:
    return head[257:262] == b"ustar"


def is_zip(head: bytes) -> bool:
    return head.startswith(b"PK\x03\x04")


def is_packed(head: bytes) -> bool:
    """Something that cores are unpacked from."""
    return packed_with(head) is not None or is_tar(head) or is_zip(head)


def elf_type(head: bytes) -> int | None:
    header = parse_header(head[:64])
    return header.type if header else None


def what_is(head: bytes) -> str:
    """What starts with `head`, as the end of a sentence: `text that starts with 'ulimit…'`."""
    if not head:
        return "empty"
    if (kind := elf_type(head)) is not None:
        return {ET_CORE: "a core dump", ET_EXEC: "a program", ET_DYN: "a program or library"}.get(kind, "an ELF file")
    if (name := packed_with(head)) is not None:
        return f"packed with {name}"
    if is_tar(head):
        return "a tar archive"
    for magic, name in _OTHERS.items():
        if head.startswith(magic):
            return name
    if not any(head):
        return "zeros only: it was made room for, and never written"
    try:
        text = head[:256].decode("utf-8", "strict" if len(head) <= 256 else "ignore")
    except UnicodeDecodeError:
        return "data of no known format"
    if all(char.isprintable() or char in "\r\n\t\f" for char in text):
        return f"text that starts with {text[:_SHOWN]!a}"
    return "data of no known format"
