#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs what one front door of the Makefile needs, on Debian and Ubuntu. Says what it installs and why; does nothing,
# and needs no network, when everything is there. Elsewhere it names what is missing and stops.
#
#   tools/setup.sh demo|test|lint|bench|python|wheel|ci
set -euo pipefail
cd "$(dirname "$0")/.."

# For distributions whose own cmake is older, tools/requirements.txt has one.
readonly CMAKE_MINIMUM=3.25
# The second compiler, of make ci alone, must not change with the distribution.
readonly LLVM_PINNED=14
readonly LLVM_DISTRIBUTIONS="Debian 12, Ubuntu 22.04 and 24.04"

packages=() # to install by apt
reasons=()  # one line each

fail() {
    echo "setup: $*" >&2
    exit 1
}

need() { # PACKAGE REASON COMMAND...: the package is wanted unless the command succeeds
    local package=$1 reason=$2
    shift 2
    if [[ " ${packages[*]} " == *" $package "* ]] || "$@" >/dev/null 2>&1; then return; fi
    packages+=("$package")
    reasons+=("$package: $reason")
}

have() {
    command -v "$1"
}

compiles() { # COMPILER FLAGS...: an empty program, so that a compiler without its runtime libraries counts as missing
    local program
    program=$(mktemp)
    echo 'int main(void) { return 0; }' | "$@" -x c - -o "$program"
    local status=$?
    rm -f "$program"
    return $status
}

python_headers() {
    test -f "$(python3 -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h"
}

cmake_is_new() { # VERSION
    [ "$(printf '%s\n' "$CMAKE_MINIMUM" "$1" | sort -V | head -n 1)" = "$CMAKE_MINIMUM" ]
}

cmake_version() {
    cmake --version | awk 'NR == 1 { print $3 }'
}

need_demo() {
    need gcc "C compiler" compiles cc
    need libc6-dev "C library headers" compiles cc
    need cmake "build system" have cmake
    need ninja-build "runs the build" have ninja
    need pkg-config "finds libraries" have pkg-config
    need libcjson-dev "JSON for the command line" pkg-config --exists libcjson
}

need_test() {
    need_demo
    need libcmocka-dev "test library" pkg-config --exists cmocka
    need g++ "checks that the header is C++" have c++
    need python3 "drives the tests of the command line" have python3
}

need_lint() {
    need_test
    need git "lists the files" have git
    need python3-venv "a private place for clang-format, clang-tidy, cppcheck and shellcheck" python3 -c 'import ensurepip'
}

need_bench() {
    need_demo
    need python3-venv "a private place for the Python packages of the figures" python3 -c 'import ensurepip'
}

need_wheel() {
    need gcc "C compiler" compiles cc
    need libc6-dev "C library headers" compiles cc
    need cmake "build system" have cmake
    need ninja-build "runs the build" have ninja
    need python3-venv "a private place for Python packages" python3 -c 'import ensurepip'
}

need_python() {
    need_wheel
    need g++ "compiles for torch.compile" have c++
    need python3-dev "headers of Python for torch.compile" python_headers
}

need_ci() {
    need_test
    need_lint
    need_python
    need "clang-$LLVM_PINNED" "a second compiler" have "clang-$LLVM_PINNED"
    need "libclang-rt-$LLVM_PINNED-dev" "sanitizers and fuzzer" \
        compiles "clang-$LLVM_PINNED" -fsanitize=address,undefined,fuzzer-no-link
    need "llvm-$LLVM_PINNED" "names in sanitizer reports" have "llvm-symbolizer-$LLVM_PINNED"
}

as_root=()
log=$(mktemp)
trap 'rm -f "$log"' EXIT

# What apt-get and pip say where no server answers.
readonly NO_NETWORK='Temporary failure|Could not resolve|Could not connect|Unable to connect|Failed to fetch|Failed to establish'
fail_quietly() { # WHO: of no network in one line, of anything else with the whole log
    if grep -qE "$NO_NETWORK" "$log"; then fail "$1 reaches no server: is there a network?"; fi
    cat "$log" >&2
    fail "$1 failed, as said above"
}

