#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How podattn writes files: whole or not at all, through links, and one process at a time.

usage: check_files.py PODATTN
"""
import fcntl
import os
import resource
import signal
import stat
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
TIMEOUT_S = 300
PLAN = "plan --decode 4@64 --target sms=8 --svg"
STEPS = "replay --synthetic chat --requests 4 --chunk 64 --write-batches"
OLD = "what was there\n"


class Podattn:
    def __init__(self, program, folder):
        self.program = program
        self.folder = folder

    def run(self, command, path=None, *, limit_bytes=None, ends_by_signal=False):
        """`limit_bytes` is what a file may have, as if the disk were full then. A write beyond that fails, or, with
        `ends_by_signal`, brings a signal that ends the program.
        """

        def limit():
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL if ends_by_signal else signal.SIG_IGN)

        return subprocess.run(
            [self.program, *command.split(), *([path] if path else [])],
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            preexec_fn=None if limit_bytes is None else limit,
            restore_signals=False,
        )

    def path(self, name):
        return os.path.join(self.folder, name)

    def read(self, name):
        with open(self.path(name), encoding="utf-8") as file:
            return file.read()

    def write(self, name, text, mode=0o644):
        with open(self.path(name), "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(self.path(name), mode)

    def files(self):
        return sorted(os.listdir(self.folder))


def failed(done, *words):
    """One line on standard error, and nothing else."""
    assert done.returncode == 2 and done.stdout == "", done
    assert done.stderr.startswith("podattn: ") and done.stderr.count("\n") == 1, done.stderr
    assert all(word in done.stderr for word in words), (words, done.stderr)
    return True


def check_new(podattn):
    for number, command in enumerate((PLAN, STEPS)):
        name = f"{number}" + "x" * 254  # as long as a name may be
        done = podattn.run(command, name)
        assert done.returncode == 0, done
        mask = os.umask(0)
        os.umask(mask)
        assert stat.S_IMODE(os.stat(podattn.path(name)).st_mode) == 0o666 & ~mask
        assert podattn.read(name).endswith("\n")
    assert len(podattn.files()) == 2


def check_signal(podattn):
    """A program that a signal ends while it writes leaves what was there, and nothing beside it."""
    for command in (PLAN, STEPS):
        done = podattn.run(command, "new", limit_bytes=100, ends_by_signal=True)
        assert done.returncode == -signal.SIGXFSZ and podattn.files() == [], (done, podattn.files())
    podattn.write("old.svg", OLD)
    assert podattn.run(PLAN, "old.svg", limit_bytes=100, ends_by_signal=True).returncode == -signal.SIGXFSZ
    assert podattn.files() == ["old.svg"] and podattn.read("old.svg") == OLD


def check_full_disk(podattn):
    for command in (PLAN, STEPS):
        failed(podattn.run(command, "new", limit_bytes=100), "new: File too large")
        assert podattn.files() == []
    podattn.write("old.svg", OLD)
    failed(podattn.run(PLAN, "old.svg", limit_bytes=100), "old.svg: File too large")
    assert podattn.files() == ["old.svg"] and podattn.read("old.svg") == OLD


def check_replaced(podattn):
    """Links stay, and what they point to keeps its mode."""
    os.mkdir(podattn.path("there"))
    podattn.write("there/it.svg", OLD, 0o640)
    os.symlink("there/it.svg", podattn.path("link.svg"))
    assert podattn.run(PLAN, "link.svg").returncode == 0
    assert os.readlink(podattn.path("link.svg")) == "there/it.svg" and "<svg" in podattn.read("there/it.svg")
    assert stat.S_IMODE(os.stat(podattn.path("there/it.svg")).st_mode) == 0o640
    assert os.listdir(podattn.path("there")) == ["it.svg"]
    os.symlink("nowhere.svg", podattn.path("broken.svg"))
    failed(podattn.run(PLAN, "broken.svg"), "broken.svg: is a link to a file that is not there")
    failed(podattn.run(PLAN, "/dev/stdout"), "/dev/stdout: is no file that could be replaced")
    podattn.write("fixed.svg", OLD, 0o400)
    done = podattn.run(PLAN, "fixed.svg")
    if os.geteuid() == 0:
        assert done.returncode == 0
    else:
        failed(done, "fixed.svg: Permission denied")
        assert podattn.read("fixed.svg") == OLD
    assert stat.S_IMODE(os.stat(podattn.path("fixed.svg")).st_mode) == 0o400


BENCH = f"bench batches --batches {HERE}/batch_files/tiny.csv --device cpu:1 --repeat 1 --out ."


def check_bench_full_disk(podattn):
    """Without room for its heading no file is begun, an old one stays; without room for a row its rows are whole."""
    failed(podattn.run(BENCH, limit_bytes=100), "./batches.csv: File too large")
    assert podattn.files() == []
    podattn.write("batches.csv", "")  # as a program that was killed leaves it
    assert podattn.run(BENCH).returncode == 0
    whole = podattn.read("batches.csv")
    failed(podattn.run(BENCH + " --overwrite", limit_bytes=100), "./batches.csv: File too large")
    assert podattn.files() == ["batches.csv"] and podattn.read("batches.csv") == whole
    second = whole.index("tiny:both,p16")
    failed(podattn.run(BENCH + " --overwrite", limit_bytes=second + 100), "./batches.csv: File too large")
    left = podattn.read("batches.csv")  # its heading may be longer or shorter than before: it names the load
    rows = [line for line in left.splitlines() if not line.startswith("#")]
    fields = {row.count(";") for row in rows}
    assert left.endswith("\n") and len(fields) == 1 and rows[1:], left
    assert all(row.startswith("tiny:both,contiguous;") for row in rows[1:]), rows
    done = podattn.run(BENCH + " --resume")
    assert done.returncode == 0 and podattn.read("batches.csv").endswith("# done\n"), done


def check_bench_alone(podattn):
    """Two processes never write one file."""
    assert podattn.run(BENCH).returncode == 0
    whole = podattn.read("batches.csv")
    with open(podattn.path("batches.csv"), encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        for mode in ("", " --overwrite", " --resume"):
            failed(podattn.run(BENCH + mode), "./batches.csv: another process is writing it")
    assert podattn.read("batches.csv") == whole
    command = [podattn.program, *BENCH.split(), "--overwrite"]
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    both = [subprocess.Popen(command, cwd=podattn.folder, **pipes) for _ in range(2)]
    errors = [one.communicate(timeout=TIMEOUT_S)[1].decode() for one in both]
    codes = [one.returncode for one in both]
    assert all(code == 0 or (code == 2 and "another process" in error) for code, error in zip(codes, errors)), errors
    assert 0 in codes and podattn.read("batches.csv").endswith("# done\n")
    fields = {line.count(";") for line in podattn.read("batches.csv").splitlines() if not line.startswith("#")}
    assert len(fields) == 1, fields


def check_bench_names(podattn):
    """What goes into a file as it is cannot end a field or a line."""
    for name in ("a;b.csv", 'a"b.csv', "a\nb.csv"):
        podattn.write(name, "")
        bench = [podattn.program, "bench", "batches", "--device", "cpu:1", "--out", "out"]
        for option in ("--batches", "--trace"):
            done = subprocess.run([*bench, option, name], cwd=podattn.folder, capture_output=True, text=True)
            failed(done, option + ' "a', "a quote, a semicolon or a control character")
    assert not os.path.exists(podattn.path("out"))


def main(arguments):
    if len(arguments) != 1:
        sys.exit(__doc__)
    checks = [check_new, check_signal, check_full_disk, check_replaced, check_bench_full_disk, check_bench_alone]
    for check in [*checks, check_bench_names]:
        with tempfile.TemporaryDirectory() as folder:
            check(Podattn(os.path.abspath(arguments[0]), folder))
        print("ok", check.__name__)


if __name__ == "__main__":
    main(sys.argv[1:])
