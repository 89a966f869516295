"""`python -m diagnosis.workloads.document [FILE]`: docs/causes.md, from what the analyzers say of their classes.

With `--check` the file is compared and nothing is written: exit status 1 where it differs.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from diagnosis.workloads.analyzers import ANALYZERS
from diagnosis.workloads.contract import Documented
from incidents.models import CauseClass

FILE = Path(__file__).parents[2] / "docs" / "causes.md"
_HEAD = """\
# Causes of failing workloads

Written by `python -m diagnosis.workloads.document` from the analyzers in `diagnosis/workloads/analyzers`; do not edit.

A cause is reported only with the evidence that its entry names; what nothing observed explains is `unknown`. The
classes of crashes of native code are those of the core report and are not listed here.
"""


def documented() -> dict[CauseClass, tuple[str, Documented]]:
    """Each documented class with the analyzer that documents it: the first that does."""
    found: dict[CauseClass, tuple[str, Documented]] = {}
    for analyzer in ANALYZERS:
        for cause, entry in getattr(analyzer, "CAUSES", {}).items():
            found.setdefault(cause, (analyzer.NAME, entry))
    return found


def document() -> str:
    """The page, in the order of the closed list."""
    entries = documented()
    parts = [_HEAD]
    for cause in CauseClass:
        if cause not in entries:
            continue
        name, entry = entries[cause]
        parts.append(
            f"## {cause.value}\n\n{entry.meaning}\n\n"
            f"- **Evidence**: {entry.evidence}\n- **Fix**: {entry.fix}\n- **Analyzer**: `{name}`\n"
        )
    return "\n".join(parts)


def main(arguments: Sequence[str]) -> int:
    """Write the page, or compare it; the exit status."""
    check = "--check" in arguments
    names = [argument for argument in arguments if argument != "--check"]
    file = Path(names[0]) if names else FILE
    page = document()
    if check:
        same = file.exists() and file.read_text(encoding="utf-8") == page
        if not same:
            print(f"{file} differs: run `python -m diagnosis.workloads.document`", file=sys.stderr)
        return 0 if same else 1
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(page, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
