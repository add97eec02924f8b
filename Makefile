# make demo: watch evolution merge the built-in zoo (two minutes). make test: run the tests; make test-all: the slow ones too.
# make check: lint and types.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEMO_RUN := outputs/demo/$(shell date +%Y-%m-%d_%H-%M-%S)

TESTS := $(BIN)/python -m pytest --numprocesses=logical --maxprocesses=8 --no-loadscope-reorder

.PHONY: demo test test-all check format clean

$(STAMP): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is not installed; name another one: make PYTHON=python3 $(MAKECMDGOALS)"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[dev]"
	scripts/browser.sh
	touch $@

demo: $(STAMP)
	$(BIN)/evomerge search experiment=zoo_ja_math seed=0 run.dir=$(DEMO_RUN)

test: $(STAMP)
	$(TESTS) -m "not slow"

test-all: $(STAMP)
	$(TESTS)

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
