# Needs Python >= 3.11, pip, make and git; the targets install everything else.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

# `make call PATH=…` names a path of a service. Commands are found by the PATH that make itself was started with.
ifeq ($(origin PATH),command line)
CALL_PATH := $(value PATH)
override PATH := $(shell while IFS= read -r -d '' item; do if [[ $$item == PATH=* ]]; then echo "$${item:5}"; fi; done < /proc/$$PPID/environ)
export PATH CALL_PATH
endif

# A variable on the command line is text: make must not expand it. Recipes read it from the environment, as "$$NAME",
# so that the shell does not expand it either.
literal = $(eval override $(1) := $$(value $(1)))$(eval export $(1))
$(foreach name,$(.VARIABLES),$(if $(filter command,$(firstword $(origin $(name)))),$(call literal,$(name))))

# Python, pip, uv and bash obey these, and the values of other projects would lead them astray. What says where packages
# come from stays.
SOURCES := PIP_INDEX_URL PIP_EXTRA_INDEX_URL PIP_FIND_LINKS PIP_NO_INDEX PIP_TRUSTED_HOST PIP_PROXY PIP_CERT PIP_CLIENT_CERT \
	PIP_TIMEOUT PIP_DEFAULT_TIMEOUT PIP_RETRIES PIP_CONFIG_FILE PIP_CACHE_DIR PIP_NO_CACHE_DIR PIP_KEYRING_PROVIDER \
	UV_INDEX% UV_DEFAULT_INDEX UV_EXTRA_INDEX_URL UV_FIND_LINKS UV_NO_INDEX UV_INSECURE_HOST UV_NATIVE_TLS UV_SYSTEM_CERTS \
	UV_HTTP_% UV_CONCURRENT_% UV_OFFLINE UV_CONFIG_FILE UV_CACHE_DIR UV_NO_CACHE UV_LINK_MODE UV_KEYRING_PROVIDER
STRAY := PIP_% UV_% PYTHON% VIRTUAL_ENV CONDA_PREFIX BASH_ENV ENV
unexport $(filter-out PYTHON $(SOURCES),$(filter $(STRAY),$(.VARIABLES)))

export PYTHON ?= python3
BIN := .venv/bin
UV := .tools/bin/uv
EXAMPLE := examples/web
# What Vite needs.
NEW_ENOUGH := const [major, minor] = process.versions.node.split(".").map(Number); process.exit(major > 22 || (major === 22 && minor >= 12) || (major === 20 && minor >= 19) ? 0 : 1)
UV_VERSION := 0.13.8
K6_VERSION := v1.8.1
HELM_VERSION := v4.3.1
OASDIFF_VERSION := v1.37.0
PROMETHEUS_VERSION := v0.316.0
# The last whose module has its page built.
ALERTMANAGER_VERSION := v0.31.1
OTELCOL_VERSION := v0.140.0
# Of the release v2.10.0: its module goes on with the old numbers.
JAEGER_VERSION := v1.73.0
# The Go that came with the generators of clients.
GO_TOOLS = PATH="$(CURDIR)/.tools/clients/bin:$$PATH" GOTOOLCHAIN=local GOBIN="$(CURDIR)/.tools/bin"
SERVICES := $(shell sed -n 's/^\[\([a-z][a-z0-9]*\)\]$$/\1/p' deploy/services.toml)
MEMBERS := shared $(SERVICES) gateway deploy/local deploy/release
PACKAGES := opskit servicekit baseplate_client $(addsuffix _service,$(SERVICES)) gateway_config local_platform release_tool
MANIFESTS := $(addsuffix /pyproject.toml,$(MEMBERS))

# Use the machine's own interpreter: uv downloads none and ignores .python-version.
export UV_PYTHON_DOWNLOADS := never
# Node.js has its own list of certificate authorities. Add those that this machine trusts.
export NODE_EXTRA_CA_CERTS ?= $(wildcard /etc/ssl/certs/ca-certificates.crt)
# Compile at installation, because imports dominate the start of a service.
export UV_COMPILE_BYTECODE := 1

# How many processes run the tests, each with its own servers. conftest.py says which tests stay together.
export JOBS ?= 3
SIDE_BY_SIDE = $(if $(filter-out 1,$(JOBS)),--numprocesses "$$JOBS" --no-loadscope-reorder)
# Whether a switch such as VOLUMES is on.
on = $(filter-out 0 no off false,$($(1)))

