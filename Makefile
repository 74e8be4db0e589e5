# `make quickstart` and `make test` need Python 3.11 to 3.13 and nothing else: each makes its own
# virtual environment when there is none.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# The environment is made again only when the package's requirements change.
READY := $(VENV)/.ready
TEST_READY := $(VENV)/.ready-test

# XLA takes and gives back its buffers every step; in huge pages (glibc 2.35 and later) that costs a five hundredth of
# the page faults, which on a CPU is one part in twenty of a training step.
RUN := GLIBC_TUNABLES=glibc.malloc.hugetlb=1 $(BIN)/python -m experiments.run

.PHONY: help quickstart scratch test test-slow test-full-size lint clean

help: ## Lists these targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST)

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
	  || { echo "Python 3.11, 3.12 or 3.13 is needed; name one: make PYTHON=python3.12" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(READY): setup.py | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[serve,gguf,corpus]'
	@touch $@

$(TEST_READY): setup.py | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[serve,gguf,corpus,test]'
	@touch $@ $(READY)

quickstart: $(READY) ## Teacher, shards, student, report: everything, on two CPU cores in about ten minutes
	$(RUN) --config=quickstart

scratch: $(READY) ## The same with a tokenizer and a network of one's own, from text alone
	$(RUN) --config=quickstart_scratch

test: $(TEST_READY) ## The test suite, without the slow ones
	$(BIN)/python -m pytest -n 2 -m 'not slow and not full_size'

test-slow: $(TEST_READY) ## Kills, restarts and whole runs
	$(BIN)/python -m pytest -n 2 -m slow

test-full-size: $(TEST_READY) ## The measurements that docs report, at their size; on a machine with nothing else to do
	$(BIN)/python -m pytest -m full_size -s

lint: $(TEST_READY) ## Style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy demiurgic_jax experiments tools

clean: ## Removes the environment; runs/ stays
	rm -rf $(VENV)
