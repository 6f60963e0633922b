# Every target sets itself up: nothing has to be installed by hand before, and a second call is quick.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
# Every install goes through the constraints file: an open request for torch pulls gigabytes of CUDA packages.
export PIP_CONSTRAINT := $(CURDIR)/constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: setup demo test check fix docs fuzz soak bench bench-gpu results

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "shopwindow needs Python 3.11 or newer; name one with: make PYTHON=python3.12"; exit 2; }
	@echo "Setting up $(VENV) (once; a few minutes) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --no-warn-script-location -e '.[dev]'
	@touch $@

demo: $(READY)
	$(BIN)/shopwindow demo --out out/demo

test: check

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy
	$(BIN)/python -m pytest -n 2

fix: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The documentation site, in out/site.
docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict
	@echo "site: out/site/index.html"

$(VENV)/.docs: $(READY)
	@$(BIN)/python -m pip install --quiet --no-warn-script-location -e '.[docs]'
	@touch $@

# Every reader with wrong files, for longer than the gate takes: FUZZ examples a test.
FUZZ ?= 2000
fuzz: $(READY)
	SHOPWINDOW_FUZZ_EXAMPLES=$(FUZZ) $(BIN)/python -m pytest -n 2 tests/test_fuzz_readers.py tests/test_fuzz_manifests.py tests/search/test_fuzz_cards.py
	$(BIN)/python benchmarks/fuzz_rows.py --rows 1000000

# The service under load and faults, for MINUTES.
MINUTES ?= 30
soak: $(READY)
	$(BIN)/python benchmarks/soak.py --minutes $(MINUTES)

bench: $(READY)
	$(BIN)/python benchmarks/run_all.py

# Tables of all recorded figures, and of the quality grid.
results: $(READY)
	$(BIN)/python benchmarks/record.py
	$(BIN)/python benchmarks/ablation.py table

# On a machine with a GPU, and perhaps without a network: takes the Python that is there, installs nothing.
bench-gpu:
	PYTHONPATH=src $(PYTHON) benchmarks/step_gpu.py