# `exec`, so that the tool itself receives signals. A production host needs Python and docker, but no environment.
RELEASE_TOOL = exec env PYTHONPATH=deploy/release:shared $${PROFILES:+COMPOSE_PROFILES="$$PROFILES"} "$$PYTHON" -m release_tool
LOCAL_TOOL = exec $(BIN)/python -m local_platform
# Some commands work on `make run`, and with PROD=1 on production; all tools have them by the same names.
# With CLUSTER=1 they work on the cluster that KUBECONFIG names.
FAR = $(or $(call on,PROD),$(call on,CLUSTER))
TOOL = $(if $(FAR),$(RELEASE_TOOL),$(LOCAL_TOOL))
TOOL_NEEDS = $(if $(FAR),,.venv/.complete)
# Comes after the command's name.
WHERE = $(if $(call on,CLUSTER),--environment cluster)

##@ Help
.PHONY: help
help: ## Show this list
	@awk 'BEGIN {FS = ":.*## "} /^##@ / {printf "\n%s\n", substr($$0, 5)} /^[a-zA-Z_-]+:.*## / {printf "  \033[36m%-16s\033[0m %s\n", $$1, $$2}' Makefile

$(UV):
	@echo "fetching uv $(UV_VERSION)"
	@"$$PYTHON" -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed; set PYTHON=/path/to/python3.11")'
	@PIP_REQUIRE_VIRTUALENV=0 "$$PYTHON" -m pip install --quiet --disable-pip-version-check --root-user-action=ignore \
		--no-user --prefix= --root=/ --target .tools --upgrade uv==$(UV_VERSION)

# The environment holds absolute paths. One that was moved or copied, or whose interpreter is gone, is built anew.
STALE := $(shell test ! -e .venv/.complete || .venv/bin/python -Ic 'import os, local_platform as p; os.path.samefile(p.__file__, "deploy/local/local_platform/__init__.py") or exit(1)' 2>/dev/null || echo stale)
.PHONY: stale

# The stamp is newer than all files that decide what the environment contains.
.venv/.complete: requirements.lock $(MANIFESTS) $(STALE) | $(UV)
	@test -z "$(STALE)" || { echo "the environment was built elsewhere, or its interpreter is gone"; rm -rf .venv; }
	@echo "building the environment (once; about a minute)"
	@$(UV) venv --quiet --allow-existing --python "$$("$$PYTHON" -c 'import sys; print(sys.executable)')" .venv
	@$(UV) pip sync --quiet --python $(BIN)/python --require-hashes requirements.lock
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation $(addprefix -e ,$(MEMBERS))
	@touch $@

##@ On this machine, without Docker
.PHONY: install
install: .venv/.complete ## Build the environment; the other targets do so when they need it

.PHONY: run
run: .venv/.complete ## Start the platform: GATEWAY_PORT=8080 DATA_DIR=.data REPLICAS=1 MONGO_NODES=1 RELOAD=1 CONSOLE=off CORS_ALLOWED_ORIGINS=… STATIC_DIR=…, and other settings of the README
	@$(LOCAL_TOOL) run

.PHONY: demo
demo: .venv/.complete ## Take a tour of the running platform: DATA_DIR=… as for make run
	@$(LOCAL_TOOL) demo

##@ In containers, for development
.PHONY: up
up: ## Start the platform in containers for development, with reload on edit: PROFILES=observability adds Prometheus, Grafana and Jaeger
	@$(RELEASE_TOOL) up --environment development

.PHONY: down
down: ## Stop the containers of make up; VOLUMES=1 removes their data
	@$(RELEASE_TOOL) down --environment development $(if $(call on,VOLUMES),--volumes)

##@ A running platform
.PHONY: logs
logs: ## Follow the logs of make run or make up, whichever runs, with PROD=1 of make prod, with CLUSTER=1 of a cluster: all services, or SERVICE=…; of make run also one request: REQUEST=…
	@$(if $(FAR),,if test -e "$${DATA_DIR:-.data}/run.json"; then $(LOCAL_TOOL) logs $${REQUEST:+--request="$$REQUEST"} -- $${SERVICE:-}; fi; \
		type docker >/dev/null 2>&1 || { echo "error: nothing runs on DATA_DIR=$${DATA_DIR:-.data}; start the platform with: make run" >&2; exit 1; };) \
	$(RELEASE_TOOL) logs --environment $(if $(call on,CLUSTER),cluster,$(if $(call on,PROD),production,development)) -- $${SERVICE:-}

