# What a developer does here; `make` alone lists it. Works as root on a fresh Debian (it
# installs what is missing) and as a normal user wherever Python 3.11 is.

SHELL := /bin/bash
BIN := .venv/bin
# Passed on: make test PYTEST_ARGS="-k proxy -x", make demo DEMO_ARGS="--listen 127.0.0.1:9000"
PYTEST_ARGS ?=
# Most tests wait for somebody else; each file is one worker's. JOBS=0: one after the other.
JOBS ?= 3
DEMO_ARGS ?=
BENCH ?= datapath
BENCH_ARGS ?=
MUTANTS ?=

.DEFAULT_GOAL := help
.PHONY: help setup engine proxies demo demo-check test lint format bench mutants clean browser

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' Makefile

setup: ## make .venv with everything needed, and say which Python it has (PYTHON=… chooses it)
	@PYTHON="$(PYTHON)" scripts/bootstrap.sh $(if $(filter setup,$(MAKECMDGOALS)),--describe)

engine: ## see to it that a Docker Engine answers (installs it as root on Debian)
	@scripts/engine.sh

proxies: setup ## see to it that wrk, nginx, Caddy and valgrind are there (installs them as root on Debian)
	@$(BIN)/python -m bench.datapath.machine

browser: ## see to it that there is a Chromium (installs it as root on Debian)
	@scripts/browser.sh

demo: setup ## two small models, one at a time (DEMO_CHECK=1 asks both and ends)
	@exec $(BIN)/launcher demo $(if $(DEMO_CHECK),--check) $(DEMO_ARGS)

demo-check: setup ## the demo, asked and ended by itself
	@exec $(BIN)/launcher demo --check $(DEMO_ARGS)

test: setup engine proxies browser ## run all tests (PYTEST_ARGS=…)
	@$(BIN)/pytest -n $(JOBS) --dist loadgroup $(PYTEST_ARGS)

lint: setup ## ruff and mypy, all of them whichever fails
	@failed=0; for check in "ruff check" "ruff format --check" "mypy --strict launcher"; do \
	    echo "$$check"; $(BIN)/$$check || failed=1; \
	done; exit $$failed

format: setup ## let ruff put the code in order
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: setup engine ## the launcher beside nginx, Caddy and others; BENCH=scheduling, … (BENCH_ARGS=…)
	@$(BIN)/python -m bench.$(BENCH) $(BENCH_ARGS)

mutants: setup ## change the core bit by bit: which changes does no test notice? (MUTANTS="queue policy")
	@nice $(BIN)/python -m bench.mutants $(MUTANTS)

clean: ## remove .venv and everything generated
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis dist build mutants *.egg-info
	find launcher tests bench -name __pycache__ -prune -exec rm -rf {} +
