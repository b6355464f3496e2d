# `make` lists the targets. Installed once into .venv; a second run starts at once.
PYTHON ?= python3
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help install install-dev demo test lint format clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
	@echo "  ARGS=\"key=value …\" is passed on by demo (to train.py) and test (to pytest); PYTHON=python3.12 picks the interpreter."

install: $(VENV)/.installed ## make .venv and install what running needs

install-dev: $(VENV)/.installed-dev ## install what testing needs as well

demo: install ## train on generated videos, on a CPU, and print the tables
	$(BIN)/python train.py $(ARGS)

test: lint ## lint, then run the tests
	$(BIN)/python -m pytest $(ARGS)

lint: install-dev ## check style and types
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy

format: install-dev ## sort imports, fix what can be fixed, format
	$(BIN)/python -m ruff check --fix .
	$(BIN)/python -m ruff format .

clean: ## remove caches; .venv, data and runs stay
	rm -rf .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +

# pip is what venv writes last: a .venv whose making was interrupted is made again.
$(BIN)/pip:
	@command -v $(PYTHON) >/dev/null || { echo "error: $(PYTHON) not found. Install Python 3.11 or newer, or name it: make … PYTHON=/path/to/python" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "error: $(PYTHON) is $$($(PYTHON) -V 2>&1), expected Python 3.11 or newer. Name another: make … PYTHON=python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "error: $(PYTHON) lacks the venv or ensurepip module. Install it (Debian and Ubuntu: apt install python3-venv), or name another interpreter: make … PYTHON=python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import os, sysconfig as s; raise SystemExit(not os.path.exists(os.path.join(s.get_path("include"), "Python.h")))' || { echo "error: $(PYTHON) has no C headers (Python.h), and fast-slic is compiled. Install them (Debian and Ubuntu: apt install python3-dev)" >&2; exit 1; }
	@command -v $(CXX) >/dev/null || command -v c++ >/dev/null || { echo "error: no C++ compiler found, and fast-slic is compiled. Install one (Debian and Ubuntu: apt install g++)" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# The stamps are touched last: an interrupted installation goes on, an unchanged one is not looked at again.
$(VENV)/.installed: requirements-build.txt requirements.txt | $(BIN)/pip
	$(PIP) install -r requirements-build.txt
	$(PIP) install --no-build-isolation -r requirements.txt
	@touch $@

$(VENV)/.installed-dev: requirements-dev.txt $(VENV)/.installed
	$(PIP) install -r requirements-dev.txt
	@touch $@