.PHONY: call
call: .venv/.complete ## Send one sealed call by hand and show both sides: FROM=analytics TO=user PATH=/api/v1/users/stats/count [METHOD=POST] [BODY='{…}']
	@test -n "$${FROM:-}" -a -n "$${TO:-}" -a -n "$${CALL_PATH:-}" || { echo "error: make call FROM=analytics TO=user PATH=/api/v1/users/stats/count" >&2; exit 2; }
	@$(LOCAL_TOOL) call $${METHOD:+--method="$$METHOD"} $${BODY:+--body="$$BODY"} -- "$$FROM" "$$TO" "$$CALL_PATH"

##@ Production on one host
.PHONY: prod
prod: ## Start the platform in containers for production, or apply changed settings: docs/operations.md
	@$(RELEASE_TOOL) up

.PHONY: prod-down
prod-down: ## Stop the containers of make prod; VOLUMES=1 removes their data
	@$(RELEASE_TOOL) down $(if $(call on,VOLUMES),--volumes)

.PHONY: release
release: ## Release a new version of a service step by step: SERVICE=… [TAG=…] [STEPS="5 25 50 100"] [STEP_SECONDS=10]
	@test -n "$${SERVICE:-}" || { echo "error: name the service: make release SERVICE=notes" >&2; exit 2; }
	@$(RELEASE_TOOL) release $${TAG:+--tag="$$TAG"} $${STEPS:+--steps="$$STEPS"} $${STEP_SECONDS:+--step-seconds="$$STEP_SECONDS"} -- "$$SERVICE"

.PHONY: rollback
rollback: ## Undo an unfinished release: SERVICE=…
	@test -n "$${SERVICE:-}" || { echo "error: name the service: make rollback SERVICE=notes" >&2; exit 2; }
	@$(RELEASE_TOOL) rollback -- "$$SERVICE"

.PHONY: restart
restart: ## Replace the replicas in production one by one, with changed settings: all, or SERVICE=…
	@$(RELEASE_TOOL) restart -- $${SERVICE:-}

##@ In a Kubernetes cluster: the one that KUBECONFIG names, in NAMESPACE=baseplate as RELEASE_NAME=baseplate (docs/cluster.md)
.PHONY: images
images: ## Build the images of all services and of the gateway: [TAG=…] [REGISTRY=… pushes them, too]
	@$(RELEASE_TOOL) images --environment cluster

.PHONY: cluster-up
cluster-up: ## Install or upgrade the platform: [VALUES=file] [TAG=…] [REGISTRY=…] [BUILD=0 builds no images]
	@$(RELEASE_TOOL) up --environment cluster

.PHONY: cluster-down
cluster-down: ## Uninstall the platform; VOLUMES=1 removes data and secrets
	@$(RELEASE_TOOL) down --environment cluster $(if $(call on,VOLUMES),--volumes)

.PHONY: cluster-release
cluster-release: ## Release a new version of a service step by step: SERVICE=… [TAG=… or REGISTRY=…] [STEPS="5 25 50 100"] [STEP_SECONDS=10]
	@test -n "$${SERVICE:-}" || { echo "error: name the service: make cluster-release SERVICE=notes TAG=…" >&2; exit 2; }
	@$(RELEASE_TOOL) release --environment cluster $${TAG:+--tag="$$TAG"} $${STEPS:+--steps="$$STEPS"} $${STEP_SECONDS:+--step-seconds="$$STEP_SECONDS"} -- "$$SERVICE"

.PHONY: cluster-rollback
cluster-rollback: ## Undo an unfinished release: SERVICE=…
	@test -n "$${SERVICE:-}" || { echo "error: name the service: make cluster-rollback SERVICE=notes" >&2; exit 2; }
	@$(RELEASE_TOOL) rollback --environment cluster -- "$$SERVICE"

.PHONY: cluster-restart
cluster-restart: ## Replace the replicas in the cluster one by one: all, or SERVICE=…
	@$(RELEASE_TOOL) restart --environment cluster -- $${SERVICE:-}

##@ The example frontend
.PHONY: example
example: $(EXAMPLE)/node_modules/.complete ## Build the example frontend into examples/web/dist, for STATIC_DIR or, with VITE_API_URL=…, for another origin
	@npm --prefix $(EXAMPLE) run --silent build

