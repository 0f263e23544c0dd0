# `make demo` and `make test` each do everything on a fresh Debian or Ubuntu machine with Python 3.11 or later.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
TORCH := torch==2.13.0+cpu
TORCH_CPU_INDEX := https://download.pytorch.org/whl/cpu
SYSTEM_PACKAGES := python3 python3-venv python3-pip libgl1 libegl1 libgl1-mesa-dri libxkbcommon0 libdbus-1-3 libfontconfig1 chromium dicom3tools orthanc
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: demo test slow lint benchmark install system-packages clean
.DEFAULT_GOAL := demo

demo: install  ## analyse a synthetic recovering patient, write demo/report.html and show it in the browser
	$(BIN)/lungrecovery demo --output demo --overwrite --view

# On two cores two processes with more threads than one each would only wait for each other.
test: install lint  ## every test that takes less than minutes, and those on real scans where they are present
	OMP_NUM_THREADS=1 ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS=1 \
	$(BIN)/python -m pytest -n 2 --dist loadgroup --no-loadscope-reorder --max-worker-restart 0 -m "not slow"

slow: install  ## the tests that take minutes
	$(BIN)/python -m pytest -m slow

lint: install
	$(BIN)/ruff check LungRecovery LungRecoveryTraining Testing
	$(BIN)/ruff format --check LungRecovery LungRecoveryTraining Testing

benchmark: install  ## this project beside Greedy, elastix, ConvexAdam and demons on the same pairs
	$(PIP) --constraint constraints.txt --editable ".[cli,peers]"
	$(BIN)/python Testing/benchmarks/peers.py --pairs phantom real --seeds 101 --output build/benchmark --threads 2

install: $(VENV)/installed

# The CPU build of torch alone: the plain package would bring gigabytes of CUDA. It is taken from where pip is set up
# to look, else from PyTorch's own index of CPU builds.
$(VENV)/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "Python 3.11 or later with venv is needed: sudo apt-get install $(SYSTEM_PACKAGES)"; exit 3; }
	$(PYTHON) -m venv $(VENV)
	$(PIP) --constraint constraints.txt "$(TORCH)" 2>/dev/null || \
	  $(PIP) --constraint constraints.txt --extra-index-url $(TORCH_CPU_INDEX) "$(TORCH)"
	$(PIP) --constraint constraints.txt --editable ".[cli,dicom,cohort,radiomics,train,viewer,test]"
	@touch $@

system-packages:  ## what apt has to install
	@echo $(SYSTEM_PACKAGES)

clean:
	rm -rf $(VENV) build dist demo runs
