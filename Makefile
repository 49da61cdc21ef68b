# One command per wish; `make` alone lists them. Everything lives in .venv and works offline once it is installed.
#
#   PYTHON=...  the interpreter to build .venv with        VENV=...  another place for it (two checkouts of work at once)
#   ARGS=...    passed on, e.g. make test ARGS="-k watch"
#
# Stamps in $(VENV) say what is done: dependencies are installed again only when pyproject.toml or the pins change, the
# project's own wheel only when a source changes. Tests and `run` use that wheel, never the tree.

SHELL := /bin/sh
VENV ?= .venv
ARGS ?=
PARALLEL ?= -n 4 --dist worksteal
MINUTES ?= 60
VENV_PYTHON := $(VENV)/bin/python
CONSTRAINTS := tests/constraints.txt
PIP := $(VENV_PYTHON) -m pip --disable-pip-version-check -qq
PYTHONS := $(PYTHON) python3 python3.11 python3.12 python3.13 python3.14
# Directories are listed too: their time changes when a file is removed.
SOURCES := pyproject.toml README.md LICENSE \
	$(shell find client daemon launchd systemd -name __pycache__ -prune -o \( -type d -o -type f \) -print)
# Two makes at once: the second waits for the first, then finds the work done. Without flock(1) they are not kept apart.
LOCKED := $(if $(shell command -v flock 2>/dev/null),flock $(VENV))
PREPARE = @mkdir -p $(VENV) && $(LOCKED) $(MAKE) --no-print-directory -s

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help run test test-system test-clients cover check fmt bench prove clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: ## install into .venv and run the demonstration
	$(PREPARE) $(VENV)/wheel.stamp
	@$(VENV)/bin/cosession demo $(ARGS)

test: ## run the tests against the installed wheel
	$(PREPARE) $(VENV)/test.stamp $(VENV)/wheel.stamp
	@$(VENV_PYTHON) -P -m pytest $(PARALLEL) $(ARGS)

test-system: ## run the tests under a real systemd, in a machine booted for them (as root)
	$(PREPARE) $(VENV)/test.stamp $(VENV)/wheel.stamp
	@$(VENV_PYTHON) -P -m pytest tests/system -p no:randomly $(ARGS)

test-clients: ## run unmodified AI clients, offline, against the hooks (installs them by name)
	$(PREPARE) $(VENV)/test.stamp $(VENV)/wheel.stamp
	@$(VENV_PYTHON) -P -m pytest tests/clients -s -p no:randomly $(ARGS)

cover: ## run the tests with coverage, child processes included, and hold it to the thresholds
	$(PREPARE) $(VENV)/test.stamp $(VENV)/wheel.stamp
	@$(VENV_PYTHON) -m coverage erase
	@$(VENV_PYTHON) -P -m coverage run -m pytest --timeout=900 $(PARALLEL) $(ARGS)
	@$(VENV_PYTHON) -m coverage combine -q
	@$(VENV_PYTHON) tests/coverage_gate.py

check: ## format, lint, types, layers, sizes
	$(PREPARE) $(VENV)/test.stamp
	@$(VENV)/bin/ruff format --check --quiet . || { echo "check: not formatted; do: make fmt" >&2; exit 1; }
	@$(VENV)/bin/ruff check --quiet .
	@$(VENV_PYTHON) -m mypy --no-error-summary
	@$(VENV_PYTHON) -m mypy --no-error-summary --platform darwin --no-warn-unreachable --cache-dir .mypy_cache/darwin
	@$(VENV_PYTHON) tests/layers.py
	@$(VENV_PYTHON) tests/sizes.py
	@echo "check: all well"

fmt: ## format the code and apply the safe fixes
	$(PREPARE) $(VENV)/test.stamp
	@$(VENV)/bin/ruff check --quiet --fix-only .
	@$(VENV)/bin/ruff format .

bench: ## run the benchmarks
	$(PREPARE) $(VENV)/wheel.stamp
	@$(VENV_PYTHON) tests/bench/run.py $(ARGS)

prove: ## run the long proofs for MINUTES=60, going on where the last run stopped
	$(PREPARE) $(VENV)/test.stamp $(VENV)/wheel.stamp
	@$(VENV_PYTHON) -P tests/proof/run.py --minutes $(MINUTES) $(ARGS)

clean: ## remove .venv, caches and reports
	@rm -rf $(VENV) .prove dist htmlcov .coverage .coverage.* coverage.json .hypothesis .mypy_cache .pytest_cache .ruff_cache
	@find client daemon tests -name __pycache__ -type d -prune -exec rm -rf {} +

# ------------------------------------------------------------------------------------------------- what is in the venv

# A name on PATH proves nothing (version managers leave shims that fail), so each candidate is run. ensurepip is asked
# for because some systems ship Python without it.
$(VENV_PYTHON):
	@for python in $(PYTHONS); do \
		if "$$python" -c 'import sys, ensurepip, sqlite3, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
			echo "creating $(VENV) with $$python ..."; \
			exec "$$python" -m venv --clear $(VENV); \
		fi; \
	done; \
	echo "cannot create $(VENV): none of [ $(PYTHONS) ] is a working Python 3.11 or newer with venv and sqlite3;" >&2; \
	echo "do: install one (e.g. apt install python3.11 python3.11-venv, brew install python@3.12)" >&2; \
	echo "    or name it: make PYTHON=/path/to/python3.11 ..." >&2; \
	exit 1

# pip of Python 3.11 cannot install "the dependencies of this project" without the project, so they are read out.
define requirements
$(VENV_PYTHON) -c 'import tomllib; p = tomllib.load(open("pyproject.toml", "rb")); print(*($(1)), sep="\n")'
endef

$(VENV)/runtime.stamp: $(VENV_PYTHON) pyproject.toml $(CONSTRAINTS)
	@echo "installing the dependencies ..."
	@$(call requirements,p["build-system"]["requires"] + p["project"]["dependencies"]) > $(VENV)/requirements.txt
	@$(PIP) install -c $(CONSTRAINTS) -r $(VENV)/requirements.txt
	@touch $@

$(VENV)/test.stamp: $(VENV)/runtime.stamp
	@echo "installing what the tests need ..."
	@$(call requirements,p["project"]["optional-dependencies"]["test"]) > $(VENV)/requirements.txt
	@$(PIP) install -c $(CONSTRAINTS) -r $(VENV)/requirements.txt
	@touch $@

$(VENV)/wheel.stamp: $(VENV)/runtime.stamp $(SOURCES)
	@echo "installing cosession ..."
	@$(PIP) install --no-build-isolation --no-deps --no-index --force-reinstall .
	@touch $@
