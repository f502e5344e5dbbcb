# `make demo` and `make test` are all that a new machine needs (Python 3.11 or newer).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help install demo test test-unit test-systems faults faults-archive faults-compaction faults-retention tamper lint fix bench bench-page screenshots build docs lock clean

help: ## What there is
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

install: $(READY) ## Make .venv with everything

# The lock holds names, versions and hashes; a requirements file with hashes cannot
# name the project itself, so that comes second.
$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "fleetwake needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) -V 2>&1). Try: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 2; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
		echo "Python's venv module is missing; on Debian and Ubuntu: apt install python3-venv" >&2; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing the pinned dependencies into $(VENV) ..." >&2
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock || { \
		echo "the dependencies could not be installed: is a package index reachable? Then run the same again" >&2; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: $(READY) ## A fleet at work on the embedded Kafka; ARGS="--exit --sessions 100"
	@$(BIN)/fleetwake demo $(ARGS)

# Half of the time is waiting, for brokers that are killed and processes that start: two
# at a time, each with a Kafka of its own. The slow files are the first ones.
test: $(READY) ## All tests, on the embedded Kafka; ARGS="-k archive"
	@$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

test-unit: $(READY) ## The tests that need no broker
	@$(BIN)/python -m pytest tests/unit tests/property $(ARGS)

# Real systems that drive us, each in an environment of its own: nemo-flow 0.2.0 is
# yanked, and a package index may not have them.
SYSTEMS := nemo-flow==0.2.0 nemo-relay==0.10.4

test-systems: $(READY) ## The real NeMo Flow and NeMo Relay, to the archive; ARGS="-k relay"
	@for one in $(SYSTEMS); do \
		to=$(VENV)/systems/$${one%%=*}; test $$to/.ready -nt pyproject.toml && continue; \
		echo "installing $$one into $$to ..." >&2; \
		$(BIN)/python -m venv $$to && \
		$$to/bin/python -m pip install --quiet --disable-pip-version-check $$one -e . && \
		touch $$to/.ready || echo "$$one cannot be installed here: its tests are skipped" >&2; \
	done
	@$(BIN)/python -m pytest tests/systems $(ARGS)

faults: $(READY) ## The faults of tests/faults at full length, with their counts (10 minutes)
	@FLEETWAKE_FAULTS_FULL=1 $(BIN)/python -m pytest -q -s tests/faults --ignore tests/faults/test_archive.py --ignore tests/faults/test_tamper.py --ignore tests/faults/test_compaction.py --ignore tests/faults/test_retention.py $(ARGS)

faults-archive: $(READY) ## The archive killed, frozen and doubled at full length (20 minutes)
	@FLEETWAKE_FAULTS_FULL=1 $(BIN)/python -m pytest -q -s tests/faults/test_archive.py $(ARGS)

faults-compaction: $(READY) ## Compactors killed, frozen and doubled at full length, with a reader (60 minutes)
	@FLEETWAKE_FAULTS_FULL=1 $(BIN)/python -m pytest -q -s tests/faults/test_compaction.py $(ARGS)

faults-retention: $(READY) ## Retention and compaction killed at full length, with a reader (15 minutes)
	@FLEETWAKE_FAULTS_FULL=1 $(BIN)/python -m pytest -q -s tests/faults/test_retention.py $(ARGS)

tamper: $(READY) ## 57 kinds of tampering with the archive, each planted 60 times (20 to 45 minutes)
	@FLEETWAKE_FAULTS_FULL=1 $(BIN)/python -m pytest -q -s tests/faults/test_tamper.py $(ARGS)

lint: $(READY) ## Style, types, layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pyright
	$(BIN)/lint-imports
	$(BIN)/yamllint --strict docker-compose.yml deploy

fix: $(READY) ## Mend what ruff can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY) ## Speed, each figure beside a peer in the same run
	@$(BIN)/python -m bench $(ARGS)

bench-page: $(READY) ## From an event to its row on the page, in Chromium; ARGS="--seconds 600"
	@$(BIN)/python -m bench.page $(ARGS)

screenshots: $(READY) ## The pictures of docs/page.md, from a running demo; ARGS="'URL'"
	@$(BIN)/python docs/screenshots.py $(ARGS)

build: $(READY) ## The sdist, and the wheel from it, in dist/
	@rm -rf dist
	@$(BIN)/python -m build --no-isolation .

docs: $(READY) ## Write the tables of docs/ anew, from the code
	@$(BIN)/python docs/generate.py

lock: ## Pin the newest allowed dependencies (needs uv)
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-annotate \
		--custom-compile-command "make lock" --all-extras --group pyproject.toml:dev pyproject.toml -o requirements.lock

clean: ## Remove .venv and what the tools left
	rm -rf $(VENV) dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
