# make demo   set-up, then the whole recipe on a small synthetic corpus, up to the report
# make test   set-up, lint, types, import layers and all tests: what CI runs
# make test-cpus  the numeric tests under several instruction sets and thread counts
# make lint   only the checks that need no test run
# make setup  only the virtual environment

PYTHON ?= python3
VENV := .venv
SHELL := bash
BIN := $(VENV)/bin
DEMO_DIR ?= demo
JOBS ?= 2

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-cpus lint clean-demo

help:
	@sed -n 's/^# make/make/p' Makefile

$(VENV)/.python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' || { \
	  echo "$(PYTHON) is missing or not Python 3.10 to 3.13; name one that is: make PYTHON=python3.11 ..." >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

# One stamp per set of extras: a second make finds them newer than the files and installs nothing.
$(VENV)/.installed-%: $(VENV)/.python pyproject.toml constraints.txt
	@echo "installing todm[$*] into $(VENV): a few minutes the first time"
	@$(BIN)/python -m pip install --quiet --editable '.[$*]' --constraint constraints.txt
	@touch $@

setup: $(VENV)/.installed-test

demo: $(VENV)/.installed-demo
	PATH="$(CURDIR)/$(BIN):$$PATH" recipes/librispeech/run.sh --synth --corpus-dir $(DEMO_DIR)/corpus \
	  --conf recipes/librispeech/conf/demo.yaml --exp-dir $(DEMO_DIR)/exp

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# One thread per worker: the workers share the cores already.
test: lint
	OMP_NUM_THREADS=1 $(BIN)/pytest -n $(JOBS) --dist worksteal -q

# Each processor rounds float32 sums in an order of its own: identities must hold under every instruction set.
NUMERIC := tests/nn tests/losses tests/kernels tests/decode tests/deploy tests/dropout tests/runtime \
  tests/test_extract.py tests/train/test_step.py tests/train/test_optim.py tests/train/test_sync.py tests/data/test_features.py
CPUS := default:SSE41:1 avx2:AVX2:1 avx2:AVX2:2 :DEFAULT:1 :DEFAULT:2

test-cpus: $(VENV)/.installed-test
	@for cpu in $(CPUS); do \
	  IFS=: read -r aten dnnl threads <<< "$$cpu"; \
	  echo "== ATEN_CPU_CAPABILITY=$${aten:-unset} DNNL_MAX_CPU_ISA=$$dnnl, $$threads threads"; \
	  env $${aten:+ATEN_CPU_CAPABILITY=$$aten} DNNL_MAX_CPU_ISA=$$dnnl TODM_TEST_THREADS=$$threads OMP_NUM_THREADS=$$threads \
	    $(BIN)/pytest -n $(JOBS) --dist worksteal -q $(NUMERIC) || exit 1; \
	done

clean-demo:
	rm -rf $(DEMO_DIR)
