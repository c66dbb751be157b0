# make demo   an environment, data made from a seed, rounds of region RIPU, report.html
# make demo-annotate  a page in the browser on which you answer what a run asks
# make test   the tests (make test SLOW=1: the slow ones too, as CI does), on all cores (JOBS=1: one)
# make gpu    GPU tests and the GPU benchmark; writes benchmarks/results/gpu_<device>.json
# make trust  what a run promises, tried for about 20 minutes: kills, full disks, wrong input, ...
# make sweep  one config of each family of MMSegmentation 1.x through --smoke; writes docs/models.md
# make docs   the site in build/docs, from docs/ and the docstrings; warnings are errors
# make lint   ruff and mypy        make bench   benchmarks        make clean   forget the outputs
#
# make env-mmseg0    the second environment, .venv-mmseg0: MMSegmentation 0.x with mmcv-full. Needs a
#                    C++ compiler; the first time on a machine it compiles for about 10 minutes
# make test-mmseg0   the tests there; SLOW=1 as above
#
# make test-exchange     the codecs of exports against the labelling tools' own code, in .venv-exchange
# make foreign-exchange  write tests/data/exchange/foreign.json anew with it
#
# PYTHON  the interpreter that .venv is made with (3.10 or newer, with its venv module)
# TORCH   exactly this version: an open range may pull gigabytes of newer CUDA packages. For the
#         small CPU wheel from PyTorch's own index:
#         make env TORCH="torch==2.13.0+cpu --extra-index-url https://download.pytorch.org/whl/cpu"
#
# PYTHON0     the interpreter for .venv-mmseg0: 3.10 or 3.11, the newest that torch 2.1 knows
# TORCH0      e.g. "torch==2.1.2+cpu torchvision==0.16.2+cpu --extra-index-url https://..." as above
# WHEELHOUSE  where compiled wheels are kept, in one folder for each Python, torch and CPU or CUDA
PYTHON ?= python3
VENV ?= .venv
TORCH ?= torch==2.13.0
PYTHON0 ?= $(PYTHON)
VENV0 ?= .venv-mmseg0
VENV_EXCHANGE ?= .venv-exchange
TORCH0 ?= torch==2.1.2 torchvision==0.16.2
WHEELHOUSE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/regional_al/wheels
SLOW ?=
JOBS ?= auto
GPUS ?= 1
DEMO_CONFIG ?= configs/streets/region_ripu_slic.py

BIN := $(VENV)/bin
# --no-compile: half of the time goes into compiling modules that nobody will import.
PIP := $(BIN)/python -m pip --disable-pip-version-check
BIN0 := $(VENV0)/bin
PIP0 := $(BIN0)/python -m pip --disable-pip-version-check
# Idle workers take over tests from busy ones: a single slow test does not hold a core back.
PYTEST := -m pytest -n $(JOBS) --dist worksteal
PYTEST_ARGS ?= $(if $(SLOW),,-m "not slow")

# Tests compare with BAAL. It works without the jupyter that it asks for, so it goes in without its
# requirements, and these are the ones that it imports. 2.1 is for numpy 2, 2.0 for numpy 1.
BAAL := scikit-learn tqdm 'structlog<23'

.PHONY: env env-test env-mmseg0 demo demo-annotate test test-mmseg0 test-exchange foreign-exchange docs lint types bench trust sweep gpu clean
.DELETE_ON_ERROR:

env: $(VENV)/.stamp
env-test: $(VENV)/.stamp-test
env-mmseg0: $(VENV0)/.stamp

# Made once; brought up to date when pyproject.toml changes.
$(VENV)/.stamp: pyproject.toml
	@$(PIP) --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV) || { \
	  echo "error: $(PYTHON) cannot make a venv; on Debian: apt-get install python3-venv"; exit 1; }
	$(PIP) install -q --no-compile $(TORCH)
	$(PIP) install -q --no-compile -e '.[fast,report,web,mmseg1,dev]'
	@# opencv-python needs the system's libGL, which a bare machine lacks; the headless build does not.
	@$(BIN)/python -c 'import cv2' 2>/dev/null || { $(PIP) uninstall -q -y opencv-python && \
	  $(PIP) install -q --no-compile --force-reinstall --no-deps opencv-python-headless; }
	@touch $@

# Tests also run the GPU kernels in Triton's interpreter, and build the site.
$(VENV)/.stamp-test: $(VENV)/.stamp
	$(PIP) install -q --no-compile -e '.[triton,web-test,docs]' $(BAAL) 'torchmetrics>=1.7.3,<2'
	$(PIP) install -q --no-compile --no-deps baal==2.1.0
	@touch $@