$(EXAMPLE)/node_modules/.complete console/node_modules/.complete: %/node_modules/.complete: %/package-lock.json
	@type node npm >/dev/null 2>&1 || { echo "error: Node.js and npm are not installed (Debian: apt-get install nodejs npm)" >&2; exit 1; }
	@node -e '$(NEW_ENOUGH)' || { echo "error: Node.js 20.19, 22.12 or newer is needed, this is $$(node --version): https://nodejs.org" >&2; exit 1; }
	@npm --prefix $* ci --no-audit --no-fund --silent
	@touch $@

##@ The console's page
.PHONY: console-vendor
console-vendor: console/node_modules/.complete ## Write the page's libraries anew, as console/package-lock.json pins them
	@npm --prefix console run --silent vendor

.PHONY: screenshots
screenshots: .venv/.complete console/node_modules/.complete ## Take the pictures of docs/console.md anew, from a running platform with demo data; about 2 minutes
	@node console/tests_browser/screenshots.js

##@ Tests, checks and figures
.PHONY: test
test: .venv/.complete ## Run all tests, or those of one member: SERVICE=notes; ARGS="-k name" selects, JOBS=1 runs one process, CASES=100 sends more generated requests
	@for member in $${SERVICE:-}; do case " $(MEMBERS) " in *" $$member "*) ;; *) echo "error: unknown member $$member; SERVICE is one of: $(MEMBERS)" >&2; exit 2; esac; done
	@members=($${SERVICE:-}); $(BIN)/python -m pytest $(SIDE_BY_SIDE) $${members[@]/%//tests} $(ARGS)

.PHONY: test-unit
test-unit: .venv/.complete ## Run the tests that start no server, within a minute; ARGS="-k name" selects
	@$(BIN)/python -m pytest $(SIDE_BY_SIDE) -m "not servers" $(ARGS)

.PHONY: test-web
test-web: .venv/.complete $(EXAMPLE)/node_modules/.complete console/node_modules/.complete ## Test the example frontend and the console in Chromium, on the real platform: ONLY=example or ONLY=console
	@for part in $${ONLY:-example console}; do case $$part in \
		example) npm --prefix $(EXAMPLE) test ;; \
		console) npm --prefix console run --silent check && npm --prefix console test ;; \
		*) echo "error: ONLY is one of: example console" >&2; exit 2 ;; esac; done

.PHONY: test-cov
test-cov: .venv/.complete ## Run all tests and report the lines that no test reaches
	@$(BIN)/python -m pytest --cov --cov-report=term-missing:skip-covered --cov-report=html $(ARGS)

.PHONY: bench
bench: .venv/.complete ## Run the benchmarks one by one, about 45 minutes: ONLY=routes,edge some, QUICK=1 short ones, ARGS=--strict; load/README.md
	@$(BIN)/python load/bench.py $(if $(call on,QUICK),--quick) $(ARGS) $${ONLY:+-- "$$ONLY"}

.PHONY: evidence
evidence: .venv/.complete ## Count lost requests on a running make prod while parts of it are killed, released, restarted: ONLY="scale kill"
	@$(BIN)/python load/evidence.py $${ONLY:-} $(ARGS)

.PHONY: load
load: .venv/.complete ## Put load on the platform and check objectives: ONLY=k6-notes,locust URL=… (a running platform without limits) ARGS="--rate 100"
	@$(BIN)/python load/run_load.py $${URL:+--url="$$URL"} $(ARGS) -- "$${ONLY:-}"

.PHONY: load-tools
load-tools: | $(UV) ## Install what make load runs: ONLY=locust, or ONLY=k6, which Go 1.25 or newer builds in some minutes
	@for tool in $$(tr , ' ' <<<"$${ONLY:-locust k6}"); do case $$tool in \
		locust) $(UV) venv --quiet --allow-existing --python "$$PYTHON" .tools/locust; \
			$(UV) pip sync --quiet --python .tools/locust/bin/python --require-hashes load/locust.lock ;; \
		k6) type go >/dev/null 2>&1 || { echo "error: k6 is built by Go 1.25 or newer, which is not in PATH: https://go.dev/dl" >&2; exit 1; }; \
			GOBIN="$$PWD/.tools/k6/bin" nice go install go.k6.io/k6@$(K6_VERSION) ;; \
		*) echo "error: unknown tool $$tool; ONLY is one of: locust k6" >&2; exit 2 ;; esac; done

