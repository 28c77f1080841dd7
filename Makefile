# Every target works on a machine with Python >= 3.11, pip, make and git; what else it needs, it fetches.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
BIN := .venv/bin
UV := .tools/bin/uv
UV_VERSION := 0.13.8
# The services are listed once, and in their own file.
SERVICES := $(shell sed -n 's/^\[\([a-z][a-z0-9]*\)\]$$/\1/p' deploy/services.toml)
MEMBERS := shared $(SERVICES) gateway deploy/local deploy/release
PACKAGES := opskit servicekit $(addsuffix _service,$(SERVICES)) gateway_config local_platform release_tool
MANIFESTS := $(addsuffix /pyproject.toml,$(MEMBERS))

# The interpreter is the machine's own; uv neither fetches one nor reads a .python-version.
export UV_PYTHON_DOWNLOADS := never
# Imports dominate the start of a service, so bytecode is written at installation.
export UV_COMPILE_BYTECODE := 1

GATEWAY_PORT ?= 8080
DATA_DIR ?= .data
REPLICAS ?= 1
MONGO_NODES ?= 1
# Settings that `make run NAME=value` hands to the platform.
export MAX_UPLOAD_BYTES GATEWAY_RATE_GENERAL GATEWAY_RATE_AUTH GATEWAY_RATE_UPLOAD USER_RATE SERVICE_CIPHER LOG_LEVEL
# How many requests `make test` generates for each route and visitor.
export CASES

# Production hosts need Python and docker, and no environment. `exec`, so that it is the tool that hears of a signal.
RELEASE_TOOL = exec env PYTHONPATH=deploy/release:shared $(if $(PROFILES),COMPOSE_PROFILES="$(PROFILES)") $(PYTHON) -m release_tool
# What works on production and on make run needs the environment for the latter only.
LOCAL = $(if $(PROD),,.venv/.complete)

.PHONY: help
help: ## Show this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-zA-Z_-]+:.*## / {printf "  \033[36m%-15s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(UV):
	@echo "fetching uv $(UV_VERSION)"
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed; set PYTHON=/path/to/python3.11")'
	@$(PYTHON) -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --target .tools uv==$(UV_VERSION)

# The stamp is younger than everything that decides the environment's content.
.venv/.complete: requirements.lock $(MANIFESTS) | $(UV)
	@echo "building the environment (once; about a minute)"
	@$(UV) venv --quiet --allow-existing --python "$$($(PYTHON) -c 'import sys; print(sys.executable)')" .venv
	@$(UV) pip sync --quiet --require-hashes requirements.lock
	@$(UV) pip install --quiet --no-deps --no-build-isolation $(addprefix -e ,$(MEMBERS))
	@touch $@

.PHONY: install
install: .venv/.complete ## Build the environment (the other targets do it when it is needed)

.PHONY: run
run: .venv/.complete ## Start the platform: GATEWAY_PORT, DATA_DIR, REPLICAS, MONGO_NODES and the README's settings
	@exec $(BIN)/python -m local_platform --gateway-port "$(GATEWAY_PORT)" --data-dir "$(DATA_DIR)" --replicas "$(REPLICAS)" --mongo-nodes "$(MONGO_NODES)"

.PHONY: demo
demo: .venv/.complete ## Take a tour through the running platform: DATA_DIR as given to make run
	@$(BIN)/python -m local_platform.demo --data-dir "$(DATA_DIR)"

.PHONY: up
up: ## Start the platform for development in containers: code is reloaded on edit; PROFILES=observability adds Jaeger and Prometheus
	@$(RELEASE_TOOL) up --environment development

.PHONY: down
down: ## Stop what make up started; VOLUMES=1 removes its data, too
	@$(RELEASE_TOOL) down --environment development $(if $(VOLUMES),--volumes)

.PHONY: logs
logs: ## Follow the logs of make up, of one service with SERVICE=…; of production with PROD=1
	@$(RELEASE_TOOL) logs $(if $(PROD),,--environment development) $(SERVICE)

.PHONY: prod
prod: ## Start the platform for production in containers, from nothing or as it is: docs/operations.md
	@$(RELEASE_TOOL) up

.PHONY: prod-down
prod-down: ## Stop what make prod started; VOLUMES=1 removes its data, too
	@$(RELEASE_TOOL) down $(if $(VOLUMES),--volumes)

.PHONY: release
release: ## Bring a new version of a service into service, step by step: SERVICE=… [TAG=…] [STEPS="5 25 50 100"] [STEP_SECONDS=10]
	@test -n "$(SERVICE)" || { echo "say which: make release SERVICE=notes" >&2; exit 2; }
	@$(RELEASE_TOOL) release "$(SERVICE)" $(if $(TAG),--tag "$(TAG)") $(if $(STEPS),--steps "$(STEPS)") $(if $(STEP_SECONDS),--step-seconds "$(STEP_SECONDS)")

.PHONY: rollback
rollback: ## Undo an unfinished release: SERVICE=…
	@test -n "$(SERVICE)" || { echo "say which: make rollback SERVICE=notes" >&2; exit 2; }
	@$(RELEASE_TOOL) rollback "$(SERVICE)"

