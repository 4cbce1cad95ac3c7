#!/bin/sh
# compile_kernels.sh FATBIN NVCC ARGUMENTS...: compiles, writes dependencies to FATBIN.d and the compiler's report on
# registers, shared memory and spills to FATBIN.txt, which the test cuda_resources reads.
set -eu
fatbin=$1
shift
if ! "$@" -fatbin -Xptxas -v -MD -MF "$fatbin.d" -o "$fatbin" 2>"$fatbin.txt"; then
    cat "$fatbin.txt" >&2
    exit 1
fi
grep -v -e '^ptxas info' -e '^ *[0-9]* bytes stack frame' "$fatbin.txt" >&2 || true
