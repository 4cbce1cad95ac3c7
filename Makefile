# SPDX-License-Identifier: Apache-2.0
# The front doors. Each first installs what it needs and says so (tools/setup.sh), then hands over to CMake.
# CONTRIBUTING.md has the presets behind them.
export PATH := $(CURDIR)/.cache/tools/bin:$(PATH)
export CTEST_PARALLEL_LEVEL ?= $(shell nproc)
PREFIX ?= /usr/local
PYTHON ?= python3
# Kernels are compiled for the benchmark only where there is a GPU.
BENCH_PRESET = $(if $(wildcard /dev/nvidia[0-9]*),bench,demo)
BENCH_OUT ?= bench/out
BENCH_FLAGS ?= --short --overwrite --time-limit 240

.PHONY: help demo test lint ci bench python wheel install uninstall clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' Makefile

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
	cmake --preset lint
	cmake --build --preset lint --target podattn_commit
	PATH="$(CURDIR)/.cache/lint/bin:$$PATH" tools/lint.sh build/lint

ci: ## all that a change must pass: tests, lint, compilers, sanitizers, fuzzers, Python
	.ci/run

python: ## lint the Python package, build its wheel and test it as installed
	tools/test_python.sh

wheel: ## a manylinux wheel with the CPU backend and, where nvcc is, the GPU's kernels, into build/wheel/dist
	@tools/setup.sh wheel
	@PATH="$(CURDIR)/.cache/wheel/bin:$$PATH" tools/wheel.sh build/wheel

bench: ## the short suites of podattn bench and their figures, into bench/out; on a CPU also PyTorch beside it
	@tools/setup.sh bench
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
	done; echo 'bench: no figures: they need matplotlib, which bench/venv.sh gets from the network; then' \
	    'bench/plot.py $(BENCH_OUT) draws them'

# In a folder of its own, so that what root builds there is in nobody's way; sudo's user owns it afterwards.
install: ## build and install into PREFIX (default /usr/local; DESTDIR is honoured)
	@tools/setup.sh demo
	@mkdir -p "$(DESTDIR)$(PREFIX)" 2>/dev/null && [ -w "$(DESTDIR)$(PREFIX)" ] || { echo 'install: $(DESTDIR)$(PREFIX)' \
	    'is not yours to write: sudo make install, or make install PREFIX=a folder of yours' >&2; exit 1; }
	cmake --preset install
	cmake --build --preset install
	cmake --install build/install --prefix $(PREFIX)
	@if [ -n "$$SUDO_UID" ]; then chown -R "$$SUDO_UID:$$SUDO_GID" build; fi
	@if [ "$$(id -u)" = 0 ] && [ -z "$(DESTDIR)" ]; then ldconfig; fi

uninstall: ## remove what make install put into PREFIX
	@[ -f build/install/install_manifest.txt ] || { echo 'uninstall: make install was not run here' >&2; exit 1; }
	@place="$(DESTDIR)$$(dirname "$$(head -n 1 build/install/install_manifest.txt)")"; [ ! -e "$$place" ] || \
	    [ -w "$$place" ] || { echo "uninstall: $$place is not yours to write: sudo make uninstall" >&2; exit 1; }
	@sed 's|^|$(DESTDIR)|' build/install/install_manifest.txt | xargs -d '\n' rm -fv
	@sed -n 's|^|$(DESTDIR)|; s|/[^/]*$$||; \|/podattn|p' build/install/install_manifest.txt | sort -ur | \
	    xargs -d '\n' rmdir --ignore-fail-on-non-empty

clean: ## remove everything that was built
	rm -rf build
