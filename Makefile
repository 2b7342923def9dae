# Two commands matter: `make demo` and `make test`. Both set up everything they need in .venv.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin

# One test process a core with one thread each: small networks lose more to thread hand-over than they gain.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --dist worksteal

.PHONY: help demo test test-fast lint docs format clean
.DEFAULT_GOAL := help

help:  ## Say what there is
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

# A stamp a set-up: it is redone only when pyproject.toml changes.
$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
$(VENV)/.installed: pyproject.toml | $(VENV)/bin/python
	$(BIN)/pip install --quiet --editable .
	@touch $@
$(VENV)/.installed-dev: pyproject.toml | $(VENV)/bin/python
	$(BIN)/pip install --quiet --editable '.[dev]'
	@# Its own dependencies pin an old NumPy and bring a tracker; the tests need its samplers alone.
	$(BIN)/pip install --quiet --no-deps k-diffusion torchsde torchdiffeq trampoline
	@touch $@ $(VENV)/.installed

demo: $(VENV)/.installed  ## The paper's synthetic experiment, and pictures in few evaluations: a page, in a minute
	$(BIN)/proxdm demo --overwrite

test: lint  ## Lint, types and all tests
	$(PYTEST)

test-fast: lint  ## The same without the slow tests
	$(PYTEST) -m 'not slow'

lint: $(VENV)/.installed-dev  ## Ruff and mypy
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

docs: $(VENV)/.installed-dev  ## The documentation site: docs/_build/index.html
	$(BIN)/pip install --quiet --editable '.[docs]'
	@# Formulas without a network: MathJax in one file, where there is npm; else the pages take it from its usual place.
	@mkdir -p docs/_static; [ -f docs/_static/mathjax.js ] || (cd $(VENV) && npm install --silent --no-save --prefix . \
	  mathjax@3 >/dev/null 2>&1 && cp node_modules/mathjax/es5/tex-svg.js ../docs/_static/mathjax.js) || true
	@# The live page: samplers as graphs, made anew when what they are made of has changed, and the program that runs
	@# them, where there is npm.
	@[ -n "$$(find docs/_static/live/weights.bin -newer docs/live.py -newer src/proxdm/samplers/multistep.py \
	  -newer src/proxdm/priors/gain.py -newer src/proxdm/priors/mixture.py -newer src/proxdm/priors/base.py \
	  -newer src/proxdm/box/fashion-mnist.safetensors 2>/dev/null)" ] || OMP_NUM_THREADS=2 $(BIN)/python docs/live.py docs/_static/live
	@[ -f docs/_static/live/ort.wasm.min.js ] || (cd $(VENV) && npm install --silent --no-save --prefix . \
	  onnxruntime-web@1 >/dev/null 2>&1 && cd node_modules/onnxruntime-web/dist && cp ort.wasm.min.js \
	  ort-wasm-simd-threaded.mjs ort-wasm-simd-threaded.wasm ../../../../docs/_static/live/) || true
	OMP_NUM_THREADS=1 $(BIN)/sphinx-build -W --keep-going -q docs docs/_build

format: $(VENV)/.installed-dev  ## Format and mend what can be mended
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean:  ## Remove the environment, caches and results of the demo
	rm -rf $(VENV) demo toy build dist .mypy_cache .ruff_cache .pytest_cache src/*.egg-info
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
