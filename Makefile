# From a bare checkout, with nothing but Python: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

# The environment with the oldest versions that setup.py allows; best on the oldest Python.
OLDEST ?= .venv-oldest
OLDEST_PYTHON ?= python3.10
OLDEST_TESTS ?= tests/test_config.py tests/data tests/evaluation tests/doctor tests/tools/test_demo.py \
    tests/tools/test_plot_training.py tests/engine/test_predictor.py tests/modeling/vlm tests/web/test_service.py \
    tests/miner/test_describe_endpoints.py tests/miner/test_describe_answers.py \
    tests/miner/test_export.py tests/miner/test_store.py

.PHONY: demo test test-oldest lint types check clean

# The stamp is younger than setup.py exactly when the environment is up to date.
$(VENV)/.installed: setup.py pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $@

demo: $(VENV)/.installed
	$(BIN)/python tools/demo.py --input datasets/samples/photos datasets/samples/images \
	    datasets/samples/procedural/images --output output/demo

test: $(VENV)/.installed
	$(BIN)/python -m pytest -n 2 $(PYTEST_ARGS)

# Fails in pip where a lower bound of setup.py cannot be had beside the others.
test-oldest:
	$(OLDEST_PYTHON) -m venv $(OLDEST)
	$(OLDEST)/bin/python -m pip install --quiet --upgrade pip
	$(OLDEST)/bin/python tests/oldest.py > $(OLDEST)/oldest.txt
	$(OLDEST)/bin/python -m pip install --quiet --requirement $(OLDEST)/oldest.txt \
	    --editable . pytest hypothesis
	$(OLDEST)/bin/python -m pytest $(PYTEST_ARGS) $(OLDEST_TESTS)

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed
	$(BIN)/mypy

check: lint types test

clean:
	rm -rf $(VENV) $(OLDEST) output build dist *.egg-info
