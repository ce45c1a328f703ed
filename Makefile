# make study: everything from a fresh clone to a report. make test: everything that must hold before a change lands.
# make test-all: the same with every combination, the slow tests, other libraries' (make parity) and adapters, in half an hour.
# make gallery: every optimizer on the main surfaces, for docs/gallery.md, in a few minutes.
# make gpu-test: the Triton executor, compiled and interpreted on a CPU, in five minutes; it needs no GPU.
# make docs: the documentation site in build/site, to be opened without a server.
# make dist: wheel and sdist, installed into an environment of their own, in two minutes.
# make adapters: what goes into other trainers, array libraries and loggers, tested with them in an environment of their own.
# make soak: 10,000 random configurations beside torch's (a quarter of an hour).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
GPU := $(VENV)/gpu
ADAPTERS := $(VENV)/adapters
# Trainers that tests/adapters tries, and what they import. timm and fastai ask for a torchvision of torch's own build, and
# fastai for spacy; nothing here needs either.
LOOPS := timm skorch tabulate pytorch-ignite fastai fastcore fastdownload fastprogress fasttransform plum-dispatch beartype cloudpickle

.PHONY: setup study test lint types imports pytest test-all parity adapters gpu-test soak gallery docs bench dist clean
.DELETE_ON_ERROR:

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(f"Steepest needs Python 3.11 or newer; {sys.executable} is {sys.version.split()[0]}. Name another one: make PYTHON=python3.12") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch==2.13.0
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $(STAMP)

study: setup
	-$(BIN)/steepest data fetch fashion-mnist
	$(BIN)/steepest study fashion-mnist --preset quick --jobs 2 --timing-rounds 2

test: lint types imports pytest

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup
	$(BIN)/mypy

imports: setup
	$(BIN)/lint-imports

pytest: setup
	$(BIN)/python -m pytest --numprocesses auto --dist worksteal --durations 40 --durations-min 2

test-all: lint types imports parity $(ADAPTERS)/.installed
	STEEPEST_MATRIX=full $(BIN)/python -m pytest --numprocesses auto --dist worksteal --ignore tests/variants
	STEEPEST_MATRIX=full $(ADAPTERS)/bin/python -m pytest tests/adapters

# zij asks for torch < 2.13, timm for a torchvision of torch's own build, kron-torch for triton; their optimizers need none.
parity: setup
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[parity]'
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-deps zij timm kron-torch quad-torch
	STEEPEST_MATRIX=full $(BIN)/python -m pytest tests/variants

# An environment of its own that sees the packages of $(VENV) and adds what they lack: pip tells what is missing, torch stays
# as it is, and no other test imports Keras or JAX, whose threads do not go with forks.
adapters: $(ADAPTERS)/.installed
	$(ADAPTERS)/bin/python -m pytest tests/adapters

$(ADAPTERS)/.installed: pyproject.toml constraints.txt $(STAMP)
	$(BIN)/python -m venv --clear --without-pip $(ADAPTERS)
	$(BIN)/python -c 'import sysconfig; print("import site; site.addsitedir({!r})".format(sysconfig.get_path("purelib")))' \
		> "$$($(ADAPTERS)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/outer.pth"
	$(ADAPTERS)/bin/python -m pip install --quiet --constraint constraints.txt --editable '.[keras,optax,tensorboard,mlflow,wandb]'
	$(ADAPTERS)/bin/python -m pip install --quiet --constraint constraints.txt --no-deps $(LOOPS)
	touch $@

# Next to torch and not into its environment: torch would import it, and no other test may need it.
gpu-test: $(GPU)/.installed
	STEEPEST_GPU=1 PYTHONPATH=$(GPU) $(BIN)/python -m pytest tests/gpu

$(GPU)/.installed: constraints.txt $(STAMP)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-deps --upgrade --target $(GPU) triton
	touch $@

soak: setup
	STEEPEST_SOAK=10000 $(BIN)/python -m pytest tests/test_random_configurations.py --hypothesis-show-statistics

gallery: setup
	$(BIN)/python docs/gallery.py

docs: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

bench: setup
	$(BIN)/steepest bench step --json benchmarks/results/step.json
	$(BIN)/steepest bench train --json benchmarks/results/train.json

# Wheel and sdist, and the wheel in an environment of its own: with torch and nothing else, then with the command.
dist: setup
	rm -rf dist build $(VENV)/dist
	$(BIN)/python -m pip install --quiet --constraint constraints.txt build
	$(BIN)/python -m build
	$(PYTHON) -m venv $(VENV)/dist
	$(VENV)/dist/bin/python -m pip install --quiet --constraint constraints.txt torch==2.13.0 dist/*.whl
	cd $(VENV) && dist/bin/python ../.ci/installed.py
	$(VENV)/dist/bin/python -m pip install --quiet --constraint constraints.txt "$$(ls dist/*.whl)[study]"
	cd $(VENV) && dist/bin/steepest doctor

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
