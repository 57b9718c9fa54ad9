# Every target sets up what it needs by itself; a second run finds it done and is quick.
SHELL := /bin/bash
# pytest keeps the tests' byte code, which takes longer to make than a third of them to run.
unexport PYTHONDONTWRITEBYTECODE
.DEFAULT_GOAL := help
.PHONY: help demo demo-clean test test-unit test-debian soak soak-api fuzz check format bench bench-peer build clean

PY := .venv/bin/python

help: ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: ## cluster `demo`, the VM runtime on, a real guest booted (then says how to look around)
	@scripts/setup.sh demo
	@scripts/demo.sh

demo-clean: ## take the demo away again, its disks included
	@scripts/setup.sh demo
	@if [ -d bmctl-workspace/demo ]; then .venv/bin/bmctl reset -c demo --yes; else echo 'There is no cluster demo.'; fi

test: ## set up, then all tests
	@scripts/setup.sh dev
	@$(PY) -m pytest tests -n auto --maxprocesses 4 --dist loadfile

test-unit: ## the tests of the logic alone (seconds)
	@scripts/setup.sh dev
	@$(PY) -m pytest tests/unit -n auto --maxprocesses 4 --dist worksteal -p no:schemathesis

soak: ## many machines, then 200 random operations and kills; SEED= repeats one, OPERATIONS=, EMPTY= and GUESTS= set how much
	@scripts/setup.sh dev
	@EMPTY=$${EMPTY:-100} GUESTS=$${GUESTS:-20} OPERATIONS=$${OPERATIONS:-200} SEED=$${SEED:-$$RANDOM} \
		$(PY) -m pytest -s tests/e2e/test_density.py tests/e2e/test_soak.py

soak-api: ## kill the loaded API server 200 times, nothing may be lost; SEED= repeats a run, KILLS= sets how much
	@scripts/setup.sh dev
	@KILLS=$${KILLS:-200} SEED=$${SEED:-$$RANDOM} $(PY) -m pytest -s tests/compat/test_solo_durability.py -k kill

test-debian: ## the tests that need a whole distribution as guest (minutes more; downloads it from Debian)
	@scripts/setup.sh debian
	@$(PY) -m pytest tests/debian -m debian

fuzz: ## the properties of tests/fuzz with many random examples (FUZZ=20 times as many as in `make test`)
	@scripts/setup.sh dev
	@FUZZ=$${FUZZ:-20} $(PY) -m pytest tests/fuzz --timeout 3600

check: ## format, lint, types, direction of imports
	@scripts/setup.sh dev
	@.venv/bin/ruff format --check -q . || { echo 'run: make format' >&2; exit 1; }
	@.venv/bin/ruff check -q .
	@.venv/bin/mypy
	@.venv/bin/lint-imports --no-logo 2>&1 | tail -4; exit $${PIPESTATUS[0]}

format: ## put the code into its one format
	@scripts/setup.sh dev
	@.venv/bin/ruff format -q . && .venv/bin/ruff check -q --fix .

bench: ## measure (docs/benchmarks.md says how)
	@scripts/setup.sh dev
	@$(PY) -m bench

bench-peer: ## build the kube-apiserver that `make bench` compares the API with (from Debian's source; minutes)
	@scripts/setup.sh debian
	@scripts/build_peer.sh .cache/peer

build: ## wheel and sdist into dist/
	@scripts/setup.sh dev
	@$(PY) -m build --installer pip -o dist .

clean: ## remove what the targets built (never a cluster)
	rm -rf dist build .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis
