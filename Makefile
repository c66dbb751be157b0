# make demo   an environment, data made from a seed, rounds of region RIPU, report.html
# make test   the tests (make test SLOW=1: the slow ones too, as CI does)
# make lint   ruff and mypy        make bench   benchmarks        make clean   forget the outputs
#
# PYTHON  the interpreter that .venv is made with (3.10 or newer, with its venv module)
# TORCH   exactly this version: an open range may pull gigabytes of newer CUDA packages. For the
#         small CPU wheel from PyTorch's own index:
#         make env TORCH="torch==2.13.0+cpu --extra-index-url https://download.pytorch.org/whl/cpu"
PYTHON ?= python3
VENV ?= .venv
TORCH ?= torch==2.13.0
SLOW ?=
GPUS ?= 1
DEMO_CONFIG ?= configs/streets/region_ripu_slic.py

BIN := $(VENV)/bin
# --no-compile: half of the time goes into compiling modules that nobody will import.
PIP := $(BIN)/python -m pip --disable-pip-version-check
PYTEST_ARGS ?= $(if $(SLOW),,-m "not slow")

.PHONY: env env-test demo test lint types bench clean
.DELETE_ON_ERROR:

env: $(VENV)/.stamp
env-test: $(VENV)/.stamp-test

# Made once; brought up to date when pyproject.toml changes.
$(VENV)/.stamp: pyproject.toml
	@$(PIP) --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV) || { \
	  echo "error: $(PYTHON) cannot make a venv; on Debian: apt-get install python3-venv"; exit 1; }
	$(PIP) install -q --no-compile $(TORCH)
	$(PIP) install -q --no-compile -e '.[fast,report,mmseg1,dev]'
	@# opencv-python needs the system's libGL, which a bare machine lacks; the headless build does not.
	@$(BIN)/python -c 'import cv2' 2>/dev/null || { $(PIP) uninstall -q -y opencv-python && \
	  $(PIP) install -q --no-compile --force-reinstall --no-deps opencv-python-headless; }
	@touch $@

# Tests also run the GPU kernels in Triton's interpreter; nothing else needs that wheel.
$(VENV)/.stamp-test: $(VENV)/.stamp
	$(PIP) install -q --no-compile -e '.[triton]'
	@touch $@

demo: env
	$(BIN)/python -m regional_al.testing.streets data/streets
	rm -rf work_dirs/demo
	PYTHON=$(BIN)/python bash tools/dist_train.sh $(DEMO_CONFIG) $(GPUS) --work-dir work_dirs/demo
	@echo "report: $(CURDIR)/work_dirs/demo/report.html"

test: env-test
	$(BIN)/python -m pytest $(PYTEST_ARGS)

lint: env types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: env
	$(BIN)/mypy

bench: env
	set -e; for script in benchmarks/bench_*.py; do $(BIN)/python $$script; done

clean:
	rm -rf work_dirs build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
