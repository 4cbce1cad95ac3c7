# The front doors. Each first installs what it needs and says so (tools/setup.sh), then hands over to CMake.
# CONTRIBUTING.md has the presets behind them.
export PATH := $(CURDIR)/.cache/tools/bin:$(PATH)
PREFIX ?= /usr/local
PYTHON ?= python3
BENCH_BATCH = --prefill 512@2048 --decode 32@2048

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
	tools/lint.sh build/clang

bench: ## time a hybrid batch on the CPU, beside PyTorch where PYTHON (default python3) has it
	@tools/setup.sh demo
	cmake --preset demo
	cmake --build --preset demo
	build/demo/cli/podattn run --model llama-3-8b $(BENCH_BATCH) --dtype f32
	build/demo/cli/podattn run --model llama-3-8b $(BENCH_BATCH) --dtype bf16
	@if $(PYTHON) -c 'import torch' 2>/dev/null; then \
	    $(PYTHON) bench/cpu_vs_torch.py --library build/demo/libpodattn.so $(BENCH_BATCH) \
	        --page-size 0 --page-size 16 --repeats 15 --threads $$(nproc); \
	else \
	    echo 'bench: for the comparison, make bench PYTHON=a Python that has torch (measured with 2.15.0)'; \
	fi

install: ## build and install into PREFIX (default /usr/local; DESTDIR is honoured)
	@tools/setup.sh demo
	cmake --preset release -DPODATTN_TESTS=OFF
	cmake --build --preset release
	cmake --install build/release --prefix $(PREFIX)

clean: ## remove everything that was built
	rm -rf build
