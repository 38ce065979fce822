# make demo   the main job: simulate, preprocess, train, translate, validate
# make test   style, types, layers, tests
# Both set up .venv first; all they need is Python 3.11 or newer.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: demo test setup format clean

setup: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12 …")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[simulate,jets,parquet,cluster,onnx,tensorboard,baselines,dev]'
	touch $@

demo: setup
	pileupgen preprocess
	pileupgen train
	pileupgen translate --t-release 300 --w 2.0
	pileupgen validate

test: setup
	ruff check .
	ruff format --check .
	mypy
	lint-imports
	OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE pytest -n 2 --dist loadfile --cov --cov-report=term

format: setup
	ruff format .
	ruff check --fix .

clean:
	rm -rf runs .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage
