# Two commands: `make report` renders the default study's report, `make test` runs all the tests.
# Both set everything up in one .venv first. `make help` lists the rest.
PYTHON ?= python3
STUDY  ?= params/joe.yaml
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
TESTED := $(VENV)/.tests-installed
# compiling every module of every package takes longer than compiling those that are imported, when they are
PIP    := $(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt
# two workers; the tests of a file stay on one (tests/conftest.py)
PYTEST := $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: report test test-fast bench lint format install example wheel docs clean help
.DEFAULT_GOAL := help

report: $(STAMP)  ## optimize, measure, evaluate and render: reports/joe/report.html and .pdf (STUDY=params/other.yaml)
	@$(BIN)/ttsopt run $(STUDY)

test: $(TESTED)  ## all tests
	$(PYTEST)

test-fast: $(TESTED)  ## only the quick tests: a minute and a half
	$(PYTEST) -m "not slow"

bench: $(STAMP)  ## how long a report takes on this machine: first look, complete, rendering again, scoring, each variant
	@$(BIN)/python tests/bench.py $(STUDY)

lint: $(TESTED)  ## check the source: lint, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

format: $(TESTED)  ## format the source and mend what lint can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

install: $(STAMP)  ## only set up .venv, for everything but the tests

$(STAMP): pyproject.toml constraints.txt nodeps.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v <= (3, 13) else "Python 3.11 to 3.13 is needed, $(PYTHON) is %d.%d: name another one, as in make PYTHON=python3.12 report" % v)'
	$(PYTHON) -m venv $(VENV)
	$(PIP) --upgrade pip
	$(PIP) torch
	$(PIP) --editable '.[workstation]'
	$(PIP) --no-deps --requirement nodeps.txt
	@touch $@

# packages of nodeps.txt ask for others that nothing here needs, about which pip would warn
$(TESTED): $(STAMP)
	$(PIP) --no-warn-conflicts --editable '.[test]'
	@touch $@

example: $(STAMP)  ## put one rendered report, small enough for git, into reports/example/
	@$(BIN)/ttsopt run $(STUDY)
	@$(BIN)/python -m ttsopt_lib.report.example $(STUDY)

wheel: $(STAMP)  ## a wheel for people without the repository: dist/*.whl, 20 MB, with notebooks, params and students
	@rm -rf build
	@$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .

docs: $(STAMP)  ## the documentation with the API as a site: site/index.html
	@$(PIP) --editable '.[docs]'
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict
	@cp -r reports/example site/example

clean:  ## remove what the default study wrote (not .venv)
	@$(BIN)/ttsopt clean $(STUDY) --yes

help:
	@grep -hE '^[a-z-]+:.*## ' Makefile | sed 's/:.*## /\t/' | expand -t 12
