# make demo   the main job on real images: profile this CPU, search, measured front, ONNX files
# make test   the whole check: format, lint, types, import contracts, tests
# make test-slow   the tests that are too slow for that
# All make .venv first if it is not there. Needs Python 3.11 or newer and make.

PYTHON ?= python3
# Test processes, of one thread each.
JOBS ?= 2
BIN := .venv/bin
INSTALLED := .venv/installed

.PHONY: demo test test-slow install format clean

demo: $(INSTALLED)
	$(BIN)/hwnas profile search/quickstart.toml
	$(BIN)/hwnas search search/quickstart.toml --fresh
	$(BIN)/hwnas pick quickstart

test: $(INSTALLED)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadfile

# All tests that are too slow for `test`; what came of them is kept in tests/bench/results/slow_tests.json.
test-slow: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.bench slow_tests

install: $(INSTALLED)

$(INSTALLED): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "hwnas needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) -V). Try: make PYTHON=python3.12"; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[dev]"
	@touch $@

format: $(INSTALLED)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf .venv runs build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
