"""Exit 1 unless a JUnit report says that tests ran and that none was skipped.

    ran.py build/e2e.xml

A run that found no cluster, or skipped what needs one, ends green by itself; in continuous integration it must not.
"""

from __future__ import annotations

import sys
from pathlib import Path
from xml.etree import ElementTree


def main(report: Path) -> int:
    """Print the counts of `report` and return the exit code."""
    if not report.is_file():
        print(f"{report}: there is no report, so no test ran", file=sys.stderr)
        return 1
    cases = list(ElementTree.parse(report).getroot().iter("testcase"))  # noqa: S314 (pytest wrote it)
    skipped = [case for case in cases if case.find("skipped") is not None]
    ran = len(cases) - len(skipped)
    print(f"{report.name}: {ran} run, {len(skipped)} skipped")
    for case in skipped:
        print(f"  skipped: {case.get('classname')}::{case.get('name')}", file=sys.stderr)
    return 0 if ran and not skipped else 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
