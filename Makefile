# `make zero` installs into .venv, then trains R1-Zero on the embedded model; `make test` runs the tests.
# Afterwards: source .venv/bin/activate
PYTHON ?= python3
VENV   := .venv
# Where torch comes from; empty is where pip is set up to look. PyTorch's own index of CPU builds:
# make zero TORCH_INDEX=https://download.pytorch.org/whl/cpu
TORCH_INDEX ?=
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check -q

.PHONY: zero r1 test install dev lint types docs test-slow real test-real bench clean

zero: install
	$(BIN)/zerone zero

# Runs programs that models write, so it needs a sandbox (apt-get install bubblewrap).
r1: install
	$(BIN)/zerone r1

# Two at a time, each file as a whole: most tests keep one core busy.
test: dev
	$(BIN)/python -m pytest -n 2 --dist loadfile

install: $(VENV)/installed

# torch first and pinned, so that nothing else chooses its version. Without TORCH_INDEX pip takes what it finds: on x86
# Linux the CUDA build (2.8 GB of packages) unless pip is set up for a CPU build; on macOS a CPU build.
$(VENV)/installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install torch==2.13.0 $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX))
	$(PIP) install -c constraints.txt -e .
	touch $@

dev: $(VENV)/installed-dev

$(VENV)/installed-dev: $(VENV)/installed
	$(PIP) install -c constraints.txt -e '.[eval,gguf,parquet,docs,lora]' pytest pytest-xdist hypothesis openai schemathesis ruff mypy types-pyyaml types-regex
	touch $@

lint: dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: dev
	$(BIN)/mypy

docs: dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo build/site/index.html

test-slow: dev
	$(BIN)/python -m pytest -m 'slow and not real'

# A real pretrained model: sums by RL alone, and parity of engine and trainer with transformers.
real: models/smollm2-135m
	$(BIN)/zerone zero --recipe smollm2_sums

test-real: models/smollm2-135m
	$(BIN)/python -m pytest -m real

models/smollm2-135m: | dev
	$(BIN)/zerone model smollm2-135m --out $@

bench: dev
	$(BIN)/python benchmarks/rollout_speed.py

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
