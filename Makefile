# The front doors. Each first installs what it needs and says so (tools/setup.sh), then hands over to CMake.
# CONTRIBUTING.md has the presets behind them.
export PATH := $(CURDIR)/.cache/tools/bin:$(PATH)
PREFIX ?= /usr/local

.PHONY: help demo test lint bench install clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' Makefile

demo: ## build, then replay a synthetic chat at Llama-3-8B shape on the CPU, checked against the oracle
	@tools/setup.sh demo
	cmake --preset demo
	cmake --build --preset demo
	build/demo/cli/podattn replay --synthetic chat --requests 12 --steps 30 --model llama-3-8b --chunk 512 --check 10

test: ## build, then run every test
	@tools/setup.sh test
	cmake --preset release
	cmake --build --preset release
	ctest --preset release

lint: ## formatting and static analysis of everything
	@tools/setup.sh lint
	cmake --preset clang
	tools/lint.sh build/clang

install: ## build and install into PREFIX (default /usr/local; DESTDIR is honoured)
	@tools/setup.sh demo
	cmake --preset release -DPODATTN_TESTS=OFF
	cmake --build --preset release
	cmake --install build/release --prefix $(PREFIX)

clean: ## remove everything that was built
	rm -rf build
