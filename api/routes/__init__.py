"""One file per resource. Each has a `router`; `api/app.py` puts them together."""
