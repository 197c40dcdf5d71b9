# make demo: the main job on the embedded suite. make test: the one check. Each makes .venv when there is none.
PYTHON ?= python3
BIN := .venv/bin
# Spinning OpenMP workers cost up to 10x on a shared host.
export OMP_WAIT_POLICY := passive

.PHONY: demo test format clean

demo: .venv/installed
	$(BIN)/rbft evaluate --method wiseft

test: .venv/installed
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/python -m pytest -q
	$(BIN)/rbft leaderboard --check

format: .venv/installed
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "rbft needs Python 3.11 or later: make PYTHON=python3.12 ...")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

clean:
	rm -rf .venv runs build *.egg-info
