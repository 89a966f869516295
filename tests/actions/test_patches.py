"""Patch bodies as the API server compares them."""

from __future__ import annotations

import json

from actions.patches import Change, forward_body


def test_strings_are_escaped_as_the_server_escapes_its_own() -> None:
    """Its `test` compares the text of strings, not their values: `&` would never equal its `\\u0026`."""
    command = ["sh", "-c", "a && b > /tmp/ü < c\u2028"]
    body = forward_body("uid", 1, [], [Change("/spec/template", {"command": command}, {"command": []})])
    assert '"a \\u0026\\u0026 b \\u003e /tmp/ü \\u003c c\\u2028"' in body
    assert json.loads(body)[2]["value"] == {"command": command}
