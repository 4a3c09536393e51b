# The verbs are the same here, in .ci/run and in the documents.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.made-from-requirements

.PHONY: help setup run test check format bench findings prove layout clean

help:
	@echo "make setup     the environment in .venv"
	@echo "make run       the whole system on a simulated market, http://127.0.0.1:8899"
	@echo "make test      the test suite"
	@echo "make check     formatting, lint, types, floors, dead code"
	@echo "make bench     benchmarks and the table of speeds"
	@echo "make findings  every known defect with the tests that keep it away"
	@echo "make prove     the slow evidence: long runs, many kills"
	@echo "make layout    docs/layout.md from the code"
	@echo "make format    rewrites the sources in the house style"

setup: $(STAMP)

$(STAMP): requirements.lock pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --editable .
	touch $(STAMP)

run: setup
	bin/liqmapd --demo

test: setup
	$(BIN)/python -m pytest -q -m "not slow"

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --config setup.cfg
	$(BIN)/vulture

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: setup
	$(BIN)/python -m tests.bench

findings: setup
	$(BIN)/python -m tests.findings

prove: setup
	$(BIN)/python -m pytest -q -m slow

layout: setup
	$(BIN)/python -m liqmap.shm.document > docs/layout.md

clean:
	rm -rf build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
