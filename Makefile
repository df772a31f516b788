# Everything a newcomer needs, in one environment of its own: `make demo`, `make test`, `make serve`.
# Needs Linux, Python 3.11 or newer as python3, and a package index. No compiler, no GPU, no model hub.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
TOOLS  := build/tools
MODEL  ?= out/demo/model
ARGS   ?=

.DEFAULT_GOAL := help
.PHONY: help install demo serve walkthrough test lint docs dist image bench gpu lock manifests clean

# Ray's workers, DeepSpeed (ninja) and `ray job submit` find their programs on PATH, not beside the interpreter.
export PATH := $(CURDIR)/$(BIN):$(PATH)

# Ray 2.60 turns token authentication on in ray.init() but leaves its command line clients and `ray start` at
# "disabled", and the two do not talk to each other. So every process started from here is told the same: token.
# On a machine that others use too, that is also what keeps them from running code through our dashboard port.
export RAY_AUTH_MODE ?= token
# Nothing a demo or a test does is reported to anyone.
export RAY_USAGE_STATS_ENABLED ?= 0
# The demo and the tests start clusters that end with them, so their token need not outlive them either: one
# per call of make, in the environment only. `serve` uses Ray's own token file (~/.ray/auth_token, made when
# it is missing) instead, so that `RAY_AUTH_MODE=token serve status` works from another terminal.
demo walkthrough test bench gpu: export RAY_AUTH_TOKEN ?= $(shell od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
# A test that asks a model hub for anything should fail at once, also where there is a hub to ask.
test: export HF_HUB_OFFLINE = 1

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-12s%s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(STAMP) ## Create .venv with the locked versions and this package (a second call does nothing)

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "mats_ray needs Python 3.11 or newer: make PYTHON=...")'
	@test -x $(BIN)/pip || $(PYTHON) -m venv --clear $(VENV)
	@echo "Installing PyTorch ..."
	@# First and on its own: where pip is offered a CPU build of this version, that is the one to keep.
	@$(BIN)/pip install -qq --disable-pip-version-check "$$(grep -o '^torch==[^ ]*' requirements.lock)"
	@echo "Installing the $$(grep -c '==' requirements.lock) packages of requirements.lock ..."
	@$(BIN)/pip install -qq --disable-pip-version-check -r requirements.lock
	@$(BIN)/pip install -qq --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: install ## Train on text, caption audio never heard: the whole loop on this machine (ARGS=...)
	mats demo --config configs/toy.yaml $(ARGS)

serve: install ## Answer questions about audio over HTTP with the demo's model (MODEL=dir ARGS=...)
	@test -e $(MODEL) || { echo "There is no model at $(MODEL): run 'make demo' first, or 'make serve MODEL=dir'." >&2; exit 1; }
	mats serve --model $(MODEL) $(ARGS)

walkthrough: install ## Follow the documentation's own commands: a bucket, the service, own captions (after make demo)
	@test -e $(MODEL) || mats demo --config configs/toy.yaml --no-compare
	python -m tests.walkthrough $(ARGS)

test: install ## Run the tests, all of them in two processes (ARGS="tests/unit -k noise": a part, in one)
	python -m pytest $(or $(ARGS),-n 2)

lint: install ## Check style, types, layers and spelling
	@status=0; for check in "ruff check" "ruff format --check" pyright lint-imports codespell; do \
		echo "== $$check"; $$check || status=1; \
	done; exit $$status

docs: install $(TOOLS)/.installed ## Build the documentation into build/site; links are checked, nothing is fetched
	python -m docs.site build/pages
	@rm -rf build/site
	NO_MKDOCS_2_WARNING=1 $(TOOLS)/bin/mkdocs build --quiet --strict
	python -m docs.site --check build/site

dist: $(TOOLS)/.installed ## Build sdist and wheel into dist/ and check them
	@rm -rf dist
	$(TOOLS)/bin/python -m build
	$(TOOLS)/bin/twine check --strict dist/*

image: ## Build the container image mats-ray:dev (needs docker)
	docker build --tag mats-ray:dev .

bench: install ## Run benchmarks/bench_*.py
	@set -e; for file in benchmarks/bench_*.py; do \
		[ -e "$$file" ] || { echo "There are no benchmarks/bench_*.py yet."; break; }; \
		echo "== $$file"; python "$$file" $(ARGS); \
	done

gpu: install ## Show everything a GPU must show, in 25 minutes, by part (ARGS="--size tiny": on a CPU, to see that it runs)
	python -m benchmarks.gpu $(ARGS)

# The CUDA packages come and go with torch, which pins them itself: left out, the lock fits CPU builds as well.
lock: ## Solve pyproject.toml into requirements.lock, keeping versions that still fit (ARGS=--upgrade for new ones)
	@test -x build/lock/bin/uv || { $(PYTHON) -m venv --clear build/lock && build/lock/bin/pip install -q uv; }
	UV_CUSTOM_COMPILE_COMMAND="make lock" build/lock/bin/uv pip compile -q pyproject.toml --extra dev --extra evaluate --extra lance \
		--python-version 3.11 --python-platform x86_64-manylinux_2_28 --annotation-style line \
		-o requirements.lock $(ARGS)
	sed -i -E '/^(cuda-|nvidia-|triton=)/d' requirements.lock
	UV_CUSTOM_COMPILE_COMMAND="make lock" build/lock/bin/uv pip compile -q --group tools \
		--python-version 3.11 --python-platform x86_64-manylinux_2_28 --annotation-style line \
		-o requirements-tools.lock $(ARGS)

# Documentation and releases: their own packages, apart from .venv, whose versions they must not move.
$(TOOLS)/.installed: requirements-tools.lock
	@test -x $(TOOLS)/bin/pip || $(PYTHON) -m venv --clear $(TOOLS)
	@$(TOOLS)/bin/pip install -qq --disable-pip-version-check -r requirements-tools.lock
	@touch $@

manifests: ## Write deploy/kuberay again from the configurations that it is made of
	mats deploy render --config configs/toy.yaml --config configs/overlays/kuberay_cpu.yaml --out deploy/kuberay/base
	mats deploy render --config configs/toy.yaml --config configs/overlays/kuberay_cpu.yaml \
		--overlay-of deploy/kuberay/base --out deploy/kuberay/overlays/cpu
	mats deploy render --config configs/mats_llama_7b.yaml --config configs/overlays/kuberay_gpu_a100.yaml \
		--overlay-of deploy/kuberay/base --out deploy/kuberay/overlays/gpu-a100

clean: ## Remove out/, build output and caches; .venv stays
	rm -rf out build dist *.egg-info .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
