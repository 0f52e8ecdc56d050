# Everything a contributor runs. Needs Linux, Python 3.11 and make; the rest is fetched into this folder.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# The system's own Python first: distributions build it optimised, version managers often don't, and that is a quarter of
# a small request. It has to bring what `python -m venv` needs.
PYTHON ?= $(shell for python in /usr/bin/python3.11 python3.11 python3; do \
	if $$python -c 'import ensurepip' 2>/dev/null; then command -v $$python; break; fi; done)
UV := .tools/bin/uv
BIN := .venv/bin
export UV_PYTHON_DOWNLOADS := never
# Where no bytecode is kept every start compiles all modules, which is half of it; tests start hundreds of processes.
unexport PYTHONDONTWRITEBYTECODE
export UV_NO_PROGRESS := 1

# What `make soak` runs; `make soak SOAK=tests/crash` runs one of them.
SOAK ?= tests/crash tests/races tests/rot tests/powerloss tests/load tests/gateways tests/processes

.PHONY: help up test check bench soak peers format clean

help:  ## show this
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(UV):
	@test -n "$(PYTHON)" || { echo "Atoll needs Python 3.11 or newer, with its venv module" >&2; exit 1; }
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Atoll needs Python 3.11 or newer")'
	$(PYTHON) -m venv .tools
	.tools/bin/python -m pip install --quiet --disable-pip-version-check uv

.venv/.synced: pyproject.toml uv.lock | $(UV)
	$(UV) sync --locked --quiet --python $(PYTHON)
	@touch $@

up: .venv/.synced  ## run the server over six embedded nodes, in the foreground
	@exec $(BIN)/atoll up

test: .venv/.synced  ## the test suite, seeded and reduced: under 15 minutes
	$(BIN)/pytest -q -n 2 --dist loadgroup --hypothesis-seed=0

check: .venv/.synced  ## style, types, import arrows and the project's own rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest -q tests/project

bench: .venv/.synced peers  ## measure beside a peer; writes bench/results.json
	$(BIN)/python -m bench.run

soak: .venv/.synced  ## crash, race, rot, power loss and load at full length; prints figures
	ATOLL_SOAK=1 $(BIN)/pytest -q -n 2 --dist loadgroup $(SOAK)

peers: .venv/.synced  ## install the foreign clients and servers that tests and bench run, into .peers/
	$(BIN)/python tests/clients/peers.py $(abspath $(UV))
	$(BIN)/python tests/deploy/peers.py

format: .venv/.synced  ## let ruff rewrite what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## remove what the targets above fetched or made, but not data
	rm -rf .tools .venv .peers .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
