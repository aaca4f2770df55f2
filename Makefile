# `make run` sets everything up and runs the main job; `make test` sets everything up and runs the tests.
#   make run PROFILE=smoke            another profile of notebooks/profiles
#   make tour RUN=outputs/tiny        publish a finished run: docs/tour, its evidence, tables of the documents
#   make run VENV=/some/venv          share one environment between checkouts (it holds torch: about 6 GB)
VENV ?= .venv
PYTHON ?= python3
PROFILE ?= tiny
RUN ?= outputs/tiny
STAMP := $(VENV)/.installed-$(shell cat requirements.lock pyproject.toml | cksum | cut -d' ' -f1)
export PYTHONPATH := $(CURDIR)
export OMP_NUM_THREADS ?= $(shell nproc 2>/dev/null || echo 2)

.PHONY: env run tour test lint bench siege lock clean
env: $(STAMP)
$(STAMP):  # named by the content of both files: checkouts that share VENV do not install again
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; name one with PYTHON=")'
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install -q --disable-pip-version-check -r requirements.lock
	$(VENV)/bin/python -m pip install -q --disable-pip-version-check -e . --no-deps
	rm -f $(VENV)/.installed-*
	touch $@

run: env
	$(VENV)/bin/python -m mcr_lib run --profile $(PROFILE)

tour: env  # publishes a finished run: docs/tour, evidence, the tables of the documents
	$(VENV)/bin/python -m tools.tour $(RUN)

test: env
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest --durations=10 -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

lint: env
	$(VENV)/bin/python -m ruff check .
	$(VENV)/bin/python -m ruff format --check .
	$(VENV)/bin/python -m pytest -m lint

bench: env
	$(VENV)/bin/python benchmarks/bench.py

siege: env
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m benchmarks.siege

lock:
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install -q --disable-pip-version-check uv
	$(VENV)/bin/python -m uv pip compile --universal --python-version 3.11 --no-emit-package mcr-lib --no-header --no-annotate -q requirements.in -o requirements.lock
	$(VENV)/bin/python -m uv pip compile --python-version 3.11 --python-platform x86_64-unknown-linux-gnu --no-emit-package mcr-lib --no-header --no-annotate -q requirements-vllm.in -o requirements-vllm.lock

clean:
	rm -rf outputs build dist *.egg-info .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
