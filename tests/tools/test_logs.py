"""The log never gives away what the program knows."""

from __future__ import annotations

import json
import subprocess
import sys

PROGRAM = """
import logging, structlog
from tools.logs import configure_logging
configure_logging("info")
def fail(password):
    raise RuntimeError("password=hunter2-in-message")
log = structlog.get_logger("x")
try:
    fail("hunter2-in-a-variable")
except RuntimeError:
    log.warning("failed", url="redis://me:hunter2-in-url@host/0", exc_info=True)
logging.getLogger("uvicorn.error").error("Authorization: Bearer hunter2-from-a-library")
log.debug("not at this level")
print("for the user")
"""


def test_json_on_stderr_without_secrets_or_variables() -> None:
    ran = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert ran.stdout == "for the user\n"
    lines = [json.loads(line) for line in ran.stderr.splitlines()]
    assert [line["event"].split(":")[0] for line in lines] == ["failed", "Authorization"]
    assert "hunter2" not in ran.stderr
    assert "RuntimeError" in lines[0]["exception"]