.PHONY: report
report: .venv/.complete ## Draw the page of all figures, load/reports/index.html; PUBLISH=1 also writes docs/report/ and docs/evidence.md
	@$(BIN)/python load/build_report.py $(if $(call on,PUBLISH),--publish)

.PHONY: check
check: .venv/.complete ## Check format, lint, types, import directions and security
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy $(addprefix -p ,$(PACKAGES))
	@$(BIN)/lint-imports
	@$(BIN)/bandit --quiet --recursive --configfile pyproject.toml $(MEMBERS) clients/python

.PHONY: audit
audit: .venv/.complete ## Ask an advisory database about all locked packages, and check their licences; fails where none can be reached
	@$(BIN)/python deploy/audit.py

.PHONY: pin
pin: ## Pin base images by digest and GitHub actions by commit; needs docker, and their registries
	@"$$PYTHON" deploy/pin.py

.PHONY: fmt
fmt: .venv/.complete ## Format the code and apply the linter's fixes
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format .

.PHONY: lock
lock: | $(UV) ## Resolve all dependencies to their current releases, into requirements.lock
	@$(UV) pip compile --quiet --universal --generate-hashes --python-version 3.11 --no-header --no-annotate --upgrade \
		--group build --group dev --group report --all-extras --no-emit-package servicekit --output-file requirements.lock $(MANIFESTS)

.PHONY: helm
helm: .tools/bin/helm ## Build Helm, with which the chart is tested and installed, into .tools/bin; needs Go

.tools/bin/helm:
	@GOBIN="$$PWD/.tools/bin" nice go install helm.sh/helm/v4/cmd/helm@$(HELM_VERSION)

.PHONY: observability-tools
observability-tools: ## Build what tests alerts and traces, into .tools/bin: ONLY=promtool,prometheus,alertmanager,otelcol,jaeger some of it
	@for tool in $$(tr , ' ' <<<"$${ONLY:-promtool prometheus alertmanager otelcol jaeger}"); do $(MAKE) --no-print-directory ".tools/bin/$$tool"; done

# Prometheus without service discovery other than DNS, which saves much of the build.
.tools/bin/promtool .tools/bin/prometheus: | .tools/clients/.complete
	@echo "building $(@F) $(PROMETHEUS_VERSION) (once; some minutes)"
	@$(GO_TOOLS) nice go install -tags remove_all_sd,enable_dns_sd github.com/prometheus/prometheus/cmd/$(@F)@$(PROMETHEUS_VERSION)

.tools/bin/alertmanager: | .tools/clients/.complete
	@echo "building $(@F) $(ALERTMANAGER_VERSION) (once; some minutes)"
	@$(GO_TOOLS) nice go install github.com/prometheus/alertmanager/cmd/alertmanager@$(ALERTMANAGER_VERSION)

.tools/bin/otelcol: | .tools/clients/.complete
	@echo "building otelcol $(OTELCOL_VERSION) (once; some minutes)"
	@$(GO_TOOLS) nice go run go.opentelemetry.io/collector/cmd/builder@$(OTELCOL_VERSION) --config deploy/observability/otelcol.yml
	@mv .tools/otelcol/otelcol $@

# A module with replacements can only be built from its own folder. Its page, which is not in it, is left out.
.tools/bin/jaeger: | .tools/clients/.complete
	@echo "building jaeger $(JAEGER_VERSION) (once; a quarter of an hour)"
	@folder="$$($(GO_TOOLS) go mod download -json github.com/jaegertracing/jaeger@$(JAEGER_VERSION) | sed -n 's/.*"Dir": "\(.*\)".*/\1/p')"; \
		$(GO_TOOLS) nice go build -C "$$folder" -o "$(CURDIR)/$@" ./cmd/jaeger

.tools/clients/.complete: clients/tools.lock clients/typescript/package-lock.json | $(UV)
	@echo "installing the generators of clients, with their Node.js and Go"
	@$(UV) venv --quiet --allow-existing --python "$$PYTHON" .tools/clients
	@$(UV) pip sync --quiet --python .tools/clients/bin/python --require-hashes clients/tools.lock
	@cd clients/typescript && PATH="$(CURDIR)/.tools/clients/bin:$$PATH" npm ci --loglevel=error --no-audit --no-fund --ignore-scripts
	@touch $@

