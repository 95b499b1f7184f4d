# make demo: install and run the main job.  make test: install and run the tests.  Needs Python 3.11+, make, git.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN := OMP_NUM_THREADS=1 $(BIN)/python
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
JOBS ?= 2

.PHONY: help install demo test test-browser test-cluster test-all lint format bench readme gallery docs clean

help:
	@grep -E '^[a-z-]+:.*##' Makefile | sed 's/:.*## /\t/' | expand -t 16

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) torch==2.13.0
	$(PIP) -e '.[dev]'
	@touch $@

install: $(VENV)/installed ## make .venv and install

demo: install ## the main job on an embedded default: one paper, its verdict, report.html
	$(RUN) -m paperworks run deeponet --budget laptop --seeds 3 --jobs $(JOBS) --study antiderivative

test: install ## the tests
	$(RUN) -m pytest -n $(JOBS) -m "not browser and not cluster and not full"

test-browser: install ## the report and the gallery in headless chromium (Debian's chromium and chromium-driver)
	$(PIP) -e '.[browser]'
	@command -v chromium >/dev/null && command -v chromedriver >/dev/null || (apt-get update -q && apt-get install -y -q chromium chromium-driver) >/dev/null
	$(RUN) -m pytest -m browser

test-cluster: install ## the same trials on a local Ray cluster of two nodes
	$(PIP) -e '.[cluster]'
	$(RUN) -m pytest -m cluster

test-all: install test-browser test-cluster ## everything, the slowest too
	$(RUN) -m pytest -n $(JOBS)

lint: install ## ruff and pyright
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright --pythonpath $(BIN)/python

format: install ## put the code in form
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: install ## speed against peers, interleaved; writes benchmarks/results
	$(PIP) -e '.[bench]' || true
	$(RUN) benchmarks/run.py

readme: install ## the table of measured verdicts in README.md
	$(RUN) scripts/readme.py

gallery: install ## the web page of everything measured, in site/
	$(BIN)/paperworks gallery --build site

docs: install ## the documentation, in build/docs
	$(PIP) -e '.[docs]'
	$(BIN)/mkdocs build --strict

clean: ## remove what was built
	rm -rf $(VENV) build dist site .pytest_cache .ruff_cache
