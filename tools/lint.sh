#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Formatting and static analysis of every tracked file, by the tools of tools/lint/requirements.txt, which are those of the
# PATH. Needs a configured build folder for the compile commands.
#
#   tools/lint.sh BUILD_DIR
set -euo pipefail
cd "$(dirname "$0")/.."
build_dir=${1:?usage: tools/lint.sh BUILD_DIR}
jobs=$(nproc)

mapfile -t formatted < <(git ls-files '*.c' '*.h' '*.cu' '*.cuh' '*.cpp')
mapfile -t scripts < <(git ls-files '*.sh' .ci/run cli/podattn.bash-completion)
mapfile -t licensed < <(git ls-files '*.[ch]' '*.cu' '*.cuh' '*.[ch]pp' '*.def' '*.in' '*.py' '*.sh' '*.cmake' '*CMakeLists.txt' \
    Makefile pyproject.toml .ci/run cli/podattn.1 cli/podattn.bash-completion)
# Only what the build compiles has flags to be analysed with. Kernels are nvcc's, also where the emulator includes them.
mapfile -t analysed < <(python3 - "$build_dir/compile_commands.json" <<'PYTHON'
import json, os, sys
files = {os.path.relpath(entry["file"]) for entry in json.load(open(sys.argv[1]))}
print("\n".join(sorted(name for name in files if not name.startswith(("..", "build", "tests/cuda/emulator/kernels_")))))
PYTHON
)

failed=()
check() { # NAME COMMAND...
    local name=$1
    shift
    echo "lint: $name"
    "$@" || failed+=("$name")
}

tidy() { # without its count of what it hides in system headers
    printf '%s\n' "${analysed[@]}" | xargs -P "$jobs" -n 1 clang-tidy --quiet -p "$build_dir" \
        2> >(grep -v ' warnings\? generated' >&2)
}

licences() { # in the first lines of every source
    local without
    without=$(grep -L 'SPDX-License-Identifier: Apache-2.0' "${licensed[@]}" | grep -v '/requirements\.in$')
    [ -z "$without" ] || { printf 'no SPDX line:\n%s\n' "$without" && return 1; }
}

pins() { # what is asked for is what is pinned; tools/pin.sh makes it so
    local list line missing=0
    for list in python bench tools tools/lint tools/wheel integrations/transformers; do
        while read -r line; do
            grep -qiF -- "${line%%;*}" <(tr _ - <"$list/requirements.txt") && continue
            echo "$list/requirements.txt does not have $line; run tools/pin.sh"
            missing=1
        done < <(grep -v '^#' "$list/requirements.in" | tr _ -)
    done
    return $missing
}

check licences licences
check pins pins
check clang-format clang-format --dry-run -Werror "${formatted[@]}"
check arrows tools/arrows.py
check words tools/words.py
check shellcheck shellcheck "${scripts[@]}"
# memsetClassFloat: zero bytes are the float 0 wherever this builds. The rest is what this code means: constStatement takes
# "(void)a, (void)b;" for a mistake, dangerousTypeCast and uninitMemberVarNoCtor want kernels to be C++.
check cppcheck cppcheck --quiet -j "$jobs" --std=c11 --enable=warning,performance,portability --inline-suppr \
    -i tests/cuda/emulator/kernels_sm80.cpp -i tests/cuda/emulator/kernels_sm90.cpp -i tests/cuda/emulator/kernels_sm90mla.cpp \
    --suppress=memsetClassFloat --suppress=constStatement --suppress=dangerousTypeCast --suppress=uninitMemberVarNoCtor \
    --error-exitcode=1 --project="$build_dir/compile_commands.json"
check clang-tidy tidy

if [ ${#failed[@]} -gt 0 ]; then
    echo "lint: failed: ${failed[*]}" >&2
    exit 1
fi
echo "lint: ${#formatted[@]} files formatted, ${#analysed[@]} analysed, ${#scripts[@]} scripts: clean"
