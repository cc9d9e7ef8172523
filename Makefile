# Every target sets up its own environment in .venv; nothing outside this folder is changed.

PYTHON ?= python3
PROTOCOL ?= ctbs600
MT ?= 50
MINUTES ?= 10
PYTEST_ARGS ?=

BIN := .venv/bin
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check

# Kept byte code halves the time in which a program starts, and tests start hundreds.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo test usb-guest-test lint bench soak mutants docs clean

help:
	@echo "make demo [PROTOCOL=itbs600] [MT=45]  one session on the software stimulator"
	@echo "make test [PYTEST_ARGS=...]           all tests"
	@echo "make usb-guest-test                   USB with a kernel's own drivers, in a virtual machine"
	@echo "make lint                             ruff, mypy, import-linter"
	@echo "make bench                            speed and size, with the reference beside it"
	@echo "make soak [MINUTES=10]                simulated sessions with faults, for so long"
	@echo "make mutants                          breaks the safety core on purpose; 20 min on two cores"
	@echo "make docs                             the pages that are made from the code"
	@echo "make clean                            remove .venv and every cache"

.venv/run.stamp: pyproject.toml
	@echo "setting up .venv (once; needs the network)"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(PIP_INSTALL) -e .
	@touch $@

.venv/dev.stamp: pyproject.toml .venv/run.stamp
	@echo "adding the tools for tests and checks"
	@$(PIP_INSTALL) -e ".[dev]"
	@touch $@

.venv/mutants.stamp: pyproject.toml .venv/dev.stamp
	@echo "adding the tool for mutation testing"
	@$(PIP_INSTALL) -e ".[mutants]"
	@touch $@

demo: .venv/run.stamp
	@$(BIN)/tmsctl demo --protocol $(PROTOCOL) --mt $(MT)

test: .venv/dev.stamp
	@echo "pytest: tables, properties, architecture, conformance, virtual worlds, real processes"
	@$(BIN)/python -m pytest -q -n 3 --dist worksteal $(PYTEST_ARGS)

usb-guest-test: .venv/run.stamp
	@$(BIN)/python tests/guest/run.py

lint: .venv/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: .venv/dev.stamp
	@$(BIN)/python benchmarks/run.py

soak: .venv/dev.stamp
	@$(BIN)/python -m tests.world.soak --minutes $(MINUTES)

mutants: .venv/mutants.stamp
	@$(BIN)/python tests/mutation/run.py --jobs 2

docs: .venv/run.stamp
	$(BIN)/python -m firmware_protocol.tmslink.spec docs/tmslink.md
	$(BIN)/python docs/make_pages.py docs/limits.md docs/emulator.md docs/duomag.md docs/magstim.md docs/magpro.md \
		docs/recording.md docs/devices.md
	$(BIN)/python docs/make_safety_case.py docs/safety-case.md

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
