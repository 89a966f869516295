"""The Python frames of a CPython process, from its memory alone."""
