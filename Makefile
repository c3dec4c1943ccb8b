# Everything one does with this project. `make` alone lists it.

PYTHON ?= python3
GOLDEN ?= ../shared/golden
FRAMES ?= ../shared/cityscapes_example
CORES := $(shell getconf _NPROCESSORS_ONLN)
BIN := .venv/bin
# Of a host whose name is in no DNS, torchrun waits for the address.
TORCHRUN := $(BIN)/torchrun --standalone --local-addr 127.0.0.1
READY := .venv/.ready
DEMO := runs/demo
DEMO_CONFIG := configs/toy/demo.yaml
CHAIN ?= configs/chains/toy.yaml
RANKS ?= 2
# For each of two ranks; more threads than cores make small convolutions many times slower.
THREADS := $(shell echo $$(( $(CORES) > 1 ? $(CORES) / 2 : 1 )))

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup demo toy shards weights test lint lock image type parity test-all test-slurm test-full drill soak chain bench bench-plan bench-scaling bench-weak-scaling bench-gloo bench-performance bench-engine bench-step bench-generate bench-craft bench-data gpu-check clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(READY) ## make .venv and install everything into it (by itself before any other target)

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "error: Python 3.11 or newer is needed: make setup PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
	  echo "error: $(PYTHON) has no venv module: apt-get install python3-venv (Debian, Ubuntu)" >&2; exit 1; }
	@echo "setup: installing into .venv (some minutes the first time)"
	@test -x $(BIN)/pip || $(PYTHON) -m venv --clear .venv
	@$(BIN)/pip install -qq --disable-pip-version-check --editable '.[dev]'
	@touch $@

demo: shards ## toy street from nothing: shards, training on 2 ranks, video, page (6 to 13 minutes on 2 cores)
	@echo "demo: training $(DEMO) on 2 ranks"
	@OMP_NUM_THREADS=$(THREADS) $(TORCHRUN) --nproc_per_node 2 launch/train.py $(DEMO_CONFIG)
	@echo "demo: generating the test videos"
	@OMP_NUM_THREADS=$(THREADS) $(BIN)/python launch/generate.py $(DEMO)
	@echo "training page: file://$(CURDIR)/$(DEMO)/web/index.html"

toy: $(READY) ## render the toy street set into data/toy_street
	@$(BIN)/python -m vid2vid_dist toy

shards: $(READY) ## pack raw folders: SRC=folder OUT=folder [SIZE=width] [LABEL_NC=n] [TASK=face|faces|pose|styles] [SPLIT=at-jumps] [WORKERS=n] [PART=i/n]; OUT=folder VERIFY=1: check them; bare: the toy street
	@case "$(if $(VERIFY),,$(if $(SRC),s)$(if $(OUT),o))" in s|o) echo "error: give SRC=folder and OUT=folder together" >&2; exit 2;; esac
	@$(BIN)/python -m vid2vid_dist shards $(if $(SRC),"$(SRC)") $(if $(OUT),"$(OUT)") $(if $(SIZE),--size $(SIZE)) $(if $(LABEL_NC),--label-nc $(LABEL_NC)) $(if $(TASK),--task $(TASK)) $(if $(SPLIT),--split-at-jumps) $(if $(WORKERS),--workers $(WORKERS)) $(if $(PART),--part $(PART)) $(if $(VERIFY),--verify)

weights: $(READY) ## fetch the published weights that losses, flow and figures name, on a login node: [OUT=folder] [BASE=mirror]
	@$(BIN)/python -m vid2vid_dist weights $(if $(OUT),"$(OUT)") $(if $(BASE),--base-url "$(BASE)")

PYTEST = GOLDEN=$(GOLDEN) FRAMES=$(FRAMES) $(BIN)/python -m pytest -q --durations=10 -n $$(( $(CORES) < 4 ? $(CORES) : 4 )) --dist loadfile --no-loadscope-reorder

test: $(READY) ## run the tests (a selection: make test TESTS=tests/data)
	@$(PYTEST) -m "not full and not long" $(TESTS)

test-all: $(READY) ## the long tests, which `make test` leaves out
	@$(PYTEST) -m "long and not full" $(TESTS)

test-slurm: $(READY) ## the batch scripts under a real Slurm of two nodes on this machine (root, slurm-wlm, munge)
	@$(BIN)/python -m pytest -q -rs tests/slurm

test-full: $(READY) ## all tests and the whole matrix of placements and settings (hours)
	@$(PYTEST) $(TESTS)

lint: $(READY) ## ruff; hadolint for the Dockerfiles
	@$(BIN)/ruff check .
	@$(BIN)/hadolint docker/Dockerfile docker/ngc.Dockerfile

lock: $(READY) ## the exact packages of the image, from the package index: docker/requirements.lock
	@UV_FIND_LINKS= $(BIN)/uv pip compile -q pyproject.toml --extra eval --generate-hashes --no-annotate \
	  --python-version 3.11 --python-platform x86_64-manylinux_2_28 --constraint docker/tested.txt \
	  --custom-compile-command "make lock" -o docker/requirements.lock

image: ## the container image, vid2vid-dist
	@docker build -f docker/Dockerfile --build-arg CODE_VERSION="$$($(PYTHON) -m vid2vid_dist.version)" -t vid2vid-dist .

type: $(READY) ## mypy
	@$(BIN)/mypy

parity: $(READY) ## compare with the original's numbers: [GOLDEN=folder] [FRAMES=folder] [ONLY=kind/name]
	@OMP_NUM_THREADS=1 $(BIN)/python -m tools.parity --golden $(GOLDEN) --frames $(FRAMES) $(if $(ONLY),--only $(ONLY))
	$(if $(ONLY),,@OMP_NUM_THREADS=1 $(TORCHRUN) --nproc_per_node 2 -m tools.parity.placed_trace $(GOLDEN))

drill: $(READY) ## end a run of 4 ranks 60 times, in all ways that runs end; nothing may be lost (an hour)
	@OMP_NUM_THREADS=1 $(BIN)/python -m tools.drill

soak: $(READY) ## train for an hour with a fault every two minutes: what is lost, and what grows [MINUTES=n]
	@OMP_NUM_THREADS=1 $(BIN)/python -m tools.soak $(if $(MINUTES),--minutes $(MINUTES))

chain: $(READY) ## a chain of stages, coarse to fine: [CHAIN=file] [RANKS=n] [SET="key=value …"]
	@OMP_NUM_THREADS=$(THREADS) $(BIN)/python -m tools.chain $(CHAIN) --ranks $(RANKS) $(SET)

bench-plan: $(READY) ## speed-up of planned steps on 8 GPUs over the serial schedule, simulated (a minute)
	@OMP_NUM_THREADS=1 $(BIN)/python -m tools.bench_plan

bench-scaling: $(READY) ## how cost grows: planning with tasks, training with frames, lanes, ranks, clips, pixels (10 minutes) [DOC=file]
	@OMP_NUM_THREADS=1 $(BIN)/python -m tools.bench_scaling $(DOC)

bench-weak-scaling: $(READY) ## steps of the street recipes on 8 to 1,024 GPUs, planned (2 minutes) [DOC=file]
	@OMP_NUM_THREADS=1 $(BIN)/python -m tools.bench_weak_scaling $(DOC)

bench-gloo: $(READY) ## the planner's network model against messages and reductions of 2 to 8 ranks [DOC=file]
	@OMP_NUM_THREADS=1 $(BIN)/python -m tools.bench_gloo $(DOC)

bench-performance: $(READY) ## this commit against another, into docs/performance.md (15 minutes): BASE=checkout [ONLY='row']
	@test -n "$(BASE)" || { echo "error: name a checkout of the other commit: make bench-performance BASE=folder" >&2; exit 2; }
	@$(BIN)/python -m tools.bench_performance "$(BASE)" $(if $(ONLY),--only "$(ONLY)")

bench-engine: $(READY) ## real ranks against the simulator, and planned against serial steps (3 minutes on idle cores)
	@OMP_NUM_THREADS=1 $(BIN)/python -m tools.bench_engine

bench-step: $(READY) ## a training step at 512, 1024 and 2048 on this device: time, use, memory, label convolution [SET="key=value …"]
	@$(BIN)/python -m tools.bench_step $(SET)
	@$(BIN)/python -m tools.bench_label_conv $(SET)

bench: $(READY) ## measure this machine: seconds per training step and per generated frame
	@$(BIN)/python -m tools.bench
	@OMP_NUM_THREADS=1 $(BIN)/python -m tools.bench_drawing

bench-generate: $(READY) ## frames per second against a plain loop, what each switch gives, and how fast results are written
	@$(BIN)/python -m tools.bench_generate $(CONFIG)
	@OMP_NUM_THREADS=1 $(BIN)/python -m tools.bench_results

bench-data: $(READY) ## frames decoded and drawn per second by one core, and what planned steps of the recipes ask for [FRAMES=folder] [DOC=file]
	@OMP_NUM_THREADS=1 $(BIN)/python -m tools.bench_data $(FRAMES) $(DOC)

bench-craft: $(READY) ## training options on the toy street, each alone against the original's recipe (hours) [SET="--minutes n --seeds n --only NAME … key=value …"]
	@OMP_NUM_THREADS=1 $(BIN)/python -m tools.bench_craft $(SET)

gpu-check: $(READY) ## the first day on a GPU: what CPU ranks cannot show, 8 minutes; without one, in a small form
	@GOLDEN=$(GOLDEN) $(BIN)/python -m tools.gpu_check

clean: ## remove caches and the toy set (runs, your shards and .venv stay)
	@rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis build data/toy_street data/shards/toy_street
	@find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
	@echo "clean: caches and the toy set are gone"
