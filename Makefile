# Every target sets up what it needs. Python 3.11 or later with venv and pip is all that must be there.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready
# Two OpenMP threads on a core that is busy make small networks many times slower than one.
export OMP_NUM_THREADS ?= 1
# Imports take half the time once bytecode is kept. What is slowest to compile is compiled in the
# set-up: processes that start side by side would all do it.
export PYTHONDONTWRITEBYTECODE :=
COMPILED := diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion, xraysynth.training.fitting

.PHONY: setup quickstart test coverage lint types doctests benchmarks lock clean
setup: $(STAMP)

$(STAMP): requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	$(BIN)/python -c "import $(COMPILED)"
	touch $@

quickstart: setup
	$(BIN)/xraysynth study experiment=quickstart
	@echo "The DALL·E arm was not run: it needs a key and a budget. Its price: OPENAI_API_KEY=… $(BIN)/xraysynth \
	generate experiment=quickstart generator=dalle generate.dry_run=true"

test: setup
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -q -n auto --maxprocesses 4 --dist loadfile

# Which lines and branches the tests reach, package by package: shown, with no threshold. TESTS=tests/data for less.
coverage: setup
	$(BIN)/coverage erase
	-HF_HUB_OFFLINE=1 $(BIN)/coverage run -m pytest -q -n auto --maxprocesses 4 --dist loadfile $(TESTS)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage json --quiet -o - | $(BIN)/python tests/coverage_by_package.py

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache

types: setup
	$(BIN)/mypy

doctests: setup
	$(BIN)/python -m pytest -q --doctest-modules src/xraysynth

benchmarks: export OMP_NUM_THREADS = $(shell nproc)
benchmarks: setup
	for file in benchmarks/*.py; do $(BIN)/python $$file || exit 1; done

# The pinned environment, without the address of any registry.
lock: setup
	$(BIN)/uv pip compile pyproject.toml --all-extras --python-version 3.11 --upgrade --quiet \
	  --generate-hashes --no-emit-index-url --no-annotate --no-header -o requirements.lock

clean:
	rm -rf $(VENV) outputs