.PHONY: restart
restart: ## Replace the replicas in production one after the other, with changed settings: all, or SERVICE=…
	@$(RELEASE_TOOL) restart $(SERVICE)

.PHONY: test
test: .venv/.complete ## Run every test, or one member's with SERVICE=notes; ARGS="-k name" selects, CASES=100 sends more generated requests
	@unknown="$(filter-out $(MEMBERS),$(SERVICE))"; test -z "$$unknown" || { echo "error: no member is named $$unknown; SERVICE is one of: $(MEMBERS)" >&2; exit 2; }
	@$(BIN)/python -m pytest $(addsuffix /tests,$(SERVICE)) $(ARGS)

.PHONY: test-unit
test-unit: .venv/.complete ## Run the tests that start no server, in under 30 s; ARGS="-k name" selects
	@$(BIN)/python -m pytest -m "not servers" $(ARGS)

.PHONY: test-cov
test-cov: .venv/.complete ## Run every test and report which lines none of them reached
	@$(BIN)/python -m pytest --cov --cov-report=term-missing:skip-covered --cov-report=html $(ARGS)

.PHONY: bench
bench: .venv/.complete ## Run the benchmarks of load/ one after the other; ONLY=sealing runs one
	@for script in load/bench_$(or $(ONLY),*).py; do echo "== $$script"; $(BIN)/python "$$script"; done

.PHONY: evidence
evidence: .venv/.complete ## Count lost requests on a running make prod while parts of it are killed, released, restarted: ONLY="scale kill"
	@$(BIN)/python load/evidence.py $(ONLY) $(ARGS)

.PHONY: check
check: .venv/.complete ## Lint, types, import directions, security lint
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy $(addprefix -p ,$(PACKAGES))
	@$(BIN)/lint-imports
	@$(BIN)/bandit --quiet --recursive --configfile pyproject.toml $(MEMBERS)

.PHONY: fmt
fmt: .venv/.complete ## Format the code and mend what the linter can mend
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format .

.PHONY: lock
lock: | $(UV) ## Resolve the dependencies anew into requirements.lock
	@$(UV) pip compile --quiet --universal --generate-hashes --python-version 3.11 --no-header --no-annotate --upgrade \
		--group build --group dev --all-extras --no-emit-package servicekit --output-file requirements.lock $(MANIFESTS)

.PHONY: admin
admin: $(LOCAL) ## Give an account the role admin: USERNAME=…, on production PROD=1
	@test -n "$(USERNAME)" || { echo "say whom: make admin USERNAME=name" >&2; exit 2; }
	@$(if $(PROD),$(RELEASE_TOOL) admin "$(USERNAME)",$(BIN)/python -m local_platform.cli.admin --data-dir "$(DATA_DIR)" "$(USERNAME)")

.PHONY: keys
keys: .venv/.complete ## Write the service keys that are missing: DATA_DIR, or any directory as KEYS_DIR=…
	@$(BIN)/python -m local_platform.cli.keys $(if $(KEYS_DIR),--keys-dir "$(KEYS_DIR)",--data-dir "$(DATA_DIR)")

.PHONY: rotate-keys
rotate-keys: $(LOCAL) ## Replace the service keys of a running platform (about 40 s): PAIR=analytics--user for one pair, PROD=1
	@$(if $(PROD),$(RELEASE_TOOL) rotate-keys,$(BIN)/python -m local_platform.cli.rotate_keys --data-dir "$(DATA_DIR)") $(if $(PAIR),--pair "$(PAIR)")

.PHONY: rotate-jwt-key
rotate-jwt-key: $(LOCAL) ## Replace the key that signs access tokens on a running platform (about 20 s), PROD=1
	@$(if $(PROD),$(RELEASE_TOOL) rotate-jwt-key,$(BIN)/python -m local_platform.cli.rotate_jwt_key --data-dir "$(DATA_DIR)")

.PHONY: migration
migration: .venv/.complete ## Write a migration for a PostgreSQL service: SERVICE=user MESSAGE="add a column"
	@test -n "$(SERVICE)" -a -n "$(MESSAGE)" || { echo 'say which: make migration SERVICE=user MESSAGE="add a column"' >&2; exit 2; }
	@$(BIN)/python -m local_platform.cli.migration "$(SERVICE)" "$(MESSAGE)"

.PHONY: new-service
new-service: .venv/.complete ## Write a small working service with its tests: NAME=billing STORE=postgres|mongo
	@test -n "$(NAME)" -a -n "$(STORE)" || { echo 'say which: make new-service NAME=billing STORE=postgres' >&2; exit 2; }
	@$(BIN)/python -m local_platform.new_service "$(NAME)" "$(STORE)"

.PHONY: clean
clean: ## Remove the environment, caches and reports; the data of `make run` stays
	@rm -rf .venv .tools .mypy_cache .pytest_cache .ruff_cache .import_linter_cache htmlcov .coverage
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
