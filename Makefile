# The front doors. Each first installs what it needs and says so (tools/setup.sh), then hands over to CMake.
# CONTRIBUTING.md has the presets behind them.
export PATH := $(CURDIR)/.cache/tools/bin:$(PATH)
PREFIX ?= /usr/local
PYTHON ?= python3
# Kernels are compiled for the benchmark only where there is a GPU.
BENCH_PRESET = $(if $(wildcard /dev/nvidia[0-9]*),bench,demo)
BENCH_OUT ?= bench/out
BENCH_FLAGS ?= --short --overwrite --time-limit 240

.PHONY: help demo test lint bench install clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' Makefile

demo: ## build, then replay a synthetic chat at Llama-3-8B shape on the CPU, checked against the oracle
	@tools/setup.sh demo
	cmake --preset demo
	cmake --build --preset demo
	build/demo/cli/podattn replay --synthetic chat --requests 12 --model llama-3-8b --chunk 512 --check 50

test: ## build, then run every test
	@tools/setup.sh test
	cmake --preset release
	cmake --build --preset release
	ctest --preset release

lint: ## formatting and static analysis of everything
	@tools/setup.sh lint
	cmake --preset clang
	cmake --build build/clang --target podattn_commit
	tools/lint.sh build/clang

bench: ## the short suites of podattn bench and their figures, into bench/out; on a CPU also PyTorch beside it
	@tools/setup.sh demo
	cmake --preset $(BENCH_PRESET)
	cmake --build --preset $(BENCH_PRESET)
	build/$(BENCH_PRESET)/cli/podattn bench all --out $(BENCH_OUT) --batches bench/batches/llama_3_8b_84.csv $(BENCH_FLAGS)
ifeq ($(BENCH_PRESET),demo)
	@if $(PYTHON) -c 'import torch' 2>/dev/null; then \
	    PYTHONPATH=python PODATTN_LIBRARY=build/demo/libpodattn.so $(PYTHON) bench/compare.py bench/batches/small.csv \
	        --only fused --only serial --only sdpa --time-limit 60 --out $(BENCH_OUT)/libraries.csv --overwrite; \
	else \
	    echo 'bench: for the comparison, make bench PYTHON=a Python that has torch (measured with 2.15.0)'; \
	fi
endif
	@for python in "$$(bench/venv.sh)" $(PYTHON); do \
	    if "$$python" -c 'import matplotlib' 2>/dev/null; then exec "$$python" bench/plot.py $(BENCH_OUT); fi; \
	done; echo 'bench: no figures: they need matplotlib'

install: ## build and install into PREFIX (default /usr/local; DESTDIR is honoured)
	@tools/setup.sh demo
	cmake --preset release -DPODATTN_TESTS=OFF
	cmake --build --preset release
	cmake --install build/release --prefix $(PREFIX)

clean: ## remove everything that was built
	rm -rf build
