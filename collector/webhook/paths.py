"""Where in a container cores may be mounted: nowhere that hides what the system needs.

The path is judged after normalisation: `//etc`, `/etc/../etc` and `/corefile/../var` are what they lead to. Links of
the usual images (`/bin` to `/usr/bin`, `/var/run` to `/run`) are in the list themselves; links of an image are resolved
by the container runtime inside that container's own root, and can hide nothing but its own files.
"""

from __future__ import annotations

import posixpath

FORBIDDEN = (
    *("/bin", "/boot", "/dev", "/etc", "/home", "/lib", "/lib32", "/lib64", "/libx32", "/proc", "/root", "/run"),
    *("/sbin", "/sys", "/usr", "/var"),
)
_MAX = 255


def normal(path: str) -> str:
    """The path that it leads to, by its text alone: one leading slash, no `.`, `..` or trailing slash."""
    return posixpath.normpath("/" + path.lstrip("/"))


def refused(path: str) -> str | None:
    """Why nothing is mounted at `path`; None when it may be."""
    if not path.startswith("/"):
        return f"{path[:80]!a} is not an absolute path"
    if len(path) > _MAX or ":" in path or not path.isprintable():
        return f"{path[:80]!a} is no possible mount path"
    real = normal(path)
    if real == "/":
        return f"{path[:80]!a} is the container's whole root"
    for forbidden in FORBIDDEN:
        if real == forbidden or real.startswith(f"{forbidden}/"):
            return f"{path[:80]!a} is in {forbidden}, where the system's own files are"
    return None
