# Every target works from a fresh clone with Python 3.11-3.13 and make; a second run does not install again.
#   make demo | test | other-way | lab | site | slides | suite | mutate | bench | test-colab
# Knobs: PYTHON=python3.12 (which interpreter), VENV=dir (where to install), PIP_FLAGS="..." (passed to pip install).

SHELL := /bin/bash
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
SITE := $(VENV)/.site

# The first interpreter that runs and is new enough, not too new.
SUPPORTED := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	$$python -c '$(SUPPORTED)' 2>/dev/null && echo $$python && break; done)

.PHONY: demo test other-way browser lab site slides suite mutate bench test-colab

demo: $(INSTALLED)
	mkdir -p demo
	$(BIN)/samerge-edu leaderboard --suite pocket --csv demo/leaderboard.csv --json demo/leaderboard.json --png demo/leaderboard.png
	@echo
	@echo "Wrote demo/leaderboard.png, demo/leaderboard.csv and demo/leaderboard.json."
	@echo "Open the course with:  make lab"

test: $(INSTALLED) $(if $(CI),browser)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/ty check --python $(VENV)
	$(BIN)/pytest
	@if ls notebooks/*.ipynb >/dev/null 2>&1; then set -x; \
	SAMERGE_STATIC=1 $(BIN)/pytest --nbval --nbval-current-env --nbval-cell-timeout=120 \
		--nbval-sanitize-with notebooks/sanitize.cfg notebooks; fi
	@$(if $(CI),$(MAKE) --no-print-directory other-way,true)

# The notebooks once more as another processor would run them: images in bfloat16, one thread. Nothing they say may change.
other-way: $(INSTALLED)
	SAMERGE_PRECISION=bfloat16 OMP_NUM_THREADS=1 SAMERGE_STATIC=1 $(BIN)/pytest --nbval --nbval-current-env \
		--nbval-cell-timeout=400 --nbval-sanitize-with notebooks/sanitize.cfg notebooks

# CI starts with a bare Debian. Elsewhere the browser tests take the browser that is there, or skip.
browser:
	@command -v chromium >/dev/null && command -v chromedriver >/dev/null || \
	{ apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends chromium chromium-driver; \
	} >/dev/null 2>&1 || echo "Chromium could not be installed: the browser tests will be skipped."

lab: $(INSTALLED)
	$(BIN)/samerge-edu lab

# The notebooks and pages as a site; a deck for each lesson. What they need comes once, nothing while they are built.
site: $(SITE)
	$(BIN)/python data_scripts/build_site.py

slides: $(SITE)
	$(BIN)/python data_scripts/make_slides.py

suite: $(INSTALLED)
	$(BIN)/python data_scripts/build_pocket.py

mutate: $(INSTALLED)
	$(BIN)/python tests/mutate.py

bench: $(INSTALLED)
	set -e; for script in tests/benchmarks/bench_*.py; do $(BIN)/python $$script; done

# Not part of CI: nbval with the versions that Colab has, in an environment of its own.
test-colab:
	VENV=.venv-colab data_scripts/test_colab.sh

$(INSTALLED): pyproject.toml
	@test -n "$(PYTHON)" || { echo "samerge-edu needs Python 3.11, 3.12 or 3.13: none found. Name one with  make PYTHON=..."; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || \
		{ echo "$(PYTHON) cannot make a virtual environment (on Debian: apt install python3-venv)."; exit 1; }
	@echo "Installing into $(VENV): a few minutes the first time, mostly PyTorch."
	$(BIN)/python -m pip install --disable-pip-version-check -qq $(PIP_FLAGS) -e '.[lab,dev]'
	touch $@

$(SITE): $(INSTALLED)
	$(BIN)/python -m pip install --disable-pip-version-check -qq $(PIP_FLAGS) -e '.[site]'
	touch $@
