# `make run` starts the assistant on a machine that has Python 3.11 or newer and make, nothing else.
PORT ?= 8080
PYTHON ?= python3
WORKERS ?= 2

BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input
.DEFAULT_GOAL := help

.PHONY: help
help: ## Show what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: run
run: .venv/run.stamp ## Start the assistant on http://127.0.0.1:8080 (PORT= changes the port)
	@exec $(BIN)/slipstream serve --port $(PORT)

.PHONY: install
install: .venv/run.stamp ## Install into .venv what the product needs

.PHONY: test
test: .venv/dev.stamp ## Lint, types, contracts, and every fast test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest -n $(WORKERS) --dist loadfile -m "not long"

.PHONY: test-long
test-long: .venv/dev.stamp ## The full counts of crash, fault, fuzz and statistics tests
	$(BIN)/pytest -n $(WORKERS) --dist loadfile -m long --timeout 1200

.PHONY: lint
lint: .venv/dev.stamp ## Put code into shape, then check it
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/mypy
	$(BIN)/lint-imports

.PHONY: bench
bench: .venv/dev.stamp ## Run every benchmark but the gateway's; one file a claim, docs/benchmarks.md lists them
	@failed=; for file in $(filter-out bench/gateway%.py,$(wildcard bench/*.py)); do echo "== $$file"; \
		PYTHONPATH=tests $(BIN)/python "$$file" || failed="$$failed $$file"; \
	done; test -z "$$failed" || { echo "These did not run through:$$failed"; exit 1; }

.PHONY: bench-gateway
bench-gateway: .venv/dev.stamp ## What a gateway adds, beside its peers (6 minutes; needs wrk and nginx)
	$(BIN)/python bench/gateway.py

.PHONY: docs
docs: .venv/run.stamp ## Write docs/settings.md and docs/metrics.md from the code
	$(BIN)/python scripts/settings_page.py
	$(BIN)/python scripts/metrics_page.py

.PHONY: lock
lock: .venv/dev.stamp ## Write requirements.lock and requirements-dev.lock (UPGRADE=1: newest versions)
	$(BIN)/python scripts/lock.py $(if $(UPGRADE),--upgrade)

.PHONY: clean
clean: ## Remove .venv and what tools left behind
	rm -rf .venv build dist .mypy_cache .ruff_cache .import_linter_cache .hypothesis .pytest_cache
	find src tests bench -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/bin/pip:
	@$(PYTHON) scripts/python_is_fit.py
	@echo "Making .venv ..."
	@$(PYTHON) -m venv .venv

.venv/run.stamp: requirements.lock pyproject.toml | .venv/bin/pip
	@echo "Installing what is locked (about 200 MB once) ..."
	@$(PIP) install --quiet --no-deps --require-hashes -r requirements.lock
	@$(PIP) install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

.venv/dev.stamp: .venv/run.stamp requirements-dev.lock
	@echo "Installing what the tests need ..."
	@$(PIP) install --quiet --no-deps --require-hashes -r requirements-dev.lock
	@touch $@
