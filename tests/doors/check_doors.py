#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What the front doors do and say on machines that are not like this one, with every program that they call played.

usage: check_doors.py
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
COPIED = ("Makefile", "tools/setup.sh", "bench/venv.sh", "bench/requirements.txt")
# Writes its call down, then does what is given for it.
PLAYED = """#!/bin/bash
printf '%s\\n' "{name} $*" >>"$CALLS"
{does}
"""
PROGRAMS = {
    "apt-cache": "echo found",
    "apt-get": "",
    "cc": "cat >/dev/null",
    "chown": "",
    "cmake": '[ "$1" != --version ] || echo "cmake version 3.30.0"',
    "id": "echo ${PLAYED_UID:-1000}",
    "ldconfig": "",
    "ninja": "",
    "pkg-config": "",
    "podattn": "",
    "sudo": '"$@"',
}
# A Python as Debian has it without python3-venv and without the packages of the benchmark.
BARE_PYTHON = 'case "$*" in *venv*) echo "The virtual environment was not created"; exit 1 ;; *import*) exit 1 ;; esac'


class Machine:
    """A copy of the front doors in a folder, on a machine that has these programs."""

    def __init__(self, folder, **programs):
        self.folder, self.calls = pathlib.Path(folder), pathlib.Path(folder) / "calls"
        for name in COPIED:
            (self.folder / name).parent.mkdir(exist_ok=True)
            shutil.copy(ROOT / name, self.folder / name)
        self.programs = self.folder / "programs"
        for name, does in {**PROGRAMS, **programs}.items():
            self.play(self.programs / name, does)
        for preset in ("demo", "bench"):
            self.play(self.folder / f"build/{preset}/cli/podattn", "")

    @staticmethod
    def play(path, does):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(PLAYED.format(name=path.name, does=does))
        path.chmod(0o755)

    def run(self, *command, **environment):
        """The exit code, what it said, and what it called."""
        self.calls.write_text("")
        hidden = ("SUDO_UID", "SUDO_GID", "DESTDIR", "PREFIX", "MAKEFLAGS", "MAKELEVEL", "PYTHON", "BENCH_OUT")
        variables = {name: value for name, value in os.environ.items() if name not in hidden}
        variables |= {"PATH": f"{self.programs}:{os.environ['PATH']}", "CALLS": str(self.calls), **environment}
        done = subprocess.run(command, cwd=self.folder, env=variables, capture_output=True, text=True, timeout=60)
        return done.returncode, done.stdout, done.stderr, self.calls.read_text().splitlines()


def installing(calls):
    """Of the calls, those that build and install."""
    return [call for call in calls if call.split()[0] in ("cmake", "ldconfig", "chown") and "--version" not in call]


def built_into(prefix):
    return [
        "cmake --preset install",
        "cmake --build --preset install",
        f"cmake --install build/install --prefix {prefix}",
    ]


def check_install_as_a_user(machine):
    code, _, said, calls = machine.run("make", "install", f"PREFIX={machine.folder}/mine")
    assert code == 0, said
    assert installing(calls) == built_into(f"{machine.folder}/mine"), calls


def check_install_where_one_may_not_write(machine):
    """Also as root, which no folder keeps out: a place below a file."""
    code, _, said, calls = machine.run("make", "install", "PREFIX=/dev/null/local")
    assert code != 0 and installing(calls) == [], calls
    expected = (
        "install: /dev/null/local is not yours to write: sudo make install, or make install PREFIX=a folder of yours"
    )
    assert expected in said, said
    assert "CMake" not in said, said