# Go's checksum database vouches for the module; GOTOOLCHAIN keeps go from downloading another one of itself.
.tools/oasdiff/bin/oasdiff: | .tools/clients/.complete
	@echo "building oasdiff $(OASDIFF_VERSION) (once; a minute or two)"
	@PATH="$(CURDIR)/.tools/clients/bin:$$PATH" GOTOOLCHAIN=local GOBIN="$(CURDIR)/.tools/oasdiff/bin" nice go install github.com/oasdiff/oasdiff@$(OASDIFF_VERSION)

##@ Clients and the contract
.PHONY: client-tools
client-tools: .tools/clients/.complete ## Install what makes and tests the clients: generators, Node.js and Go, from PyPI and npm

.PHONY: clients
clients: .venv/.complete .tools/clients/.complete ## Write the API's description and the code of clients/ from the services' routes
	@$(LOCAL_TOOL) describe clients/openapi.json
	@$(BIN)/python clients/generate.py

.PHONY: contract
contract: .venv/.complete .tools/oasdiff/bin/oasdiff ## Refuse changes of the API that break clients unless CHANGELOG declares them: AGAINST=revision (default: the last tag)
	@$(BIN)/python clients/contract.py $${AGAINST:+--against="$$AGAINST"}

##@ Accounts and keys
.PHONY: admin
admin: $(TOOL_NEEDS) ## Give an account the role admin: USERNAME=… [PROD=1 or CLUSTER=1]
	@test -n "$${USERNAME:-}" || { echo "error: name the account: make admin USERNAME=ada" >&2; exit 2; }
	@$(TOOL) admin $(WHERE) -- "$$USERNAME"

.PHONY: keys
keys: .venv/.complete ## Write the missing keys between services: in DATA_DIR, or in KEYS_DIR=…
	@$(LOCAL_TOOL) keys $${KEYS_DIR:+--keys-dir "$$KEYS_DIR"}

.PHONY: rotate-keys
rotate-keys: $(TOOL_NEEDS) ## Replace the keys between services while the platform runs (about 40 s): [PAIR=analytics--user] [PROD=1 or CLUSTER=1]
	@$(TOOL) rotate-keys $(WHERE) $${PAIR:+--pair="$$PAIR"}

.PHONY: rotate-jwt-key
rotate-jwt-key: $(TOOL_NEEDS) ## Replace the key that signs access tokens while the platform runs (about 20 s): [PROD=1 or CLUSTER=1]
	@$(TOOL) rotate-jwt-key $(WHERE)

##@ New code
.PHONY: migration
migration: .venv/.complete ## Write a migration for a PostgreSQL service: SERVICE=user MESSAGE="add a column"
	@test -n "$${SERVICE:-}" && test -n "$${MESSAGE:-}" || { echo 'error: name service and change: make migration SERVICE=user MESSAGE="add a column"' >&2; exit 2; }
	@$(LOCAL_TOOL) migration -- "$$SERVICE" "$$MESSAGE"

.PHONY: new-service
new-service: .venv/.complete ## Write a small working service with tests: NAME=billing STORE=postgres|mongo
	@test -n "$${NAME:-}" && test -n "$${STORE:-}" || { echo 'error: name service and store: make new-service NAME=billing STORE=postgres' >&2; exit 2; }
	@$(LOCAL_TOOL) new-service -- "$$NAME" "$$STORE"

.PHONY: remove-service
remove-service: .venv/.complete ## Remove a service and what else names it: NAME=notes; FORCE=1 goes on with uncommitted changes
	@test -n "$${NAME:-}" || { echo 'error: name the service: make remove-service NAME=notes' >&2; exit 2; }
	@$(LOCAL_TOOL) remove-service -- "$$NAME"

.PHONY: adopt
adopt: .venv/.complete | $(UV) ## Make this a platform of your own: NAME=acme [WITHOUT="notes analytics"] [TO=../acme] writes a copy; docs/adopt.md
	@test -n "$${NAME:-}" || { echo 'error: name the platform: make adopt NAME=acme' >&2; exit 2; }
	@$(BIN)/python deploy/adopt.py $${TO:+--to="$$TO"} $${WITHOUT:+--without="$$WITHOUT"} -- "$$NAME"

.PHONY: newcomer
newcomer: .venv/.complete | $(UV) ## Adopt a copy of the committed state, add a service, remove one, check and test: says how long each took
	@$(BIN)/python -m tests.newcomer

##@ Clean up
.PHONY: clean
clean: ## Remove the environment, caches and reports; the data of make run stays
	@rm -rf .venv .tools .mypy_cache .pytest_cache .ruff_cache .import_linter_cache htmlcov .coverage
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
