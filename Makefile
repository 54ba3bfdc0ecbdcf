# make demo | test | lint | benchmark | setup: each creates .venv when it is missing and does nothing twice.
PYTHON ?= python3
TORCH ?= torch==2.13.0
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
# fairseq asks for torchaudio at every installation; it is not needed, and breaks other imports where its binary does not load
WITHOUT_TORCHAUDIO = $(BIN)/python -c 'import torchaudio' 2>/dev/null || $(BIN)/python -m pip uninstall --quiet --yes torchaudio

.PHONY: setup demo test lint benchmark clean
.DELETE_ON_ERROR:

setup: .venv/.installed

# fairseq compiles C extensions against the torch and numpy that are there, so those come first.
.venv/.installed: setup.py Makefile
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP) --upgrade pip
	$(PIP) setuptools wheel cython numpy '$(TORCH)'
	$(PIP) --no-build-isolation fairseq-fixed==0.12.3.1
	$(PIP) --no-build-isolation --editable '.[demo,test]'
	$(WITHOUT_TORCHAUDIO)
	touch $@

demo: setup
	PYTHON=$(CURDIR)/$(BIN)/python bash examples/demo/run.sh demo

test: setup
	$(BIN)/python -m pytest -q

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# five minutes on two cores; the longer runs are described in examples/efficiency/README.md
benchmark: setup .venv/.benchmark
	mkdir -p benchmark
	$(BIN)/python examples/efficiency/benchmark.py --items 1e4 1e5 1e6 --queries 100 --beam 10 --repeats 3 --check \
		--contenders masked renormalised renormalised-bf16 unmasked fairseq huggingface '*+flat' minilm+ivf \
		--json benchmark/benchmark.json
	$(BIN)/python examples/efficiency/plot.py benchmark/benchmark.json --output benchmark/figure4.png
	$(BIN)/python examples/efficiency/training.py --repeats 3 --json benchmark/training.json

.venv/.benchmark: .venv/.installed
	$(PIP) --no-build-isolation --editable '.[benchmark]'
	$(WITHOUT_TORCHAUDIO)
	touch $@

clean:
	rm -rf .venv demo benchmark build *.egg-info .mypy_cache .pytest_cache .ruff_cache
