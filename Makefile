# Every target sets itself up: a virtual environment in .venv, pinned by constraints.txt.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: help setup check docs test test-plain demo bench wheel-test lowest clean

help:
	@echo "make demo   simulated records -> five models -> demo/report/report.html"
	@echo "make test   the whole test suite"
	@echo "make test-plain   numeric tests with other processors' kernels: no AVX, other sums"
	@echo "make check  ruff, mypy --strict, import-linter"
	@echo "make docs   the site of docs/ -> site/index.html; a warning is an error"
	@echo "       TORCH_INDEX=https://download.pytorch.org/whl/cpu: PyTorch without CUDA, .8 GB in place of 6"
	@echo "make bench  every benchmark and some studies at their smallest size"
	@echo "make wheel-test   the wheel in an environment of its own: a demo and a study outside the checkout"
	@echo "make lowest   tests with the lowest versions that pyproject.toml allows"

setup: .venv/ready

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(if $(TORCH_INDEX),$(BIN)/python -m pip install --quiet --index-url $(TORCH_INDEX) $$(grep ^torch== constraints.txt))
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[dev,docs]"
	touch .venv/ready

check: setup
	$(BIN)/ruff check src tests benchmarks docs
	$(BIN)/ruff format --check src tests benchmarks docs
	$(BIN)/mypy
	$(BIN)/mypy benchmarks
	$(BIN)/lint-imports

docs: setup
	$(BIN)/python docs/make_reference.py
	$(BIN)/python docs/make_gallery.py
	$(BIN)/python -m sphinx -W --keep-going -E -q -d build/doctrees docs site

test: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

# kernels of a processor without AVX, whose sums differ in the last bits from this one's
PLAIN := ATEN_CPU_CAPABILITY=default OPENBLAS_CORETYPE=Nehalem MKL_CBWR=COMPATIBLE ONEDNN_MAX_CPU_ISA=SSE41

test-plain: setup
	$(PLAIN) OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 tests/posthoc tests/ops tests/encoders \
		tests/estimators/test_factor_posterior.py tests/estimators/test_late_logistic.py tests/conformance/test_models.py \
		-k "not test_models or crl or hgmf or simmlm"

demo: setup
	$(BIN)/mmnar demo --out demo
	@echo "Open demo/report/report.html"

# what a user has who has no checkout; at the sizes of a check
WHEEL := $(CURDIR)/build/wheel

wheel-test: setup
	rm -rf build/wheel build/lib
	$(PYTHON) -m venv $(WHEEL)/env
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir $(WHEEL) .
	$(BIN)/python -m zipfile -e $$(ls $(WHEEL)/*.whl) $(WHEEL)/unpacked
	$(if $(TORCH_INDEX),$(WHEEL)/env/bin/pip install --quiet --index-url $(TORCH_INDEX) $$(grep ^torch== constraints.txt))
	$(WHEEL)/env/bin/pip install --quiet -c $(WHEEL)/unpacked/mmnar/shipped/constraints.txt "$$(ls $(WHEEL)/*.whl)[lightgbm]"
	mkdir $(WHEEL)/home
	cd $(WHEEL)/home && export OMP_NUM_THREADS=1 && { ../env/bin/mmnar demo --patients 600 --out demo & } \
		&& ../env/bin/mmnar study table1 --demo --out table1 && wait $$!
	test -s $(WHEEL)/home/demo/report/report.html && test -s $(WHEEL)/home/table1/report.html

lowest: constraints-lowest.txt
	$(PYTHON) -m venv build/lowest
	build/lowest/bin/python -m pip install --quiet -c constraints-lowest.txt \
		-e ".[notes,images,lightgbm,study,transport,serve]" pytest pytest-xdist hypothesis statsmodels pandas duckdb
	OMP_NUM_THREADS=1 build/lowest/bin/python -m pytest -n 2 -m "not slow" tests

# demos of minutes, and table1, which wheel-test runs; what is theirs alone is in the tests, and the tests plan each of them
LONG := table1 open_large results carebench_tabular carebench_rq1 carebench_rq2 carebench_base carebench_search medfuse_%

bench: setup
	@for script in benchmarks/*.py; do echo "== $$script"; $(BIN)/python $$script --smallest || exit 1; done
	@for study in $(filter-out $(LONG),$(basename $(notdir $(wildcard src/mmnar/shipped/studies/*.yaml)))); do \
		echo "== study $$study"; \
		$(BIN)/mmnar study $$study --demo --jobs 2 --out $$(mktemp -d)/$$study || exit 1; \
	done

clean:
	rm -rf .venv demo site build src/*.egg-info
