# The doors. `make` alone lists them. Everything runs in .venv, made with venv and pip alone.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/installed
PYTEST := $(BIN)/pytest
PYTEST_WORKERS ?= 2
INTEGRATION_WORKERS ?= 3
BENCH_JSON ?=

.PHONY: help
help: ## list these targets
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{printf "  %-18s %s\n", $$1, $$2}'

$(STAMP): requirements/dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "epp needs Python 3.11 or newer; try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -c 'import ensurepip' || \
	  { echo "this Python has no ensurepip: install its venv package (Debian: python3-venv)"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

.PHONY: install
install: $(STAMP) ## make .venv with everything the other targets need

.PHONY: demo
demo: install ## real Envoy, the picker and three vLLM simulators on loopback; ends by itself
	$(BIN)/python -m epp demo

.PHONY: up
up: install ## the same, left running, with curl lines to try; Ctrl-C ends it
	$(BIN)/python -m epp demo --keep

.PHONY: test
test: test-unit test-integration ## unit and integration tests, with real Envoy

.PHONY: test-unit
test-unit: install ## pure tests, in seconds
	$(PYTEST) test/unit -n $(PYTEST_WORKERS) -q

.PHONY: test-integration
test-integration: install ## real gRPC, real Envoy, simulators, one machine
	$(call among-processes,not slow)

.PHONY: test-slow
test-slow: install ## what waits for leases, floods and models that learn
	$(call among-processes,slow)

# Many of them wait for something: three workers keep two cores busy.
define among-processes
$(PYTEST) test/integration -m "$(1)" -n $(INTEGRATION_WORKERS) --dist loadscope -q || \
	  { echo "== second try, alone: what fails again has failed"; \
	    $(PYTEST) test/integration -m "$(1)" --last-failed --last-failed-no-failures none -q; }
endef

.PHONY: conformance
conformance: install ## h2spec, h2load, nghttp, grpc-go, grpcio, a fuzz run, a soak; Envoy 1.36 to 1.39
	$(BIN)/python test/conformance/run.py --frames 200000
	$(BIN)/python test/conformance/envoys.py test/integration/test_gateway_apis.py -n $(PYTEST_WORKERS) --dist loadscope \
	  -k "buffered-watch or duplex-full-override"

E2E_MANIFEST_PATH ?= config/manifests/vllm/sim-deployment.yaml
E2E_IMAGE ?= localhost/epp:dev
E2E_USE_KIND ?=
E2E_LEADER_ELECTION_ENABLED ?=

.PHONY: test-e2e
test-e2e: install ## against a real API server: kind, or a control plane of our own (docs/e2e.md)
	$(E2E) -v || { echo "== second try, alone: what fails again has failed"; \
	  $(E2E) -v --last-failed --last-failed-no-failures none; }

E2E = MANIFEST_PATH=$(or $(MANIFEST_PATH),$(CURDIR)/$(E2E_MANIFEST_PATH)) E2E_IMAGE=$(E2E_IMAGE) \
  E2E_USE_KIND=$(E2E_USE_KIND) E2E_LEADER_ELECTION_ENABLED=$(E2E_LEADER_ELECTION_ENABLED) \
  $(BIN)/python test/e2e/run.py test/e2e

.PHONY: control-plane
control-plane: install ## compile that control plane, once; ten minutes of two cores
	$(BIN)/python test/support/control_plane_binary.py

# Neither of these two has been run: the machine this was written on has no container engine.
.PHONY: image
image: ## the picker's image, E2E_IMAGE; needs Docker
	docker build --target epp -t $(E2E_IMAGE) --build-arg COMMIT_SHA=$$(git rev-parse HEAD) --build-arg BUILD_REF=$$(git describe --always --dirty) .

.PHONY: image-kind
image-kind: image ## the same, loaded into a kind cluster; needs Docker and kind
	kind load docker-image $(E2E_IMAGE) --name $(or $(KIND_CLUSTER),inference-e2e)

.PHONY: lint
lint: install ## style, import contracts, duplicated names, generated files
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

.PHONY: fmt
fmt: install ## format and fix what can be fixed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: types
types: install ## mypy, strict
	$(BIN)/mypy

.PHONY: generate
generate: install ## compile protos, write generated documents
	$(BIN)/python proto/generate.py
	$(BIN)/python -m epp.plugins.document
	$(BIN)/python config/crd/generate.py

.PHONY: check-generated
check-generated: install ## fail if a generated file is stale
	$(BIN)/python proto/generate.py --check
	$(BIN)/python -m epp.plugins.document --check
	$(BIN)/python config/crd/generate.py --check

.PHONY: bench
bench: install ## what a request costs, in one run; BENCH_JSON=file keeps the figures
	$(BIN)/python test/bench/run.py $(if $(BENCH_JSON),--json $(BENCH_JSON))

.PHONY: check-sim
check-sim: install ## the simulator beside real vLLM on the CPU, and the picker before it; VLLM_PYTHON=its Python (docs/simulator.md)
	$(BIN)/python test/check_sim/run.py --vllm-python $(or $(VLLM_PYTHON),$(error give VLLM_PYTHON, the Python of an environment that has vLLM)) $(if $(VLLM_RECORDING),--keep $(VLLM_RECORDING))
	$(BIN)/python test/check_sim/picking.py --vllm-python $(VLLM_PYTHON)

.PHONY: lock
lock: ## resolve newer versions into requirements/ (needs uv)
	uv pip compile --universal --python-version 3.11 --upgrade --no-header --no-emit-index-url --no-emit-find-links --no-annotate --generate-hashes -q pyproject.toml -o requirements/runtime.txt
	uv pip compile --universal --python-version 3.11 --upgrade --no-header --no-emit-index-url --no-emit-find-links --no-annotate --generate-hashes -q pyproject.toml --group dev -c requirements/runtime.txt -o requirements/dev.txt

.PHONY: clean
clean: ## remove caches and the environment
	rm -rf .venv .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build *.egg-info
