# Needs Python 3.11 or newer and make. Everything else is installed into .venv.
PYTHON ?= python3
# An extra package index for pip, for example one with CPU builds of torch. Empty: pip's own configuration.
PIP_EXTRA_INDEX ?=
# Options of pytest: one process per core (tests/conftest.py groups the tests). Empty: one test after another.
PYTEST_ARGS ?= -n auto --durations=20

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python .ci/install.py $(if $(PIP_EXTRA_INDEX),--extra-index-url $(PIP_EXTRA_INDEX)) -c docker/constraints.txt
MODEL := data/demo/qwen3-tiny
SITE := $(BIN)/python -m sphinx -q -W --keep-going -d build/doctrees

.PHONY: demo test test-cluster test-kernels fuzz lint format bench bench-step bench-logs bench-pack gpu bench-parallel bench-memory bench-data bench-cluster soak loss-compare bench-image bench-merge serve-check image-check base-image dist image lock docs docs-links pictures notebook trl-fields clean help

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 16

demo: $(VENV)/trainer.stamp ## install everything and train the demo on this machine
	$(BIN)/launcher demo

test: $(VENV)/dev.stamp ## run every test that needs no GPU and no cluster
	$(BIN)/python -m pytest -m "not gpu and not cluster" $(PYTEST_ARGS)

test-cluster: $(VENV)/dev.stamp ## test whole runs on the cluster of KUBECONFIG (tests/cluster/README.md)
	DPO_TEST_CLUSTER=1 $(BIN)/python -m pytest tests/cluster -m cluster --durations=20

test-kernels: build/triton/stamp ## test the kernels of a GPU without one, in Triton's interpreter (an extra 190 MB, beside .venv)
	TRITON_INTERPRET=1 PYTHONPATH=build/triton $(BIN)/python -m pytest -q -k interpreter tests/trainer/step/forward/test_head.py

fuzz: $(VENV)/dev.stamp ## look for files that end in a traceback, by coverage: YAML, CSV, JSONL (SECONDS=30 each, beside each other)
	$(BIN)/python -m tests.fuzz $(or $(SECONDS),30)

lint: $(VENV)/dev.stamp ## run ruff, mypy --strict on the launcher, import contracts, and check workflows, forms and citation
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python .ci/forms.py
	$(BIN)/zizmor --offline --quiet .github

format: $(VENV)/dev.stamp ## format and sort with ruff
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/dev.stamp ## measure: JSON in build/bench, a table on the terminal
	$(BIN)/python -m tests.benchmarks.startup
	$(BIN)/python -m tests.benchmarks.dpo_step
	$(BIN)/python -m tests.benchmarks.parallel
	$(BIN)/python -m tests.benchmarks.memory
	$(BIN)/python -m tests.benchmarks.sheets
	$(BIN)/python -m tests.benchmarks.rows
	$(BIN)/python -m tests.benchmarks.upload
	$(BIN)/python -m tests.benchmarks.kills
	$(BIN)/python -m tests.benchmarks.submit
	$(BIN)/python -m tests.benchmarks.ps
	$(BIN)/python -m tests.benchmarks.follow
	$(BIN)/python -m tests.benchmarks.report

bench-data: $(VENV)/dev.stamp ## measure a large spreadsheet, tables of 200,000 and 2 million rows, 1 GiB to S3, 200 killed uploads
	$(BIN)/python -m tests.benchmarks.sheets
	$(BIN)/python -m tests.benchmarks.rows
	$(BIN)/python -m tests.benchmarks.upload
	$(BIN)/python -m tests.benchmarks.kills

bench-cluster: $(VENV)/dev.stamp ## measure submit, ps and following 64 pods, against an emulator of the Kubernetes API
	$(BIN)/python -m tests.benchmarks.submit
	$(BIN)/python -m tests.benchmarks.ps
	$(BIN)/python -m tests.benchmarks.follow

bench-memory: $(VENV)/trainer.stamp ## compare the memory of `launcher plan` with measured peaks (DEVICE=cuda on a GPU)
	$(BIN)/python -m tests.benchmarks.memory --device $(or $(DEVICE),cpu)

bench-step: $(VENV)/trainer.stamp ## compare the DPO step with plain TRL (DEVICE=cuda on a GPU)
	$(BIN)/python -m tests.benchmarks.dpo_step --device $(or $(DEVICE),cpu)

bench-logs: $(VENV)/trainer.stamp $(MODEL)/config.json ## measure what a step's health rules and log lines cost
	$(BIN)/python -m tests.benchmarks.logs

bench-merge: $(VENV)/trainer.stamp $(MODEL)/config.json ## measure merging an adapter into a model of 0.6B shape, and finding pairs labelled the wrong way round
	$(BIN)/python -m tests.benchmarks.merge
	$(BIN)/python -m tests.benchmarks.suspects

bench-pack: $(VENV)/trainer.stamp ## measure planning and packing of a step, and the memory of 200,000 pairs
	$(BIN)/python -m tests.benchmarks.pack

gpu: ## measure on one CUDA GPU, in eight minutes, with the packages that are there: speed, launches, waits, memory, resume (MINUTES=…)
	$(or $(wildcard $(BIN)/python),$(PYTHON)) -m tests.benchmarks.gpu --minutes $(or $(MINUTES),8)

bench-parallel: $(VENV)/trainer.stamp $(MODEL)/config.json ## compare one process, DDP and ZeRO: losses, speed, checkpoints
	$(BIN)/python -m tests.benchmarks.parallel