def check_install_as_root(machine):
    """Programs find the library at once; the folder is the user's again, and not that of `make test`."""
    prefix = f"{machine.folder}/local"
    code, _, said, calls = machine.run("make", "install", f"PREFIX={prefix}", PLAYED_UID="0")
    assert code == 0, said
    assert installing(calls) == [*built_into(prefix), "ldconfig "], calls
    who = {"PLAYED_UID": "0", "SUDO_UID": "1234", "SUDO_GID": "1235"}
    code, _, said, calls = machine.run("make", "install", f"PREFIX={prefix}", **who)
    assert code == 0, said
    assert installing(calls) == [*built_into(prefix), "chown -R 1234:1235 build", "ldconfig "], calls
    staged = machine.run("make", "install", "PREFIX=/usr", f"DESTDIR={machine.folder}/staged", PLAYED_UID="0")
    assert staged[0] == 0 and installing(staged[3]) == built_into("/usr"), staged


def check_install_has_a_folder_of_its_own(_):
    """What root leaves there is in nobody's way."""
    presets = {
        preset["name"]: preset for preset in json.loads((ROOT / "CMakePresets.json").read_text())["configurePresets"]
    }

    def folder_of(preset, name):
        if "binaryDir" in preset:
            return preset["binaryDir"].replace("${presetName}", name)
        parents = preset["inherits"]
        return folder_of(presets[parents if isinstance(parents, str) else parents[0]], name)

    folders = [folder_of(preset, name) for name, preset in presets.items() if not preset.get("hidden")]
    assert folders.count("${sourceDir}/build/install") == 1, folders
    assert len(set(folders)) == len(folders), folders


def check_uninstall_before_install(machine):
    code, _, said, _ = machine.run("make", "uninstall")
    assert code != 0 and "uninstall: make install was not run here" in said, said


def check_setup_with_everything_there(machine):
    code, out, said, calls = machine.run("tools/setup.sh", "demo")
    assert (code, out, said) == (0, "", ""), (code, out, said)
    assert not any(call.startswith(("apt-get", "sudo")) for call in calls), calls


def check_setup_of_the_benchmark(machine):
    """A machine without python3-venv gets it, and is told why."""
    machine.play(machine.programs / "python3", BARE_PYTHON)
    code, out, said, calls = machine.run("tools/setup.sh", "bench", PLAYED_UID="0")
    assert code == 0, said
    assert "setup: 'bench' needs 1 packages that are not installed:\n  python3-venv: " in out, out
    assert "apt-get -y --no-install-recommends install python3-venv" in calls, calls


def check_setup_elsewhere(machine):
    """Neither Debian nor Ubuntu: what is missing is named, and nothing is tried."""
    machine.play(machine.programs / "ninja", "")
    (machine.programs / "ninja").unlink()
    (machine.programs / "apt-get").unlink()
    few = machine.folder / "few"
    few.mkdir()
    for name in ("awk", "bash", "cat", "cmp", "dirname", "env", "grep", "head", "mktemp", "rm", "sort"):
        (few / name).symlink_to(shutil.which(name))
    code, out, said, _ = machine.run("/bin/bash", "tools/setup.sh", "demo", PATH=f"{machine.programs}:{few}")
    assert code != 0, out
    assert "ninja-build: runs the build" in out, out
    assert "this is neither Debian nor Ubuntu; please install the above yourself" in said, said


def check_bench_without_a_venv(machine):
    """The benchmark still runs, and says what is missing for figures; the shell's $(...) gets no message as a path."""
    machine.play(machine.programs / "python3", BARE_PYTHON)
    code, out, said, _ = machine.run("bench/venv.sh")
    assert code != 0 and out == "", out
    assert "The virtual environment was not created" in said, said
    code, out, said, calls = machine.run("make", "bench", PLAYED_UID="0")
    assert code == 0, said
    assert any(call.startswith("podattn bench all --out bench/out ") for call in calls), calls
    assert "bench: no figures: they need matplotlib, which bench/venv.sh gets from the network" in out, out
    assert "The virtual environment was not created" in said, said


def main():
    faults = 0
    for name, check in list(globals().items()):
        if not name.startswith("check_"):
            continue
        with tempfile.TemporaryDirectory() as folder:
            try:
                check(Machine(folder))
            except AssertionError as error:
                faults += 1
                print(f"{name}: {error}")
    print(f"doors: {faults} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
