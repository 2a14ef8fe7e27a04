# Each target works from a fresh clone: it makes a virtual environment and installs what it needs.

define HELP
make dcgan    train the DCGAN             make test      run the quick tests
make cgan     train the CGAN              make test-all  run all tests
make bench    measure the speed           make lint      check style and types
make clean    remove the environment

ARGS is passed to the program. To draw with the generators that are included:
  make cgan ARGS="--generator pretrained/cgan_mnist.h5 --digit 8"
The first of these commands installs TensorFlow into $(VENV): 2.5 GB, a few minutes.
endef
export HELP

VENV ?= .venv
# The first Python that TensorFlow runs on.
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11 python3.10 python; do \
	$$python -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' \
	2>/dev/null && echo $$python && break; done)

.PHONY: help dcgan cgan test test-all lint bench clean

help:
	@echo "$$HELP"

dcgan cgan: $(VENV)/installed
	MAKE_TARGET=$@ $(VENV)/bin/python $@_mnist.py $(ARGS)

test: $(VENV)/installed-dev
	$(VENV)/bin/python -m pytest -n 2 --dist loadfile -m "not slow" $(ARGS)

test-all: $(VENV)/installed-dev
	$(VENV)/bin/python -m pytest -n 2 --dist loadfile $(ARGS)

lint: $(VENV)/installed-dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports --no-cache

bench: $(VENV)/installed-dev
	$(VENV)/bin/python benchmarks/throughput.py $(ARGS)

clean:
	rm -rf $(VENV)

$(VENV)/installed: requirements.txt | $(VENV)/bin/python
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	@touch $@

$(VENV)/installed-dev: requirements-dev.txt requirements.txt | $(VENV)/bin/python
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	@touch $@ $(VENV)/installed

$(VENV)/bin/python:
	@$(if $(PYTHON),$(PYTHON),false) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' \
		2>/dev/null || { echo "Python $(PYTHON): TensorFlow needs Python 3.10 to 3.13, which was not" \
		"found there: install one, or name one: make PYTHON=/path/to/python3.12" >&2; exit 2; }
	@echo "making $(VENV) and installing TensorFlow into it: a few minutes the first time"
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }
