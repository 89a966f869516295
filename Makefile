# Everything runs from .venv, which `make setup` makes from the lock. See CONTRIBUTING.md.
PYTHON ?= python3
BIN := .venv/bin
CLUSTER := deploy/dev-cluster/cluster
PYTEST_ARGS ?=
# without its cache every process compiles what it imports anew, which takes several seconds
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup demo serve test unit system generated e2e eval lint type bench cluster lock clean
.DEFAULT_GOAL := help

help: ## this list
	@sed -n 's/^\([a-z0-9]*\):[^#]*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

setup: .venv/.ready ## make .venv with everything in it, from the locked, hashed requirements
.venv/.ready: requirements-dev.lock pyproject.toml deploy/setup
	@PYTHON=$(PYTHON) deploy/setup

demo: setup ## crash a small C++ program here and watch it being diagnosed: no cluster, no model, no server needed
	@$(BIN)/paramedic demo

serve: setup ## run the service on 127.0.0.1:8080
	$(BIN)/paramedic serve

lint: setup ## ruff (rules and format) and the import contract
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

type: setup ## mypy --strict
	$(BIN)/mypy

test: lint ## lint, types, unit and integration tests, none of which needs a cluster; ends with what was skipped, and why
	@$(MAKE) --no-print-directory -j2 type unit
	@echo 'Whole programs are tested by `make system`, on a real Kubernetes cluster by `make cluster` and `make e2e`.'

unit: .venv/.compiled
	$(BIN)/pytest -n auto --dist loadfile --no-loadscope-reorder \
	  -m "not cluster and not generated and not system" --ignore=tests/e2e --no-fold-skipped $(PYTEST_ARGS)

# once in a new .venv: otherwise each worker of the first run compiles all modules for itself, at the same time
.venv/.compiled: .venv/.ready
	-@$(BIN)/pytest --collect-only -q --ignore=tests/e2e >/dev/null 2>&1
	@touch $@

system: setup ## whole programs, started as users start them (service, agent, demo, image): a minute more
	$(BIN)/pytest -n auto --dist loadfile -m system tests --ignore=tests/e2e --no-fold-skipped $(PYTEST_ARGS)

generated: setup ## every cause of a crash in every kind of build, and more damaged input: a few minutes more
	$(BIN)/pytest -n auto -m generated tests --ignore=tests/e2e $(PYTEST_ARGS)

e2e: setup ## every test that needs a cluster, on $$KUBECONFIG or the development cluster
	@deploy/dev-cluster/e2e $(PYTEST_ARGS)

eval: setup ## break workloads on the development cluster and score diagnosis and repair: the quick subset
	$(BIN)/paramedic eval --fast $(EVAL_ARGS)

cluster: ## start (or find) a development cluster: kind where a Docker engine answers, else a native one
	@$(CLUSTER) up

bench: setup ## the benchmarks, one table each, but for the one of an hour
	@set -e; for name in $(filter-out big_core live_quiet,$(basename $(notdir $(wildcard benchmarks/*.py)))); do \
	  echo "== $$name"; $(BIN)/python -m benchmarks.$$name; done

lock: setup ## write both lock files anew from pyproject.toml (add UV_ARGS=--upgrade for newer versions)
	$(BIN)/uv pip compile pyproject.toml --group dev $(LOCK) -o requirements-dev.lock
	$(BIN)/uv pip compile pyproject.toml -c requirements-dev.lock $(LOCK) -o requirements.lock
LOCK = --quiet --generate-hashes --no-emit-index-url --no-emit-find-links --universal --python-version 3.11 \
  --custom-compile-command "make lock" $(UV_ARGS)

clean: ## remove caches and build output; .venv and data stay
	rm -rf build .venv/.compiled .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
