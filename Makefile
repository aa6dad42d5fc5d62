# `make demo` (ARGS='--lang en' for English mails) and `make test` set up what they need by themselves, once, in .venv.
PYTHON ?= python3
PACKAGING := setup.cfg setup.py pyproject.toml
PIP := .venv/bin/python -m pip install --quiet --disable-pip-version-check

.PHONY: demo test faults soak bench check clean

demo: .venv/demo.stamp
	.venv/bin/approval-mail demo $(ARGS)

test: .venv/test.stamp
	.venv/bin/pytest

# Every fault of docs/reliability.md, for real; SEED=... replays what was left to chance.
faults: .venv/test.stamp
	.venv/bin/pytest tests/faults --faults -n4 --dist=load $(if $(SEED),--seed=$(SEED))

# An hour of use, and its table in docs/reliability.md; SECONDS=300 is shorter and writes nothing.
soak: .venv/test.stamp
	.venv/bin/python -m tests.soak $(if $(SECONDS),--seconds $(SECONDS),--write)

# The table of docs/performance.md; ARGS='--quick' shows that it works, ARGS='--only tuning --write' makes the other table.
# celery-batches names an older Celery than the one that is measured, and works with it.
bench: .venv/test.stamp
	$(PIP) --no-deps 'celery-batches >= 0.11'
	.venv/bin/python -m bench $(or $(ARGS),--write)

check: .venv/dev.stamp
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy
	.venv/bin/lint-imports

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or later is needed: make PYTHON=...")'
	$(PYTHON) -m venv .venv

.venv/%.stamp: .venv/bin/python $(PACKAGING)
	@echo "Installing what '$*' needs into .venv ..."
	$(PIP) --editable '.[$*]'
	@touch $@

clean:
	rm -rf .venv build dist *.egg-info