# One pip call for everything with a version bound, so that nothing replaces torch or numpy after;
# what is compiled follows without its requirements, against the torch that is then there.
$(VENV0)/.stamp: pyproject.toml tools/compiled_wheels.py
	@$(PIP0) --version >/dev/null 2>&1 || { \
	  $(PYTHON0) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 11))' || { \
	    echo "error: torch 2.1 needs Python 3.10 or 3.11: make env-mmseg0 PYTHON0=python3.11"; exit 1; }; \
	  $(PYTHON0) -m venv --clear $(VENV0) || { \
	    echo "error: $(PYTHON0) cannot make a venv; on Debian: apt-get install python3-venv"; exit 1; }; }
	$(PIP0) install -q --no-compile $(TORCH0) -e '.[fast,report,web,mmseg0,test]' \
	  $(BAAL) 'torchmetrics<0.10' 'wheel<0.43' ninja
	$(PIP0) install -q --no-compile --no-deps baal==2.0.0
	$(BIN0)/python tools/compiled_wheels.py --wheelhouse '$(WHEELHOUSE)'
	@touch $@

demo: env
	$(BIN)/python -m regional_al.testing.streets data/streets
	rm -rf work_dirs/demo
	PYTHON=$(BIN)/python bash tools/dist_train.sh $(DEMO_CONFIG) $(GPUS) --work-dir work_dirs/demo
	@echo "report: $(CURDIR)/work_dirs/demo/report.html"

# People answer three rounds of superpixels in a browser; the page follows the trainings between them.
demo-annotate: env
	$(BIN)/python -m regional_al.testing.streets data/streets
	rm -rf work_dirs/demo_annotate
	PYTHON=$(BIN)/python bash tools/dist_train.sh configs/streets/region_ripu_web.py $(GPUS) \
	  --work-dir work_dirs/demo_annotate
	$(BIN)/python -m regional_al annotate work_dirs/demo_annotate --train $(ANNOTATE_ARGS)

test: env-test
	$(BIN)/python $(PYTEST) $(PYTEST_ARGS)

# Everything but the tests of the other engine runs there too.
test-mmseg0: env-mmseg0
	$(BIN0)/python $(PYTEST) -m "not mmseg1$(if $(SLOW),, and not slow)"

# The tools' packages beside those of .venv, which a path file makes visible. Label Studio's SDK without
# the seventy packages that it requires: one file of it is used.
$(VENV_EXCHANGE)/.stamp: $(VENV)/.stamp-test
	$(BIN)/python -m venv --clear $(VENV_EXCHANGE)
	$(VENV_EXCHANGE)/bin/python -m pip install -q --no-compile pycocotools==2.0.11 cvat-sdk==2.80.0
	$(VENV_EXCHANGE)/bin/python -m pip install -q --no-compile --no-deps label-studio-sdk==2.1.2
	$(BIN)/python -c 'import sysconfig; print("import site; site.addsitedir(%r)" % \
	  sysconfig.get_path("purelib"))' > $(VENV_EXCHANGE)/base.pth
	mv $(VENV_EXCHANGE)/base.pth $(VENV_EXCHANGE)/lib/python3*/site-packages/
	@touch $@

test-exchange: $(VENV_EXCHANGE)/.stamp
	$(VENV_EXCHANGE)/bin/python -m pytest tests/exchange

foreign-exchange: $(VENV_EXCHANGE)/.stamp
	$(VENV_EXCHANGE)/bin/python tests/data/exchange/make_foreign.py

$(VENV)/.stamp-docs: $(VENV)/.stamp
	$(PIP) install -q --no-compile -e '.[docs]'
	@touch $@

# -E: from nothing, so that every warning shows.
docs: $(VENV)/.stamp-docs
	$(BIN)/python -m sphinx -b html -E -W --keep-going -n -q -d build/doctrees docs build/docs
	@echo "site: $(CURDIR)/build/docs/index.html"

lint: env types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: env
	$(BIN)/mypy

bench: env
	set -e; for script in benchmarks/bench_*.py; do $(BIN)/python $$script; done

# With the runs of MMSegmentation 0.x where .venv-mmseg0 is; 1.x and the toy engine always.
trust: env-test
	$(BIN)/python benchmarks/trust

# Continues where it was stopped: SWEEP_ARGS="--again --only fcn,encnet", "--minutes 30"
sweep: env
	OMP_NUM_THREADS=1 $(BIN)/python -W ignore benchmarks/sweep.py $(SWEEP_ARGS)
	$(BIN)/python benchmarks/sweep.py --page

# With the interpreter of .venv if there is one, else python3: no environment is made for it.
gpu:
	bash benchmarks/gpu.sh

clean:
	rm -rf work_dirs build dist docs/api docs/project .pytest_cache .mypy_cache .ruff_cache .hypothesis
