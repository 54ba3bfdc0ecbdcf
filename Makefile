# make demo | notebooks | test | trust | field | lint | docs | benchmark | release | setup: each creates .venv if missing.
PYTHON ?= python3
TORCH ?= torch==2.13.0
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
# as in setup.py; elsewhere fairseq compiles against the torch and numpy that are there, which saves a second download
HAS_WHEEL = $(BIN)/python -c 'import platform, sys; \
	sys.exit((sys.platform, platform.machine()) != ("linux", "x86_64") or not (3, 11) <= sys.version_info < (3, 13))'

.PHONY: setup demo notebooks test trust field lint docs benchmark release clean
.DELETE_ON_ERROR:

setup: .venv/.installed

.venv/.installed: setup.py Makefile
	@test -x $(BIN)/python || { echo 'setup 1/3: creating .venv'; $(PYTHON) -m venv .venv; }
	@echo 'setup 2/3: installing $(TORCH)'
	@$(PIP) '$(TORCH)'
	@$(HAS_WHEEL) || { echo 'setup: compiling fairseq, which has no binary wheel here'; \
		$(PIP) setuptools wheel cython numpy && $(PIP) --no-build-isolation fairseq-fixed==0.12.3.1; }
	@echo 'setup 3/3: installing fairseq, the project (editable) and what the demo needs'
	@$(PIP) '$(TORCH)' --editable '.[demo]'
	@touch $@

# .venv/.installed-EXTRA: an extra of setup.py on top
.venv/.installed-%: .venv/.installed
	@echo 'setup: installing the extra [$*]'
	@$(PIP) '$(TORCH)' --editable '.[$*]'
	@touch $@

demo: setup
	PYTHON=$(CURDIR)/$(BIN)/python bash examples/demo/run.sh demo

# three notebooks in the browser: own data, identifiers, changing catalogues
notebooks: .venv/.installed-notebooks
	$(BIN)/jupyter lab examples/notebooks

test: .venv/.installed-test
	$(BIN)/python -m pytest -q -n auto --maxprocesses 4 --dist worksteal

# an hour: a cluster that loses a node, kills, damaged files, full disks, readers beside a writer; fails on any fault
trust: .venv/.installed-test .venv/.installed-ray
	$(BIN)/python -m pytest -q tests/serving/test_ray_app.py
	$(BIN)/python tests/trust/campaign $(if $(wildcard /dev/shm),--folder /dev/shm) --json trust.json

# beside the tools of the field, which are too heavy for make test: mteb, ir_measures, TensorBoard, Weights & Biases
field: .venv/.installed-test .venv/.installed-mteb
	@$(PIP) '$(TORCH)' ir_measures tensorboard wandb
	$(BIN)/python -m pytest -q tests/benchmarks

lint: .venv/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# the guide, from docs/ to site/; fails where a link or a name leads nowhere
docs: .venv/.installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict
	@echo 'site/index.html: the guide'

# about five minutes: then no further timed runs begin; the longer runs are described in examples/efficiency/README.md
benchmark: .venv/.installed-benchmark
	mkdir -p benchmark
	$(BIN)/python examples/efficiency/benchmark.py --items 1e4 1e5 1e6 --queries 100 --beam 10 --minutes 3.5 --check \
		--contenders masked renormalised renormalised-bf16 unmasked fairseq huggingface '*+flat' minilm+ivf \
		--json benchmark/benchmark.json
	$(BIN)/python examples/efficiency/plot.py benchmark/benchmark.json --output benchmark/figure4.png
	$(BIN)/python examples/efficiency/training.py --minutes 1 --json benchmark/training.json

# wheel and sdist in dist/, checked, and the wheel tried in a new environment, which takes minutes; nothing is uploaded
release: .venv/.installed-release
	$(BIN)/python tests/release --output dist --torch '$(TORCH)'

clean:
	rm -rf .venv demo benchmark site build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache
