"""The API's description: what the framework cannot know, and the committed copy.

`python -m api.openapi` writes `api/openapi.json` anew; a test compares the two.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from fastapi import FastAPI

from api.auth import OPEN
from api.problems import Problem
from settings import ApiSettings, Settings

if TYPE_CHECKING:
    from graph.services import Services

COMMITTED = Path(__file__).parent / "openapi.json"


def describe(app: FastAPI) -> None:
    """Let `app.openapi()`, and so `/openapi.json`, answer with the committed copy: to generate it takes a second, in
    which the event loop would stand still."""

    def committed() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = json.loads(COMMITTED.read_text(encoding="utf-8"))
        return app.openapi_schema

    app.openapi = committed  # type: ignore[method-assign]


def _complete(document: dict[str, Any]) -> None:
    """Add the problem schema and the two ways to present a key."""
    components = document.setdefault("components", {})
    schema = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    nested = schema.pop("$defs", {})
    components.setdefault("schemas", {}).update({"Problem": schema, **nested})
    components["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer"},
        "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    }
    document["security"] = [{"bearer": []}, {"key": []}]
    for path in OPEN & document["paths"].keys():
        for operation in document["paths"][path].values():
            operation["security"] = []


class _Undriven:
    """Stands where services would be: a description is made without opening any."""

    settings = Settings.model_construct(api=ApiSettings())
    database = incidents = approvals = cluster = None


def document() -> str:
    """The description as it is to be committed, generated from the routes."""
    from api.app import create_app

    app = create_app(cast("Services", _Undriven()))
    generated = FastAPI.openapi(app)
    _complete(generated)
    return json.dumps(generated, indent=2, ensure_ascii=False, sort_keys=True) + "\n"


if __name__ == "__main__":
    COMMITTED.write_text(document(), encoding="utf-8")
