# The only vocabulary of this project: CI and people call these targets. `make help` lists them.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules --warn-undefined-variables

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
INSTALL := $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt
STUBS := protos/gen/python
PROTO := samplerd/v1/sampler.proto samplerd/oip/grpc_service.proto
CODE := server client/python client/conformance tests benchmarks examples docs scripts
CLIENTS := $(filter-out python,$(patsubst client/%/Makefile,%,$(wildcard client/*/Makefile)))

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z][a-z-]*:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# What running and the examples need; the kernels are compiled here, so that no server start waits for it.
$(VENV)/.server: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) --editable '.[server,examples]'
	$(BIN)/python -m samplerd_server.precompile
	touch $@

# What tests, checks and benchmarks need on top.
$(VENV)/.dev: $(VENV)/.server
	$(INSTALL) --editable '.[server,examples,bench,dev]'
	touch $@

# Debian's packages that tests and benchmarks start: a load generator, and what makes a test's certificate.
.PHONY: tools
tools:
	@for tool in h2load:nghttp2-client openssl:openssl curl:curl; do \
		command -v "$${tool%%:*}" >/dev/null || [ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null \
			|| { apt-get update -qq && apt-get install -y -qq "$${tool##*:}"; }; \
	done

# Triton's load generator, which runs with the libraries of another Debian release: where there is no apt, its test skips.
PERF_ANALYZER := build/perf_analyzer/installed
$(PERF_ANALYZER): benchmarks/perf_analyzer.py scripts/unpack-debian | $(VENV)/.dev
	! command -v apt-get >/dev/null || $(BIN)/python -m benchmarks.perf_analyzer

.PHONY: setup
setup: $(VENV)/.dev ## Install everything into .venv

.PHONY: demo
demo: $(VENV)/.server ## Start a server, generate texts, draw words, show throughput and metrics, stop
	$(BIN)/python -m examples.demo $(ARGS)

.PHONY: run
run: $(VENV)/.server ## Serve on 127.0.0.1:50051, metrics on 127.0.0.1:9464 (ARGS="--listen ... ")
	$(BIN)/samplerd $(ARGS)

.PHONY: test
test: $(VENV)/.dev tools $(PERF_ANALYZER) ## Run the tests (ARGS="-k name")
	$(BIN)/python -m pytest $(ARGS)

# Nothing is installed, downloaded or served: what a contributor runs after each edit.
.PHONY: unit
unit: $(VENV)/.dev ## Run the tests that need no server, in under a minute (ARGS="-k name")
	$(BIN)/python -m pytest tests/unit tests/repo -m 'not slow' --numprocesses 2 $(ARGS)

.PHONY: test-gpu
test-gpu: ## Run the tests that need a CUDA device, with the python of the environment in PYTHON
	$(PYTHON) -m pytest --gpu tests/gpu $(ARGS)

# Outside make test: gigabytes are installed, and llama.cpp is compiled.
.PHONY: test-peers
test-peers: $(VENV)/.dev ## Hold the reference against other samplers, each installed under build/peers (ARGS="-k vllm")
	$(BIN)/python -m tests.peers.environments
	$(BIN)/python -m pytest --peer tests/peers $(ARGS)

# Outside make test: what others publish is downloaded, in the versions that tests/stock_clients/environments.py pins.
.PHONY: test-stock-clients
test-stock-clients: $(VENV)/.dev tools ## Run the clients that others publish, unchanged, each installed under build/stock-clients
	$(BIN)/python -m tests.stock_clients.environments
	$(BIN)/python -m pytest --stock tests/stock_clients $(ARGS)

# The lowest and the highest versions of what the client and the server need, and the client beside tritonclient and kserve.
.PHONY: test-ranges
test-ranges: $(VENV)/.dev tools ## Test both ends of the ranges of dependencies, installed under build/ranges
	$(BIN)/python -m tests.ranges.environments
	$(BIN)/python -m pytest --ranges tests/ranges -rA $(ARGS)

.PHONY: lint
lint: $(VENV)/.dev ## Check style, types and the contract
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/mypy server client/python client/conformance examples benchmarks scripts
	cd protos && ../$(BIN)/buf lint

.PHONY: format
format: $(VENV)/.dev ## Format the code
	$(BIN)/ruff check --fix --exit-zero $(CODE)
	$(BIN)/ruff format $(CODE)
	cd protos && ../$(BIN)/buf format --write --path samplerd

# Stubs run with the protobuf and the grpcio that wrote them and with later ones, so an old compiler writes them, in an
# environment of its own; the floors in pyproject.toml are its versions. What they say to type checkers is of today.
PROTOC := build/protoc
$(PROTOC)/.installed: Makefile
	rm -rf $(PROTOC) && $(PYTHON) -m venv $(PROTOC)
	$(PROTOC)/bin/pip install --quiet --disable-pip-version-check \
		grpcio-tools==1.72.1 grpcio==1.72.1 protobuf==6.30.0 setuptools==80.9.0
	touch $@

define GENERATE
$(PROTOC)/bin/python -m grpc_tools.protoc -Iprotos -Iprotos/third_party \
	--plugin=protoc-gen-mypy=$(BIN)/protoc-gen-mypy --plugin=protoc-gen-mypy_grpc=$(BIN)/protoc-gen-mypy_grpc \
	--python_out=$(1) --grpc_python_out=$(1) --mypy_out=quiet:$(1) --mypy_grpc_out=quiet:$(1) $(PROTO); \
$(PROTOC)/bin/python -m grpc_tools.protoc -Iprotos/third_party --descriptor_set_out=$(1)/oip.binpb samplerd/oip/grpc_service.proto; \
$(BIN)/python -m scripts.private_stubs $(1)/oip.binpb $(1)/samplerd/oip/grpc_service_pb2.py; \
rm $(1)/oip.binpb
endef

.PHONY: proto
proto: $(VENV)/.dev $(PROTOC)/.installed ## Generate the Python stubs
	$(call GENERATE,$(STUBS))

.PHONY: check-proto
check-proto: $(VENV)/.dev $(PROTOC)/.installed ## Prove that the committed stubs are those of the proto
	fresh=$$(mktemp -d); trap 'rm -rf "$$fresh"' EXIT; \
	$(call GENERATE,$$fresh); \
	for stub in "$$fresh"/samplerd/*/*; do \
		diff -u "$(STUBS)$${stub#"$$fresh"}" "$$stub" || { echo "stale: run make proto"; exit 1; }; \
	done; echo "stubs are fresh"

.PHONY: generate
generate: proto ## Write every generated file: the stubs, pages of docs, what the table of parameters gives
	$(BIN)/python -m scripts.generate

.PHONY: check-generated
check-generated: check-proto ## Prove that every generated file is fresh
	$(BIN)/python -m scripts.generate --check

# The site is built by tools that have no place in .venv.
SITE := build/docs
$(SITE)/.installed: scripts/site-requirements.txt
	rm -rf $(SITE) && $(PYTHON) -m venv $(SITE)
	$(SITE)/bin/pip install --quiet --disable-pip-version-check --requirement scripts/site-requirements.txt
	touch $@

.PHONY: docs
docs: $(SITE)/.installed ## Build the documentation site into build/site
	$(PYTHON) -m scripts.site
	NO_MKDOCS_2_WARNING=1 $(SITE)/bin/mkdocs build --strict --quiet
	@echo "open build/site/index.html"

.PHONY: check-docs
check-docs: docs ## Prove that the site is whole: every link leads somewhere, nothing comes from another host
	$(PYTHON) -m scripts.site --check

# The contract as it was last released lies in protos/released.json; a checkout may have no tags to compare with.
.PHONY: check-breaking
check-breaking: $(VENV)/.dev ## Prove that the contract breaks no client of the last release
	cd protos && ../$(BIN)/buf breaking --path samplerd --against released.json
	tag=$$(git describe --tags --abbrev=0 2>/dev/null || true); [ -z "$$tag" ] \
		|| (cd protos && ../$(BIN)/buf breaking --path samplerd --against "../.git#tag=$$tag,subdir=protos")
	@echo "the contract breaks nobody"

.PHONY: release-contract
release-contract: $(VENV)/.dev check-breaking ## Take the contract as it is for released
	cd protos && ../$(BIN)/buf build --path samplerd --exclude-source-info --output released.json

# Each client's own Makefile installs its toolchain, builds, and runs its unit tests.
.PHONY: clients
clients: $(VENV)/.dev tools ## Build the clients of all languages, with their toolchains
	for client in $(CLIENTS); do $(MAKE) --no-print-directory -C client/$$client tools build test; done

.PHONY: test-clients
test-clients: clients ## Hold every client against live servers, over both transports (ARGS="go rust")
	$(BIN)/python -m client.conformance.run $(ARGS)

.PHONY: check-packages
check-packages: clients ## Build what would be published of each client, and use it from an empty project
	for client in $(CLIENTS); do $(MAKE) --no-print-directory -C client/$$client package; done
	$(BIN)/python -m pytest --package tests/packages $(ARGS)

.PHONY: release
release: check-packages ## Build what would be published into dist/, check it, and say what it is made of
	$(BIN)/python -m scripts.release

.PHONY: client-table
client-table: clients ## Write the table of client/README.md from such a run
	$(BIN)/python -m client.conformance.run --write

.PHONY: conformance-vectors
conformance-vectors: $(VENV)/.dev ## Work the conformance vectors out again
	$(BIN)/python -m client.conformance.generate

.PHONY: check-conformance
check-conformance: $(VENV)/.dev ## Prove that the conformance vectors are what the reference gives
	$(BIN)/python -m client.conformance.generate --check

.PHONY: check-wheel
check-wheel: $(VENV)/.dev $(PROTOC)/.installed ## Build the wheel and use it as a client's user would: no torch, no server
	rm -rf build/wheel && mkdir -p build/wheel
	$(BIN)/pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir build/wheel .
	$(PYTHON) -m venv build/wheel/venv
	build/wheel/venv/bin/pip install --quiet --disable-pip-version-check --constraint constraints.txt build/wheel/*.whl
	$(BIN)/python -m scripts.check_wheel build/wheel/venv $(PROTOC)/bin/python

.PHONY: bench
bench: $(VENV)/.dev tools ## Measure, show tables and targets, store them under benchmarks/results (ARGS="--quick served")
	$(BIN)/python -m benchmarks $(ARGS)

.PHONY: bench-peers
bench-peers: $(VENV)/.dev tools ## Measure beside other servers, each installed under build/peers (ARGS="--peer mosec")
	$(BIN)/python -m benchmarks peers $(ARGS)

.PHONY: clean
clean: ## Remove what the targets above made
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
