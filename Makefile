# `make help` lists the targets. Nothing but Python 3.11+ and make is needed; everything lands in .venv.

PYTHON ?= python3
HOST ?= 127.0.0.1
PORT ?= 8000
CHECKPOINT ?= sensorium/checkpoints/tiny
ARGS ?=
# An extra package index for torch, e.g. https://download.pytorch.org/whl/cpu for a build without CUDA (saves 3 GB).
TORCH_INDEX ?=

VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt \
	$(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help run chat test check fix conformance train-nano eval bench card docs clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'
	@echo
	@echo "  Variables: PORT=$(PORT) HOST=$(HOST) OUT= CHECKPOINT= PYTHON=$(PYTHON) ARGS= TORCH_INDEX="

run: $(VENV)/.run ## start the server with the shipped weights (PORT=8000)
	@$(BIN)/sensorium serve --host $(HOST) --port $(PORT) $(ARGS)

chat: $(VENV)/.run ## talk to the shipped weights in the terminal
	@$(BIN)/sensorium chat $(ARGS)

test: check ## lint, types and tests, in two processes (ARGS="-k chat" picks some, ARGS="-n 0" runs them in one)
	$(BIN)/python -m pytest -n 2 --dist loadfile $(ARGS)

check: $(VENV)/.test ## lint and types only
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python

fix: $(VENV)/.test ## format, and repair what the linter can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

conformance: $(VENV)/.test ## measure how far the server keeps to OpenAI's API (ARGS=--write, ARGS="--spec openapi.json")
	$(BIN)/python -m tests.conformance.scoreboard $(ARGS)

train-nano: $(VENV)/.train ## train the nano model from nothing (OUT=runs/nano; goes on if interrupted)
	$(BIN)/sensorium train nano --out $(or $(OUT),runs/nano) $(ARGS)

eval: $(VENV)/.train ## measure a checkpoint on held-out data (CHECKPOINT=, OUT=runs/evals)
	$(BIN)/sensorium eval --checkpoint $(CHECKPOINT) --out $(or $(OUT),runs/evals) $(ARGS)

bench: $(VENV)/.bench ## measure decoding against a peer of the same size, first text and sound over HTTP, pictures and calls
	$(BIN)/python -m bench $(ARGS)

card: $(VENV)/.train ## write the card of a checkpoint, and its table into the README (CHECKPOINT=)
	$(BIN)/sensorium card --checkpoint $(CHECKPOINT) --page README.md $(ARGS)

docs: $(VENV)/.test ## write the file tree of ARCHITECTURE.md again
	$(BIN)/python docs/tree.py --write

clean: ## remove the environment and caches (runs/ stays)
	rm -rf $(VENV) dist build .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; name one with PYTHON=/path/to/python"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' || \
		{ echo "this Python lacks its venv module; on Debian and Ubuntu: apt install python3-venv"; exit 1; }
	@echo "making $(VENV) (the first time takes a few minutes)"
	$(PYTHON) -m venv $(VENV)

# Stamps: an environment is installed again only when its requirements change.
$(VENV)/.run: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) -e .
	@touch $@

$(VENV)/.train: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) -e '.[train]'
	@touch $@

$(VENV)/.bench: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) -e '.[bench]'
	@touch $@

$(VENV)/.test: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) -e '.[train,test]'
	@touch $@
