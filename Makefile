# make demo   the main job: simulate, preprocess, train, translate, validate; and the recommended setting beside
# make test   style, types, layers, documentation, tests
# make docs   the documentation, in docs/_build/html
# make coverage   the tests, and the branches that they reach, which takes a third more time
# Each sets up .venv first; all they need is Python 3.11 or newer.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PYTEST := OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE pytest -n 2 --dist loadfile --no-loadscope-reorder
# pip would compile one module after another; that is left to all cores, which skip what is no Python.
INSTALL := $(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: demo test types tests coverage docs setup format clean

setup: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12 …")'
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) torch
	$(INSTALL) --editable '.[simulate,jets,parquet,hepmc,isal,xrootd,cluster,onnx,tensorboard,baselines,docs,dev]'
	$(BIN)/python -m compileall -qq -j 0 $(VENV)/lib || true
	touch $@

demo: setup
	pileupgen preprocess
	pileupgen train
	pileupgen translate --t-release 300 --w 2.0
	pileupgen validate
	pileupgen translate --mode invert --w 0 --timesteps 995,800,600,450,300,180,90,30 -o runs/demo/translated/recommended.h5
	pileupgen validate --no-ladder --input runs/demo/translated/recommended.h5
	pileupgen compare runs/demo runs/demo/validation/recommended

test: setup
	ruff check .
	ruff format --check .
	lint-imports
	$(MAKE) -j 3 tests types docs

# The first tests wait for other processes part of the time, in which types and pages are checked.
tests: setup
	$(PYTEST)

types: setup
	mypy

# Apart from the tests: under Python 3.11 tracing takes a fifth to a half more of their time.
coverage: setup
	$(PYTEST) --cov --cov-report=term

# A warning is an error: a broken link, an unknown reference, a page in no table of contents.
docs: setup
	sphinx-build --quiet --fail-on-warning --keep-going -b html docs docs/_build/html

format: setup
	ruff format .
	ruff check --fix .

clean:
	rm -rf runs docs/_build docs/generated docs/reference/generated .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage
