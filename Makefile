# `make demo` and `make test` set everything up by themselves.
PYTHON ?= python3
BIN := .venv/bin
# What `make demo` fills and leaves to be looked at.
DEMO := .demo

.PHONY: demo test lint types clean

demo: .venv/installed
	$(BIN)/python -m pinakes.jobs.demo $(DEMO)

test: .venv/installed-dev
	$(BIN)/pinakes models pull >/dev/null
	$(BIN)/python -m pytest

lint: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# Type checkers do not follow the mapping of the root to `pinakes`: they look into these links.
types: .venv/installed-dev
	mkdir -p .typing/pinakes
	for folder in jobs operators catalog cluster; do ln -sfn ../../$$folder .typing/pinakes/$$folder; done
	MYPYPATH=.typing $(BIN)/mypy --namespace-packages --explicit-package-bases -p pinakes

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/installed: .venv/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

# torch by itself and first: a build without CUDA where the index has one, and nothing else pulls another.
.venv/installed-dev: .venv/installed
	$(BIN)/python -m pip install --quiet 'torch==2.13.0'
	$(BIN)/python -m pip install --quiet --editable '.[torch,dev]'
	touch $@

clean:
	rm -rf .venv .typing $(DEMO) build *.egg-info
