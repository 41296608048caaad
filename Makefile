# Everything that one does with a checkout. `make serve` and `make test` need nothing but
# Python 3.11 or newer; both make .venv beside this file when it is not there.

PYTHON ?= python3
VENV   ?= .venv
BIND   ?= 127.0.0.1:8081
PYTEST ?= $(VENV)/bin/python -m pytest
# Files of tests that run at a time; `make test JOBS=0` runs one after the other.
JOBS   ?= 2

.DEFAULT_GOAL := help
.PHONY: help serve test soak soak-hour lint format types docs coverage benchmark packages clean

help: ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

# -- environments: a stamp for each set of extras, renewed when the metadata changes

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml setup.py | $(VENV)/bin/python
	$(VENV)/bin/python -m pip install --quiet --editable .
	touch $@

$(VENV)/.installed-test: pyproject.toml setup.py | $(VENV)/bin/python
	$(VENV)/bin/python -m pip install --quiet --editable '.[test]'
	touch $@ $(VENV)/.installed

$(VENV)/.installed-docs: pyproject.toml setup.py | $(VENV)/bin/python
	$(VENV)/bin/python -m pip install --quiet --editable '.[docs]'
	touch $@ $(VENV)/.installed

$(VENV)/.installed-benchmark: pyproject.toml setup.py | $(VENV)/bin/python
	$(VENV)/bin/python -m pip install --quiet --editable '.[benchmark]'
	touch $@ $(VENV)/.installed

packages: ## Install the Debian packages that the tests use (as root; elsewhere tells what is missing)
	@.ci/packages

# -- serving

serve: $(VENV)/.installed ## Serve the default application on BIND (127.0.0.1:8081)
	$(VENV)/bin/gunicorn -k nti.appserver.gunicorn.GeventApplicationWorker nti.appserver.gunicorn:app -b $(BIND)

# -- checking

test: packages $(VENV)/.installed-test ## Install what the tests need and run them (ARGS: more for pytest)
	$(PYTEST) -m 'not soak' -n $(JOBS) --dist loadfile $(ARGS)

soak: packages $(VENV)/.installed-test ## Load, reloads and faults for minutes; memory and descriptors level
	$(PYTEST) -m soak -o faulthandler_timeout=1200 $(ARGS)

soak-hour: packages $(VENV)/.installed-test ## The mixed soak for an hour
	SOAK_SECONDS=3600 $(PYTEST) -m soak -o faulthandler_timeout=4500 tests/soak $(ARGS)

lint: $(VENV)/.installed-test ## Style and formatting
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

format: $(VENV)/.installed-test ## Put everything into the house's format
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

types: $(VENV)/.installed-test ## mypy, strict
	$(VENV)/bin/mypy

docs: $(VENV)/.installed-docs ## The site in docs/_build/html; a warning is an error
	$(VENV)/bin/python -m sphinx -W --keep-going -q -b html -d docs/_build/doctrees docs docs/_build/html
	@echo "docs/_build/html/index.html"

coverage: packages $(VENV)/.installed-test ## The tests with coverage, server processes included
	$(VENV)/bin/python -m coverage erase
	$(VENV)/bin/python -m coverage run -m pytest -m 'not soak' -n $(JOBS) --dist loadfile $(ARGS)
	$(VENV)/bin/python -m coverage combine --quiet
	$(VENV)/bin/python -m coverage report

benchmark: packages $(VENV)/.installed-benchmark ## Side by side with the peers, for many minutes (ARGS: rooms)
	$(VENV)/bin/python -m benchmarks $(ARGS)

clean: ## Remove what was built; not var/, which holds data
	rm -rf $(VENV) build docs/_build .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find nti tests benchmarks docs -name __pycache__ -prune -exec rm -rf {} +
