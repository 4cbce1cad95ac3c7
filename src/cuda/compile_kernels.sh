#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# compile_kernels.sh FATBIN NVCC ARGUMENTS...: compiles, writes dependencies to FATBIN.d and the compiler's report on
# registers, shared memory and spills to FATBIN.txt, which the test cuda_resources reads. What the compiler only notes
# in passing, but what undoes a kernel's design, is an error: serialised wgmma, and registers that do not change hands.
set -eu
fatbin=$1
shift
fail() {
    cat "$fatbin.txt" >&2
    rm -f "$fatbin"
    exit 1
}
"$@" -fatbin -Xptxas -v -MD -MF "$fatbin.d" -o "$fatbin" 2>"$fatbin.txt" || fail
if grep -E 'C75(07|08|10)|Potential Performance Loss|setmaxnreg.*ignored' "$fatbin.txt" >/dev/null; then
    echo "$fatbin: the compiler gave up on wgmma or setmaxnreg, see below" >&2
    fail
fi
grep -v -e '^ptxas info' -e '^ *[0-9]* bytes stack frame' "$fatbin.txt" >&2 || true
