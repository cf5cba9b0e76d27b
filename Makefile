# The front door. `make` lists the verbs.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# The first Python that Triton's Python backend and its numpy 1.x go with.
PYTHON ?= $(shell for p in python3 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null \
	&& { echo $$p; exit; }; done; echo python3)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
LOCK := requirements.lock
IMAGES ?=
TAG ?= 26.08-py3
ARGS ?=

.PHONY: help setup setup-serve setup-clients setup-train setup-build setup-load setup-dev \
	demo serve fonts docs audit engine repository test test-unit test-integration check format train evaluate bench \
	locust perf analyze chaos engine lock clean

help:  ## list the verbs
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-18s%s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# One stamp an extra: an extra is installed again only when its pins change.
$(VENV)/bin/python:
	@PYTHON=$(PYTHON) scripts/debian_packages.sh
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' \
		|| { echo "needs Python 3.11 or 3.12 (uv python install 3.12): make PYTHON=python3.12 ..." >&2; exit 1; }
	@echo "making $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.stamp-%: pyproject.toml $(LOCK) | $(VENV)/bin/python
	@echo "installing what '$*' needs"
	@$(PIP) --constraint $(LOCK) --editable '.[$*]'
	@touch $@

setup: $(VENV)/.stamp-serve  ## make .venv with what serving and clients need
setup-serve setup-clients: $(VENV)/.stamp-serve
setup-train: $(VENV)/.stamp-serve $(VENV)/.stamp-train
setup-build: $(VENV)/.stamp-serve $(VENV)/.stamp-build
setup-load: $(VENV)/.stamp-serve $(VENV)/.stamp-load
setup-dev: $(VENV)/.stamp-serve $(VENV)/.stamp-train $(VENV)/.stamp-build $(VENV)/.stamp-load $(VENV)/.stamp-dev

# What the Python models import travels with them, so that the folder serves in a container too.
VENDORED := model_repository/lprnet/1/lprnet/__init__.py
MODELS := $(shell find lprnet -name "*.py") build/assemble.py build/repository_parts.py \
	model_repository/lprnet/1/model.onnx $(wildcard model_repository/lprnet/1/model_int8.onnx)

$(VENDORED): $(MODELS) | setup
	@$(BIN)/lprnet repository
	@touch $@

$(VENV)/.stamp-fonts: scripts/fetch_fonts.sh
	@scripts/fetch_fonts.sh
	@touch $@

fonts: $(VENV)/.stamp-fonts  ## fetch the free fonts that synthetic plates are drawn with

demo: setup $(VENDORED)  ## read the sample plates (and IMAGES=...) through a real tritonserver
	@$(BIN)/python -m clients.demo $(IMAGES) --sheet out/demo.png

serve: setup $(VENDORED)  ## the same server in the foreground (ARGS="--grpc-port 9001")
	@$(BIN)/lprnet serve $(ARGS)

repository: setup  ## make model_repository/ serve by itself, in a stock container too
	@$(BIN)/lprnet repository $(ARGS)

test: setup-dev fonts $(VENDORED)  ## unit tests, and integration tests against the real server
	@PYTHON=$(PYTHON) scripts/debian_packages.sh load || echo "the perf_analyzer test will be skipped"
	@$(BIN)/python -m pytest tests/unit tests/integration $(ARGS)

test-unit: setup-dev fonts
	@$(BIN)/python -m pytest tests/unit $(ARGS)

test-integration: setup-dev $(VENDORED)
	@$(BIN)/python -m pytest tests/integration $(ARGS)

check: setup-dev  ## linter, formatter and types; edits nothing
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@MYPYPATH=build $(BIN)/mypy build

format: setup-dev  ## let the formatter edit
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

train: setup-train fonts  ## train `small` (ARGS="--train SET... --val SET...")
	@$(BIN)/lprnet train $(ARGS)

evaluate: setup-train  ## accuracy on labelled sets (ARGS="SET...")
	@$(BIN)/lprnet evaluate $(ARGS)

engine:  ## build the TensorRT plan inside NVIDIA's container (TAG=26.08-py3, ARGS="--precision fp16")
	docker run --rm --gpus all --volume "$(CURDIR):/src" --workdir /src \
		nvcr.io/nvidia/tritonserver:$(TAG) scripts/engine_in_container.sh $(ARGS)

# Named one by one: __all__ of the package hides its modules from pdoc. Those below hold what its
# members take, return and raise, and the example for asyncio.
CLIENTS_API := clients $(addprefix clients.,client aio options errors result retry wire)

docs: setup-dev  ## API pages from the docstrings, in out/docs
	@$(BIN)/pdoc --docformat google --output-directory out/docs $(CLIENTS_API) lprnet

bench: setup-load $(VENDORED)  ## engine, ensembles and peer side by side: out/bench/report.html
	@$(BIN)/lprnet bench $(ARGS)

locust: setup-load $(VENDORED)  ## four shapes of load, headless: out/locust/
	@$(BIN)/python -m load_tests.locust_run $(ARGS)

perf: setup-load $(VENDORED)  ## perf_analyzer sweeps: out/perf/
	@PYTHON=$(PYTHON) scripts/debian_packages.sh load
	@$(BIN)/python -m load_tests.perf $(ARGS)

# In an environment of its own: its pins are not ours.
ANALYZER := out/analyzer/venv

$(ANALYZER)/.stamp: load_tests/model_analyzer.lock
	@echo "installing triton-model-analyzer"
	@$(PYTHON) -m venv $(ANALYZER)
	@$(ANALYZER)/bin/python -m pip install --quiet --disable-pip-version-check --requirement $<
	@touch $@

analyze: setup-load $(VENDORED) $(ANALYZER)/.stamp  ## find instance count and batch size with triton-model-analyzer
	@PYTHON=$(PYTHON) scripts/debian_packages.sh load
	@$(BIN)/python -m load_tests.analyzer $(ARGS)

chaos: setup-dev $(VENDORED)  ## faults under load, the long form: out/chaos/
	@$(BIN)/python -m tests.chaos $(ARGS)

audit:  ## look the locked packages up for known vulnerabilities
	@PYTHON=$(PYTHON) deploy/audit.sh $(ARGS)

lock: $(VENV)/bin/python  ## pin everything anew in the lock files
	@$(PIP) uv==0.13.9
	@$(BIN)/uv pip compile --quiet --universal --all-extras --no-annotate --python-version 3.11 \
		--upgrade pyproject.toml --output-file $(LOCK)
	@$(BIN)/uv pip compile --quiet --universal --no-annotate --python-version 3.11 \
		--upgrade load_tests/model_analyzer.in --output-file load_tests/model_analyzer.lock

clean:  ## remove what can be made again
	rm -rf $(VENV) out runs .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info
	rm -rf model_repository/*/1/lprnet
