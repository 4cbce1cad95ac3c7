#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# What a changed kernel must pass on a GPU: the GPU tests with every kernel that runs there, many random batches, and the
# tools of compute-sanitizer on a few of each kind. One line per step; each step's output is left in OUT.
#
#   tools/gpu_check.sh TEST_CUDA [OUT]       TEST_CUDA: build/release/tests/cuda/test_cuda; OUT: build/gpu_check
#
# COUNT=2000: random batches; SANITIZED=3: those under each tool; PODATTN_CUDA_DEVICE=cuda:0,kernel=sm80: one kernel alone.
# The steps run at the same time, since most of their work is the processor's: the oracle, or the tool.
set -uo pipefail
if [ $# -lt 1 ] || [ $# -gt 2 ]; then
    sed -n 's/^# \{0,1\}//; 6,8p' "$0" >&2
    exit 2
fi
readonly TEST=$1 OUT=${2:-build/gpu_check} COUNT=${COUNT:-2000} SANITIZED=${SANITIZED:-3}
mkdir -p "$OUT" || exit
names=() pids=()

step() { # NAME COMMAND...
    local name=$1 begin=$SECONDS
    shift
    (
        "$@" >"$OUT/$name.txt" 2>&1
        status=$?
        case $status in
            0) said=passed ;;
            77) said=skipped ;;
            *) said=FAILED ;;
        esac
        printf '%-12s %-8s %4d s   %s\n' "$name" "$said" $((SECONDS - begin)) "$(tail -n 1 "$OUT/$name.txt")"
        exit $status
    ) &
    names+=("$name")
    pids+=($!)
}

step shapes "$TEST" info refusals host_pointers shapes chosen large bad graph graph_outside scratch capture_host view \
    overwritten streams threads merge
step random env PODATTN_COUNT="$COUNT" "$TEST" random
step append env PODATTN_COUNT="$COUNT" "$TEST" append
if command -v compute-sanitizer >/dev/null; then
    for tool in memcheck racecheck synccheck initcheck; do
        # initcheck sees what is read before it was written only if the tests do not fill the workspace.
        step "$tool" env PODATTN_RAW_WORKSPACE=1 PODATTN_COUNT="$SANITIZED" \
            compute-sanitizer --tool "$tool" --error-exitcode 1 "$TEST" random bad append merge
    done
else
    echo "compute-sanitizer is not in PATH: its tools are left out" >&2
fi

failed=()
for i in "${!pids[@]}"; do
    wait "${pids[$i]}"
    status=$?
    if [ $status -ne 0 ] && [ $status -ne 77 ]; then failed+=("${names[$i]}"); fi
done
if [ ${#failed[@]} -gt 0 ]; then printf 'failed: %s\n' "${failed[*]}"; fi
printf '%d passed or skipped, %d failed\n' $((${#names[@]} - ${#failed[@]})) ${#failed[@]}
[ ${#failed[@]} -eq 0 ]
