# `make run` sets everything up and runs the main job; `make test` sets everything up and runs the tests.
VENV ?= .venv
PYTHON ?= python3
STAMP := $(VENV)/.installed-$(shell sha256sum requirements.lock | cut -c1-12)
export PYTHONPATH := $(CURDIR)

.PHONY: env test lint lock clean
env: $(STAMP)
$(STAMP): requirements.lock pyproject.toml
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install -q -r requirements.lock
	$(VENV)/bin/python -m pip install -q -e . --no-deps
	touch $@

test: env
	$(VENV)/bin/python -m pytest --durations=5

lint: env
	$(VENV)/bin/ruff check mcr_lib tests

lock: env
	$(VENV)/bin/uv pip compile --universal --python-version 3.11 --no-emit-package mcr-lib --no-header --no-annotate -q requirements.in -o requirements.lock

clean:
	rm -rf outputs build dist *.egg-info