soak: $(VENV)/trainer.stamp $(MODEL)/config.json ## kill and resume fifty runs in all modes and compare adapters (half an hour)
	$(BIN)/python -m tests.benchmarks.soak

bench-image: $(VENV)/trainer.stamp $(MODEL)/config.json ## measure the image: size, rebuilds, time to the first step (needs a Docker engine)
	$(BIN)/python -m tests.benchmarks.image

# The revision may also be a goal: make loss-compare main~3
ifeq (loss-compare,$(firstword $(MAKECMDGOALS)))
REV ?= $(word 2,$(MAKECMDGOALS))
$(eval $(wordlist 2,2,$(MAKECMDGOALS)):;@:)
endif

loss-compare: $(VENV)/trainer.stamp $(MODEL)/config.json ## show that losses and adapters are bit for bit those of a commit (REV=main, STEPS=8)
	@test -n "$(REV)" || { echo "error: name a commit: make loss-compare REV=main"; exit 2; }
	$(BIN)/python -m tests.benchmarks.loss_compare $(REV) --steps $(or $(STEPS),8)

serve-check: $(VENV)/trainer.stamp $(MODEL)/config.json ## serve adapters on the demo's model with a real vLLM and compare its answers (VLLM=path/to/vllm)
	$(BIN)/python -m tests.benchmarks.serve_check $(or $(VLLM),vllm) $(KINDS)

image-check: $(VENV)/trainer.stamp $(MODEL)/config.json ## check the image (VARIANT=cpu or cuda): imports, kernels without a device, four steps of the demo (needs a Docker engine)
	$(BIN)/python -m tests.benchmarks.image_check $(or $(VARIANT),cpu)

base-image: ## make the tests' base image from Debian's packages, without a registry (as root, needs debootstrap and a Docker engine)
	docker/base.sh

dist: $(VENV)/dev.stamp ## build wheel and source twice, compare and check them; they go to dist/
	$(BIN)/python .ci/release.py dist dist

image: $(VENV)/dev.stamp ## build the image reproducibly with buildah (VARIANT=cpu or cuda); SBOM in build/
	PYTHON=$(BIN)/python docker/image.sh $(or $(VARIANT),cpu)

lock: $(VENV)/dev.stamp ## write docker/constraints.txt from the installed packages, and the images' locks (WHEELS=folder of CPU builds of torch)
	echo '# Every package of `pip install -e .[trainer,dev]`, without those that only a CUDA build of torch asks for; `make lock` writes it.' > docker/constraints.txt
	$(BIN)/pip freeze --exclude-editable | sed 's/+cpu$$//' | grep -v -e '^nvidia-' -e '^cuda-' -e '^triton' -e ' @ ' >> docker/constraints.txt
	PATH=$(CURDIR)/$(BIN):$$PATH $(BIN)/python docker/lock.py $(WHEELS)

docs: $(VENV)/dev.stamp ## regenerate tables, command help and printed outputs in README and docs, and build the site into build/site
	$(BIN)/python -m docs.generate.reference
	$(BIN)/python -m docs.generate.cards
	$(BIN)/python -m docs.generate.recipes
	$(BIN)/python -m docs.generate.blocks
	$(SITE) -b html docs build/site

docs-links: $(VENV)/dev.stamp ## try every external link of the pages (needs the network)
	$(SITE) -b linkcheck docs build/links

pictures: $(VENV)/dev.stamp $(MODEL)/config.json ## train the demo and the tutorial, and record their terminal and pages (needs chromium)
	$(BIN)/python -m docs.generate.pictures

notebook: $(VENV)/dev.stamp $(MODEL)/config.json ## execute the notebook in docs/ on the demo's model and keep its outputs
	$(BIN)/python -m docs.generate.notebook

trl-fields: $(VENV)/trainer.stamp ## regenerate the launcher's lists of TRL's fields and of modules that transformers renames
	$(BIN)/python -m trainer.inputs.trl_fields
	$(BIN)/python -m trainer.inputs.models.renamed

clean: ## remove everything that make created (runs in data/dpo stay)
	rm -rf $(VENV) build data/demo

$(MODEL)/config.json: | $(VENV)/trainer.stamp
	DS_ACCELERATOR=cpu $(BIN)/python -m trainer.inputs.demo.model $(MODEL) configs/demo/everyday/training_data.csv

# Beside .venv, as libraries take other paths where they find it.
build/triton/stamp: docker/requirements-cuda.txt $(VENV)/dev.stamp
	@rm -rf build/triton
	@$(PIP) --quiet --no-deps --target build/triton "$$(grep -o '^triton==[0-9.]*' docker/requirements-cuda.txt)"
	@touch $@

$(VENV)/bin/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "error: $(PYTHON) is older than 3.11: make PYTHON=python3.12 …"; exit 1; }
	@echo "making $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV)

$(VENV)/trainer.stamp: pyproject.toml docker/constraints.txt | $(VENV)/bin/pip
	@echo "installing pinned packages into $(VENV): once, some minutes; several GB with CUDA (without a GPU: make PIP_EXTRA_INDEX=…)"
	@$(PIP) -e '.[trainer]'
	@touch $@

$(VENV)/dev.stamp: pyproject.toml docker/constraints.txt | $(VENV)/bin/pip
	@echo "installing pinned packages, also for tests, into $(VENV): once, some minutes"
	@$(PIP) -e '.[trainer,dev]'
	@touch $(VENV)/trainer.stamp $@
