# Every target sets up .venv by itself when it is missing or older than pyproject.toml.
PYTHON ?= python3
BIN := .venv/bin
.DEFAULT_GOAL := help
.PHONY: help demo test test-cluster test-browser test-latex test-nightly test-gpu audit docs check format bench clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

.venv/ready: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@

demo: .venv/ready  ## zero-shot, CoOp and CoCoOp on the embedded data, then the table and a report
	$(BIN)/cocoop demo

test: .venv/ready  ## the test suite, on all cores; no network
	$(BIN)/python -m pytest -n auto

test-cluster: .venv/ready  ## three Ray nodes on this machine, one killed in the middle
	$(BIN)/python -m pytest -m cluster

.venv/browser: .venv/ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[browser]'
	@touch $@

test-browser: .venv/browser  ## the web page in a real Chromium, which is installed where that is allowed
	@command -v chromium >/dev/null || { [ "$$(id -u)" = 0 ] && apt-get update -qq && \
		apt-get install -qq --no-install-recommends chromium; } || \
		{ echo "there is no chromium, and it cannot be installed: install Debian's package chromium"; exit 1; }
	$(BIN)/python -m pytest -m browser

test-latex: .venv/ready  ## tables as LaTeX, compiled; Debian's LaTeX is installed where that is allowed
	@command -v pdflatex >/dev/null || { [ "$$(id -u)" = 0 ] && apt-get update -qq && \
		apt-get install -qq --no-install-recommends texlive-latex-recommended; } || \
		{ echo "there is no pdflatex, and it cannot be installed: install texlive-latex-recommended"; exit 1; }
	$(BIN)/python -m pytest -m latex

test-nightly: .venv/ready  ## the whole of what the suite has a sample of: all architectures, all methods
	$(BIN)/python -m pytest -m nightly

test-gpu: .venv/ready  ## every method, the engine and the commands on a CUDA device, which must be there
	COCOOP_TEST_GPU=1 $(BIN)/python -m pytest -m gpu

.venv/audit: .venv/ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[audit]'
	@touch $@

audit: .venv/audit  ## whether anything installed has a known vulnerability; asks the package index
	$(BIN)/python -m pip freeze --exclude-editable > .venv/installed.txt
	@$(BIN)/pip-audit --strict --progress-spinner off --disable-pip --no-deps -r .venv/installed.txt || \
		{ echo "something is vulnerable, or could not be looked up: the lines above say which. The index that pip uses must"; \
		echo "be asked over the network, and mirrors often have the packages without what is known of them."; exit 1; }

check: docs  ## format, lint, types, links of the documentation
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: .venv/ready  ## rewrite the files as `check` wants them
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

.venv/docs: .venv/ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[docs]'
	@touch $@

docs: .venv/docs  ## the documentation as a site, in site/; broken links are errors
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --strict

bench: .venv/ready  ## the text engine against the reference path
	$(BIN)/python -m benchmarks.text

clean:  ## remove what the other targets made
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis demo-run site
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