apt_get() { # ARGUMENTS...: says something only where it fails
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get "$@" >"$log" 2>&1 || fail_quietly apt-get
}

pip_install() { # PIP ARGUMENTS...: exactly what the list of hashes names
    local pip=$1
    shift
    "$pip" -q --disable-pip-version-check install --require-hashes "$@" >"$log" 2>&1 || fail_quietly pip
}

# Nothing is installed where some of it is not to be had.
check_packages() {
    local package
    for package in "${packages[@]}"; do
        if [ -n "$(apt-cache madison "$package" 2>/dev/null)" ]; then continue; fi
        # apt-get update succeeds without a network, and so leaves lists that are old or empty.
        if grep -qE "$NO_NETWORK" "$log"; then fail_quietly apt-get; fi
        case $package in
        *"-$LLVM_PINNED"*)
            fail "'$door' needs $package, which this distribution does not have; $LLVM_DISTRIBUTIONS do" ;;
        *) fail "'$door' needs $package, which this distribution does not have" ;;
        esac
    done
}

install_packages() {
    if [ ${#packages[@]} -eq 0 ]; then return; fi
    echo "setup: '$door' needs ${#packages[@]} packages that are not installed:"
    printf '  %s\n' "${reasons[@]}"
    have apt-get >/dev/null || fail "this is neither Debian nor Ubuntu; please install the above yourself"
    if [ "$(id -u)" -ne 0 ]; then
        have sudo >/dev/null || fail "run this as root, or install sudo"
        as_root=(sudo)
    fi
    echo "setup: installing them with apt-get"
    apt_get update
    check_packages
    apt_get -y --no-install-recommends install "${packages[@]}"
}

install_cmake() {
    if cmake_is_new "$(cmake_version)"; then return; fi
    echo "setup: cmake $(cmake_version) is older than $CMAKE_MINIMUM; putting the one of tools/requirements.txt into .cache/tools"
    packages=() reasons=()
    need python3-venv "a private place for cmake" python3 -c 'import ensurepip'
    install_packages
    python3 -m venv .cache/tools
    pip_install .cache/tools/bin/pip -r tools/requirements.txt
    hash -r
    cmake_is_new "$(cmake_version)" || fail "cmake $(cmake_version) is still older than $CMAKE_MINIMUM"
}

# An environment is made again only when its list of packages changes: PyTorch is large.
install_python_packages() { # LIST PLACE WHAT
    local list=$1 place=$2
    if cmp -s "$list" "$place/requirements.txt"; then return; fi
    echo "setup: putting $3 into $place, as $list says"
    rm -rf "$place"
    python3 -m venv "$place"
    pip_install "$place/bin/pip" -r "$list"
    cp "$list" "$place/"
}

# Beside them, in a place of its own: what only the tests of podattn-transformers need.
install_transformers() {
    local list=integrations/transformers/requirements.txt place=.cache/transformers
    if cmp -s "$list" "$place/requirements.txt"; then return; fi
    echo "setup: putting transformers into $place, as $list says"
    rm -rf "$place"
    pip_install .cache/python/bin/pip --no-deps --target "$place" -r "$list"
    cp "$list" "$place/"
}

door=${1:-}
case $door in
demo | test | lint | bench | python | wheel | ci) ;;
*) fail "usage: tools/setup.sh demo|test|lint|bench|python|wheel|ci" ;;
esac
PATH="$PWD/.cache/tools/bin:$PATH"
"need_$door"
install_packages
install_cmake
case $door in
lint | ci) install_python_packages tools/lint/requirements.txt .cache/lint "the tools of lint" ;;
esac
case $door in
python | ci)
    install_python_packages python/requirements.txt .cache/python "PyTorch and the tools for Python"
    install_transformers
    ;;
wheel) install_python_packages tools/wheel/requirements.txt .cache/wheel "what builds wheels" ;;
esac
