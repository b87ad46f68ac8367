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
# CI sets it to --again: if a test fails that may start processes or threads, it is run once more and listed.
AGAIN ?=
APT_GET := DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300 -o Acquire::Retries=5
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

# Debian's packages that tests and benchmarks start: a load generator, what makes a test's certificate, two shells, Prometheus.
.PHONY: tools
tools:
	@for tool in h2load:nghttp2-client openssl:openssl curl:curl zsh:zsh fish:fish \
		promtool:prometheus; do \
		command -v "$${tool%%:*}" >/dev/null || [ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null \
			|| { $(APT_GET) update && $(APT_GET) install -y --no-install-recommends "$${tool##*:}"; }; \
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

# Two processes: one for the tests that start servers, and one for all others (tests/conftest.py).
.PHONY: test
test: $(VENV)/.dev tools $(PERF_ANALYZER) ## Run the tests (ARGS="-k name")
	$(BIN)/python -m pytest --numprocesses 2 --dist loadgroup $(AGAIN) $(ARGS)

# Nothing is installed, downloaded or served: what a contributor runs after each edit.
.PHONY: unit
unit: $(VENV)/.dev ## Run the tests that need no server, in under a minute (ARGS="-k name")
	$(BIN)/python -m pytest tests/unit tests/repo -m 'not slow' --numprocesses 2 $(ARGS)

# Each target takes one seed after the other, always the same inputs of a seed; what is found says how to see it again.
# First, every compiled loop runs between guard pages, over many more widths than in make test.
.PHONY: fuzz
fuzz: $(VENV)/.dev ## Look for messages that are decoded or answered wrongly (ARGS="--minutes 5 --seed 1000")
	$(BIN)/python -X faulthandler -m tests.support.guarded_kernels --every
	$(BIN)/python -m tests.fuzz $(ARGS)

.PHONY: test-interpret
test-interpret: $(VENV)/.dev ## Run the kernels for a GPU in an interpreter, and compile them for every GPU, in some minutes
	$(BIN)/python -m pytest --interpret tests/unit/sampling/cuda tests/conformance/test_vectors.py $(ARGS)

.PHONY: gpu-bits
gpu-bits: $(VENV)/.dev ## Compare every bit of 10,000 random batches with the kernels for a GPU, in an interpreter, in an hour or two
	$(BIN)/python -m tests.support.gpu_proof $(ARGS)

.PHONY: test-gpu
test-gpu: ## Run the tests that need a CUDA device, with the python of the environment in PYTHON
	$(PYTHON) -m samplerd_server.precompile --cuda
	$(PYTHON) -m pytest --gpu tests/gpu $(ARGS)

.PHONY: bench-gpu
bench-gpu: ## Time kernels, copies and other samplers on a CUDA device, with the python of the environment in PYTHON
	$(PYTHON) -m samplerd_server.precompile --cuda
	$(PYTHON) -m benchmarks.gpu $(ARGS)

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
	$(BIN)/python -m pytest --ranges tests/ranges -rA $(AGAIN) $(ARGS)

# Two Ray nodes on this machine, with samplerds that are killed under load. Ray and what it needs are half a gigabyte.
.PHONY: test-ray
test-ray: $(VENV)/.dev ## Test samplerd-ray on two local Ray nodes, with Ray installed under build/ray
	$(BIN)/python -m tests.ray.environments
	$(BIN)/python -m pytest --ray tests/ray -rP $(ARGS)

.PHONY: lint
lint: $(VENV)/.dev ## Check style, types and the contract
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/mypy server client/python client/conformance examples benchmarks scripts
	cd protos && ../$(BIN)/buf lint

# Withdrawn releases and projects in quarantine too. ARGS=--index-only accepts an index that knows no vulnerabilities.
.PHONY: audit
audit: $(VENV)/.dev ## Hold the pinned dependencies against PyPI's known vulnerabilities
	$(BIN)/python -m scripts.audit $(ARGS)

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
	$(BIN)/python -m pytest --package tests/packages $(AGAIN) $(ARGS)

# The checkers of what is in deploy/: systemd's own from Debian, the others in an environment of their own.
DEPLOY := build/deploy
$(DEPLOY)/.installed: tests/deploy/requirements.txt
	rm -rf $(DEPLOY) && $(PYTHON) -m venv $(DEPLOY)
	$(DEPLOY)/bin/pip install --quiet --disable-pip-version-check --requirement tests/deploy/requirements.txt
	npm install --silent --no-audit --no-fund --no-save --prefix $(DEPLOY) @kubernetes-models/gateway-api@2.0.0
	command -v systemd-analyze >/dev/null || [ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null \
		|| { $(APT_GET) update && $(APT_GET) install -y --no-install-recommends systemd; }
	touch $@

.PHONY: test-page
test-page: $(VENV)/.dev ## Use the page of --http-ui in Debian's Chromium (ARGS="-k keyboard")
	command -v chromedriver >/dev/null || [ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null \
		|| { $(APT_GET) update && $(APT_GET) install -y chromium chromium-driver; }
	$(BIN)/python -m pytest --page tests/page $(AGAIN) $(ARGS)

.PHONY: check-deploy
check-deploy: $(VENV)/.dev tools $(DEPLOY)/.installed ## Hold what is in deploy/ against systemd, Kubernetes, Helm, Compose and Prometheus
	$(BIN)/python -m pytest --deploy tests/deploy tests/integration/test_service_manager.py $(AGAIN) $(ARGS)

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

# Minutes of mixed traffic with two thirds of them on one server, the rest on workers that are killed: ARGS="--minutes 60".
.PHONY: soak
soak: $(VENV)/.dev ## Check every answer of a long run, and that nothing leaks (ARGS="--minutes 5 --transport envoy")
	$(BIN)/python -m benchmarks.soak $(ARGS)

# Every fault of tests/support/history_faults.py, again and again: which calls failed with what, and what was drawn for them.
.PHONY: history
history: $(VENV)/.dev ## Prove that no row is lost or answered twice while processes are killed (ARGS="--minutes 20 --transport envoy")
	$(BIN)/python -m tests.support.record_history $(ARGS)

.PHONY: bench-peers
bench-peers: $(VENV)/.dev tools ## Measure beside other servers, each installed under build/peers (ARGS="--peer mosec")
	$(BIN)/python -m benchmarks peers $(ARGS)

.PHONY: clean
clean: ## Remove what the targets above made
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
