# Trực Ban. `make run` and `make test` need Python >= 3.11, make and a package registry, nothing else.
# `make help` lists what else there is.
PYTHON ?= python3
BIN := .venv/bin
# Two processes of tests for each core (tests/conftest.py); files in their order, the long ones first.
PARALLEL := -n auto --dist loadfile --no-loadscope-reorder
PIP := $(BIN)/pip --disable-pip-version-check -q
# Also where the environment says otherwise: else each process that a test starts compiles everything anew.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: run demo test test-full faults faults-hostile coverage bench bench-quick lint compose-test lock docs clean help

run: .venv/ready ## everything on this machine, with the sample night; http://127.0.0.1:8080
	@exec $(BIN)/trucban up

demo: .venv/ready ## the sample night, compared with what it should come to; exit 0 only if all is as expected
	@exec $(BIN)/trucban up --demo

test: .venv/dev ## what must pass, in minutes
	$(BIN)/pytest -m "not full" $(PARALLEL)

test-full: .venv/dev ## the same at full depth
	HYPOTHESIS_PROFILE=full $(BIN)/pytest

faults: .venv/dev ## faults at random under load, by MINUTES=10, SEED, RUNS, KINDS (tests/faults/__main__.py)
	@$(BIN)/python -m tests.faults --minutes $(or $(MINUTES),10) --kinds "$(KINDS)" \
	  $(if $(SEED),--seed $(SEED)) $(if $(RUNS),--runs $(RUNS))

faults-hostile: .venv/dev ## attacks on a whole system beside a normal sender, by SECONDS=10, ONLY (tests/faults/hostile)
	@$(BIN)/python -m tests.faults.hostile --seconds $(or $(SECONDS),10) --only "$(ONLY)"

coverage: .venv/dev ## lines and branches that `make test` runs, in its own processes and those it starts; twice as slow
	@rm -rf var/coverage && mkdir -p var/coverage
	@failed=0; $(BIN)/coverage run -m pytest -m "not full" $(PARALLEL) || failed=$$?; \
	$(BIN)/coverage combine -q || exit; \
	echo "The ten least covered files, and all of services/ and shared/ together:"; \
	$(BIN)/coverage report --sort=cover | sed -n '1,12p;/^TOTAL/p'; \
	echo "Cover: the share of lines and branches that ran. That a line ran does not say that a test checks it."; \
	echo "Not counted: what ran in a process that a test killed (kill -9), and the part of a failed test that did not run."; \
	exit $$failed

bench: .venv/dev ## every benchmark against a floor measured in the same run; writes var/bench.json
	$(BIN)/python -m benchmarks

bench-quick: .venv/dev ## the same, smaller, in under three minutes
	$(BIN)/python -m benchmarks --quick

lint: .venv/dev ## style, types, import directions
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports pyproject.toml

compose-test: ## the containers: up, sample reports through them, ledger verified, down again
	sh tests/compose/run.sh

docs: .venv/dev ## JSON Schemas, the AsyncAPI document and the table of roles, generated from the code
	$(BIN)/python -m services.documents docs

lock: .venv/dev ## resolve dependencies anew
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
	  --upgrade -o requirements.lock pyproject.toml build-requirements.txt
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
	  --upgrade -c requirements.lock -o requirements-dev.lock --extra dev pyproject.toml build-requirements.txt

clean: ## remove .venv, and what the sample and the tools wrote under var; a city's own data stays
	rm -rf .venv var/sample var/demo var/coverage var/faults var/bench.json

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1 \2/p' Makefile | while read -r name text; do \
	  printf 'make %-15s %s\n' "$$name" "$$text"; done

.venv/ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "$(PYTHON) is older than 3.11: install Python 3.11 or newer, or say make PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
	  { echo "$(PYTHON) has no venv module: install it (Debian: apt install python3-venv), or say make PYTHON=…"; exit 1; }
	@echo "setting up .venv (once; about a minute)"
	@$(PYTHON) -m venv .venv
	@$(PIP) install --require-hashes -r requirements.lock
	@$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

.venv/dev: .venv/ready requirements-dev.lock
	@$(PIP) install --require-hashes -r requirements-dev.lock
	@touch $@
