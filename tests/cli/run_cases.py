#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Golden tests of the command line.

A file in cases/ is a transcript: a line "$ podattn ..." and behind it what that command does, namely

  its standard output as it is
  err| a line on standard error
  NAME| a line of the file NAME that it wrote
  => its exit code

Each command runs in a fresh folder that holds traces/, batches/ and batch_files/; a file that appears there and is not in the
transcript fails the test. Before comparing, what differs from run to run and from machine to machine is masked, in this
order:

  "12.3 us", "1.2 ms", "3.4 s"      -> "T", and the line's runs of blanks become one, as in its table's other lines
  on such a line, "0.123"           -> "N" (speeds)
  "1.23 x"                          -> "N x"
  "2.2e-03 (<="                     -> "E (<=" (measured errors; the bounds stay)
  "device  cpu: ...", "cpu  ..."    -> "device cpu: DEVICE" (the processor)
  "cuda:0 ..."                      -> "cuda:0 DEVICE"
  kernels that info lists of these two, and of baselines, are left out
  "... available: 1.2 GiB", "and 1.2 GiB are available" -> "MEMORY"
  tickets and workspace sizes of the CPU's own plans, which change whenever its kernels are tuned
  in a benchmark's heading, the device, commit, date and state; in JSON, its commit
  in JSON, numbers of keys that end in _us, tflops, gb_per_s or are ratios or errors, the device's row, and
  "host_memory_bytes"               -> "N"

But what `podattn plan` prints is simulated and the same everywhere: only its "planned in" and "build_us" are masked.

A file whose first line is "# baselines" or "# no baselines" is for builds with or without PODATTN_BASELINES.

usage: run_cases.py PODATTN [--baselines] [--update] [CASE...]
"""
import difflib
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
TIMEOUT_S = 300

MEASURED_KEYS = (
    r"plan_us|build_us|median_us|total_us|mean_us|p50_us|p99_us|mean_plan_us|fused_us|prefill_us|decode_us|tflops|"
    r"kv_gb_per_s|fused_to_longer_side|serial_to_fused|host_memory_bytes|cache_us|driver_us|longest_wait_us"
)


def mask_json(line, is_plan):
    if not is_plan:
        line = re.sub(r'"workspace_bytes": \d+', '"workspace_bytes": N', line)
    line = re.sub(r'"(%s)": [-+.e\d]+' % MEASURED_KEYS, r'"\1": N', line)
    line = re.sub(r'^( *"(?:fused|serial|worst)": \{)"output".*\}', r"\1E}", line)
    line = re.sub(r'^( *"device": \{).*\}', r"\1DEVICE}", line)
    line = re.sub(r'^( *"commit": )".*"', r"\1COMMIT", line)
    line = re.sub(r', \{"name": "\w+_hfuse_[^}]*\}', "", line)
    return re.sub(r'^( *\{"device": "(?:cpu|cuda:0)"), .*\}', r"\1, DEVICE}", line)


def mask_measured(line):
    masked = re.sub(r"\b\d[\d,]*\.\d+ (us|ms|s)\b", "T", line)
    if masked != line or re.match(r"  (call|time of one layer|prefill alone|decode alone) ", line):
        masked = re.sub(r"(\S) +", r"\1 ", masked)
        masked = re.sub(r"\b\d+\.\d+\b(?! [KMG]iB)", "N", masked)
    return re.sub(r"\b\d+\.\d+ x", "N x", masked)


def mask(line, is_plan):
    if re.match(r' *[\[{"}\]]', line):
        return mask_json(line, is_plan)
    line = re.sub(r"planned   in \S+ \S+ on", "planned   in T on", line)
    if not is_plan:
        line = mask_measured(line)
        line = re.sub(r"plan built in T: .*", "plan built in T: TICKETS", line)
        line = re.sub(r"workspace \S+ [KMG]iB", "workspace SIZE", line)
    line = re.sub(r"\d\.\de[-+]\d\d \(<=", "E (<=", line)
    line = re.sub(r"^device    cpu: .*", "device    cpu: DEVICE", line)
    line = re.sub(r"^# (device|commit|date|state): .*", r"# \1: ...", line)
    line = re.sub(r"^  (cpu|cuda:0) .*", r"  \1 DEVICE", line)
    line = re.sub(r"and \S+ [KMGT]iB are available", "and MEMORY are available", line)
    return re.sub(r"available: \S+ [KMGT]iB", "available: MEMORY", line)


def drop_kernels(lines):
    """Without the kernels that differ from machine to machine or from build to build."""
    kept, is_own = [], False
    for line in lines:
        is_kernel = line.startswith(12 * " ")
        if not is_kernel:
            is_own = re.match(r"  (cpu|cuda:0) ", line) is not None
        if not is_kernel or not (is_own or "_hfuse_" in line):
            kept.append(line)
    return kept


def list_files(folder):
    found = []
    for root, _, names in os.walk(folder):
        found += [os.path.relpath(os.path.join(root, name), folder) for name in names]
    return set(found)


def run_command(podattn, command):
    """Runs one command line in a fresh folder and returns its transcript."""
    words = shlex.split(command)
    with tempfile.TemporaryDirectory() as folder:
        for part in ("traces", "batches", "batch_files"):
            shutil.copytree(os.path.join(HERE, part), os.path.join(folder, part))
        before = list_files(folder)
        done = subprocess.run(
            [podattn] + words[1:], cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT_S
        )
        is_plan = words[1:2] == ["plan"]
        lines = [mask(line, is_plan) for line in drop_kernels(done.stdout.decode().splitlines())]
        lines += ["err| " + mask(line, is_plan) for line in done.stderr.decode().splitlines()]
        for name in sorted(list_files(folder) - before):
            with open(os.path.join(folder, name), encoding="utf-8") as file:
                lines += ["%s| %s" % (name, mask(line, is_plan)) for line in file.read().splitlines()]
        return lines + ["=> %d" % done.returncode]


def rebuild(podattn, lines):
    """The transcript as it would be: comments stay, and what stands from a command to its exit code is made anew."""
    actual, is_output = [], False
    for line in lines:
        if line.startswith("$ podattn"):
            actual += [line] + run_command(podattn, line[2:])
            is_output = True
        elif not is_output:
            actual.append(line)
        elif line.startswith("=> "):
            is_output = False
    return actual


def main(arguments):
    update, baselines = "--update" in arguments, "--baselines" in arguments
    names = [argument for argument in arguments if not argument.startswith("--")]
    if not names:
        sys.exit(__doc__)
    podattn = os.path.abspath(names[0])
    folder = os.path.join(HERE, "cases")
    cases = names[1:] or sorted(name[:-5] for name in os.listdir(folder) if name.endswith(".case"))
    num_failed = 0
    for case in cases:
        path = os.path.join(folder, case + ".case")
        with open(path, encoding="utf-8") as file:
            expected = file.read().splitlines()
        if expected[0] == ("# no baselines" if baselines else "# baselines"):
            print("for another build", case)
            continue
        actual = rebuild(podattn, expected)
        if actual == expected:
            print("ok    ", case)
        elif update:
            with open(path, "w", encoding="utf-8") as file:
                file.write("\n".join(actual) + "\n")
            print("update", case)
        else:
            num_failed += 1
            print("FAILED", case)
            print("\n".join(difflib.unified_diff(expected, actual, "expected", "actual", lineterm="")))
    print("%d of %d cases failed" % (num_failed, len(cases)))
    sys.exit(num_failed > 0)


if __name__ == "__main__":
    main(sys.argv[1:])
