#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""That pages, man page and completion say what the program does.

Every command in a page is known here. `podattn` must take all its options, and what `plan` is shown to print, which
is simulated and the same everywhere, must be what it prints. Of the others, targets, presets, files and options must
exist. So must the files and headings of links.

usage: check_docs.py PODATTN
"""

import functools
import json
import os
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGES = ("*.md", "docs/*.md", "bench/*.md", "integrations/*/README.md", "src/**/README.md", "tests/*/README.md")
FENCE = re.compile(r"^ *```(?P<info>[^\n]*)\n(?P<text>.*?)^ *```$", re.MULTILINE | re.DOTALL)
SHELL = ("", "bash", "bash run")
# Whose arguments are not ours to check.
FOREIGN = {"vllm", "export", "cc", "build/hello", "g++", "ninja", "PODATTN_COUNT=20", "git", "nsys", "ncu", "sudo"}
# Beginnings of names, kinds of names, kernels.
UNNAMED = re.compile(r".*_$|(?i:pod__?noun)|pod_sm\d+_")
# What changes from machine to machine in the output of plan.
PLANNED = re.compile(r"^planned .*", re.MULTILINE)
MASK = "planned T"


def anchors_of(page):
    """What a link may name of a page: its headings, as GitHub makes anchors of them."""
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


class Checker:
    def __init__(self, program):
        self.program = os.path.abspath(program)
        self.faults = []
        self.num_commands = self.num_outputs = self.num_pictures = 0

    def fault(self, place, text):
        self.faults.append(f"{place}: {text}")

    def output_of(self, *arguments):
        done = subprocess.run([self.program, *arguments], capture_output=True, text=True, timeout=120, check=False)
        return done.stdout if done.returncode == 0 else "failed: " + done.stderr

    def help_of(self, *command):
        return self.output_of(*command, "--help")

    # ---- help, man page, completion ----

    def commands(self):
        return dict(re.findall(r"^  ([a-z]+) +(.*)$", self.help_of(), re.MULTILINE))

    def check_one_table(self):
        commands = self.commands()
        manual = (ROOT / "cli/podattn.1").read_text().replace("\\-", "-")
        described = manual.split(".SH DESCRIPTION")[1].split(".PP")[0]
        said = {
            "cli/podattn.1": dict(re.findall(r"^\.TP\n\.B (\S+)\n(.*)$", described, re.MULTILINE)),
            "docs/cli.md": dict(
                re.findall(r"^podattn ([a-z]+)(?: +[][A-Za-z.]+)? {3,}(.*)$", self.page("docs/cli.md"), re.MULTILINE)
            ),
        }
        for place, table in said.items():
            for name in sorted({*commands, *table}):
                if commands.get(name) != table.get(name):
                    self.fault(place, f"{name}: {table.get(name)!r}, and --help says {commands.get(name)!r}")
        for line in re.search(r"^\.EX\n(.*?)^\.EE$", manual, re.MULTILINE | re.DOTALL)[1].splitlines():
            self.check_podattn("cli/podattn.1", shlex.split(line)[1:])

    def check_each_help(self):
        pages = self.page("docs/cli.md")
        for name in self.commands():
            text = self.help_of(name)
            example = re.search(r"\nexample\n  podattn (.*)\n", text)
            if example is None or not example[1].startswith(name):
                self.fault(f"podattn {name} --help", "has no example of its own")
            else:
                self.check_podattn(f"podattn {name} --help", shlex.split(example[1]))
            for option in re.findall(r"^  (--[a-z-]+)", text, re.MULTILINE):
                if option not in pages:
                    self.fault("docs/cli.md", f"does not have {option} of podattn {name}")

    def completed(self, *words):
        """What bash offers for the last of the words."""
        script = 'source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _podattn; echo "${COMPREPLY[*]}"'
        file = ROOT / "cli/podattn.bash-completion"
        done = subprocess.run(
            ["bash", "-c", script, "bash", file, self.program, *words], capture_output=True, text=True, check=True
        )
        return set(done.stdout.split())

    def check_completion(self):
        place = "cli/podattn.bash-completion"
        commands = self.commands()
        if self.completed("") != {*commands, "--help", "--version"}:
            self.fault(place, f"offers {sorted(self.completed(''))} as commands")
        for name in commands:
            options = {"--help", *re.findall(r"^  (--[a-z-]+)", self.help_of(name), re.MULTILINE)}
            if self.completed(name, "-") != options:
                self.fault(
                    place, f"{name}: offers {sorted(self.completed(name, '-'))}, the options are {sorted(options)}"
                )
        suites = re.findall(r"^  (\w+)", self.help_of("bench").split("\nsuites")[1], re.MULTILINE)
        if not {"sweep", "peak"} <= self.completed("bench", "") or not self.completed("bench", "") <= set(suites):
            self.fault(place, f"offers {sorted(self.completed('bench', ''))} as suites")

    # ---- pages ----

    def page(self, name):
        return (ROOT / name).read_text()

    def check_podattn(self, place, arguments):
        """Options are read from left to right up to --help, which then leaves nothing to do."""
        said = self.help_of(*arguments)
        if said.startswith("failed"):
            self.fault(place, f"podattn {shlex.join(arguments)}: {said.strip()}")

    def check_output(self, place, arguments, shown):
        if "--svg" in arguments:
            del arguments[arguments.index("--svg") : arguments.index("--svg") + 2]
        printed = PLANNED.sub(MASK, self.output_of(*arguments))
        # Lines that are left out are shown as "..."; lines of one table may be cut.
        parts = [part.strip("\n") for part in re.split(r"^\.\.\.$", PLANNED.sub(MASK, shown), flags=re.MULTILINE)]
        position = 0
        for part in filter(None, parts):
            found = printed.find(part, position)
            if found < 0:
                self.fault(place, f"podattn {shlex.join(arguments)} prints\n{printed}\nwhich has not\n{part}")
                return
            position = found + len(part)
        self.num_outputs += 1

    def check_script(self, place, file, arguments):
        path = ROOT / file
        if not path.exists():
            self.fault(place, f"there is no {file}")
        elif path.suffix == ".py":
            sources = "".join(source.read_text() for source in (path, *path.parent.glob("*/*.py")))
            for option in re.findall(r"^--[a-z-]+", "\n".join(arguments), re.MULTILINE):
                if f'"{option}"' not in sources:
                    self.fault(place, f"{file} has no {option}")

    def check_presets(self, place, arguments):
        presets = json.loads(self.page("CMakePresets.json"))["configurePresets"]
        names = {preset["name"] for preset in presets}
        for option, value in zip(arguments, arguments[1:]):
            if option == "--preset" and value not in names:
                self.fault(place, f"there is no preset {value}")

    def check_words(self, place, words):
        """One command of a page, as words."""
        while words and re.fullmatch(r"\w+=.*", words[0]) and words[0] not in FOREIGN:
            words = words[1:]
        if not words:
            return
        self.num_commands += 1
        program, arguments = words[0].removeprefix("venv/bin/"), words[1:]
        if os.path.basename(program) == "podattn":
            self.check_podattn(place, arguments)
        elif program == "make":
            for target in arguments:
                if "=" not in target and not re.search(rf"^{re.escape(target)}:", self.page("Makefile"), re.MULTILINE):
                    self.fault(place, f"the Makefile has no {target}")
        elif program in ("python3", "python", "$(bench/venv.sh)"):
            if arguments[0] not in ("-m", "-c"):
                self.check_script(place, arguments[0], arguments[1:])
        elif program == "torchrun":
            first = next(number for number, word in enumerate(arguments) if word.endswith(".py"))
            self.check_script(place, arguments[first], arguments[first + 1 :])
        elif program in ("cmake", "ctest"):
            self.check_presets(place, arguments)
        elif program == "pip":
            for folder in arguments[1:]:
                if folder.startswith(".") and not (ROOT / folder.split("[")[0]).is_dir():
                    self.fault(place, f"there is no folder {folder}")
        elif program.startswith(("bench/", "tools/", ".ci/")):
            self.check_script(place, program, arguments)
        elif program not in FOREIGN:
            self.fault(place, f"no test knows the command {shlex.join(words)!r}")

    def check_line(self, place, line):
        for command in re.split(r"\s(?:&&|\|)\s", line):
            try:
                self.check_words(place, shlex.split(command, comments=True))
            except ValueError as error:
                self.fault(place, f"{command!r}: {error}")

    def check_block(self, place, info, text, after):
        text = text.replace("\\\n", " ")
        if "\n$ " in "\n" + text:  # a session: commands after "$ ", and what they print
            for command, shown in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", text, re.MULTILINE):
                if not shown.startswith("podattn: "):
                    self.check_line(place, command)
                if "--svg" in command:
                    self.check_picture(place, shlex.split(command)[1:])
                if command.startswith("podattn plan ") and shown.strip():
                    self.check_output(place, shlex.split(command)[1:], shown)
        elif info.startswith("bash"):
            lines = text.splitlines()
            for line in lines:
                self.check_line(place, line)
            shown = re.match(r"\s*```\n(.*?)^```$", after, re.MULTILINE | re.DOTALL)
            if lines[-1].startswith("podattn plan ") and shown:
                self.check_output(place, shlex.split(lines[-1])[1:], shown[1])

    def check_batch(self, place, text):
        """A batch in JSON is one that the program reads."""
        with tempfile.TemporaryDirectory() as folder:
            batch = pathlib.Path(folder, "batch.json")
            batch.write_text(text)
            said = self.output_of("plan", "--target", "cpu", "--batch", str(batch))
        if said.startswith("failed"):
            self.fault(place, said.strip())

    def check_links(self, path, text):
        for target in re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", text)):
            file, _, anchor = target.partition("#")
            if "://" in file:
                continue
            there = (path.parent / file).resolve() if file else path
            if not there.exists():
                self.fault(str(path.relative_to(ROOT)), f"the link {target} leads nowhere")
            elif anchor and anchor not in anchors_of(there.read_text()):
                self.fault(str(path.relative_to(ROOT)), f"{file or 'it'} has no heading #{anchor}")

    def check_picture(self, place, arguments):
        """A picture that a page shows is the one that its command draws."""
        shown = ROOT / "docs" / arguments[arguments.index("--svg") + 1]
        if not shown.exists():
            return
        with tempfile.TemporaryDirectory() as folder:
            drawn = pathlib.Path(folder) / "drawn.svg"
            self.output_of(*arguments[: arguments.index("--svg")], "--svg", str(drawn))
            if drawn.read_bytes() != shown.read_bytes():
                self.fault(place, f"{shown.relative_to(ROOT)} is not what podattn {shlex.join(arguments)} draws")
        self.num_pictures += 1

    def check_names(self, path, text):
        """What a page calls by the library's names is somewhere in the sources, but for kernels, which macros name."""
        if path.name == "CHANGELOG.md":  # of names that went
            return
        for name in sorted(set(re.findall(r"\b(?:pod_|pod__|POD_|PODATTN_)\w+", text))):
            if name not in self.names and not UNNAMED.match(name):
                self.fault(str(path.relative_to(ROOT)), f"there is no {name}")

    @functools.cached_property
    def names(self):
        folders = ("include", "src", "cli", "tests", "python", "integrations", "bench", "examples", "cmake", "tools")
        kinds = re.compile(r"\.(c|h|cu|cuh|cpp|def|py|sh|in|cmake|txt|1)$")
        files = [file for folder in folders for file in (ROOT / folder).rglob("*") if kinds.search(file.name)]
        files += [ROOT / "CMakeLists.txt", ROOT / "Makefile"]
        text = "\n".join(file.read_text(errors="replace") for file in files)
        return set(re.findall(r"\b(?:pod_|pod__|POD_|PODATTN_)\w+", text))

    def check_page(self, path):
        text = path.read_text()
        self.check_names(path, text)
        self.check_links(path, text)
        for block in FENCE.finditer(text):
            place = f"{path.relative_to(ROOT)}:{text.count(chr(10), 0, block.start()) + 1}"
            if block["info"] == "json":
                self.check_batch(place, block["text"])
            elif block["info"] in SHELL:
                self.check_block(place, block["info"], block["text"], text[block.end() :])
        prose = FENCE.sub("", text)
        for command in re.findall(r"(?<!was )`(make [a-z]+(?: [A-Z]+=\S+)?|tools/[^` ]+\.\w+|bench/\w+\.\w+)`", prose):
            self.check_line(str(path.relative_to(ROOT)), command)
        for command, option in re.findall(r"`podattn ([a-z]+) (--[a-z-]+)", prose):
            if option not in self.help_of(command):
                self.fault(str(path.relative_to(ROOT)), f"podattn {command} has no {option}")

    def check_pages(self):
        for pattern in PAGES:
            paths = sorted(ROOT.glob(pattern))
            if not paths:
                self.fault(pattern, "there is no such page")
            for path in paths:
                self.check_page(path)


def main(program):
    checker = Checker(program)
    checker.check_one_table()
    checker.check_each_help()
    checker.check_completion()
    checker.check_pages()
    if checker.num_outputs < 2 or checker.num_pictures < 1:
        checker.fault("docs", "outputs or pictures of podattn plan were not found")
    for fault in checker.faults:
        print(fault)
    print(f"{checker.num_commands} commands, {checker.num_outputs} outputs, {len(checker.faults)} faults")
    return 1 if checker.faults else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
