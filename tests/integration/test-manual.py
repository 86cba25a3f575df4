#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is installed beside the programs says what they are: manual pages, completion, the service."""
import json
import os
import pty
import re
import select
import subprocess
import time

from programs import BOUND, CTL, EXIT, HOST, Skip, cell, main, need

DATA = os.environ["TEST_DATA"]
SERVICE = os.environ["TEST_SERVICE"]


def read(*names):
    with open(os.path.join(DATA, *names), encoding="utf-8") as file:
        return file.read()


def page(name, section=1):
    """A manual page's text, with the escapes of troff taken out."""
    return re.sub(r"\\f.|\\[&]", "", read("man", f"{name}.{section}")).replace("\\-", "-")


def options_of(text):
    """(short or None, long) of each option in a --help."""
    return [(match[1], match[2]) for match in re.finditer(r"^  (?:-(\w), )?--([\w-]+)", text, re.MULTILINE)]


def helps(here):
    commands = re.findall(r"^  (\w+)(?: .*)?$", here.good("--help").split("Commands:\n")[1].split("\n\n")[0], re.MULTILINE)
    assert commands[0] == "list" and commands[-1] == "shutdown", commands
    return commands, {"cellhostd": [here.run(HOST, "--help").stdout.decode()],
                      "cellctl": [here.good(*words, "--help") for words in [[]] + [[name] for name in commands]]}


def everything_is_in_the_manual(here):
    commands, texts = helps(here)
    for program, all_of_it in texts.items():
        text = page(program)
        found = {option for one in all_of_it for option in options_of(one)}
        assert len(found) > 5, found
        for short, long in found:
            wanted = rf'-{short} ", " --{long}\b' if short else rf"--{long}\b"
            assert re.search(wanted, text), f"{program}(1) does not have --{long} ({short})"
        documented = set(re.findall(r'^\.B\w* (?:-\w ", " )?--([\w-]+)', text, re.MULTILINE))
        assert documented == {long for _, long in found}, documented ^ {long for _, long in found}
    for name in commands:
        assert re.search(rf"^\.BI? {name}\b", page("cellctl"), re.MULTILINE), name
    codes = re.findall(r"^\.B (\d+)$", page("cellctl"), re.MULTILINE)
    assert sorted(map(int, codes)) == sorted({0, *EXIT.values()}), codes


def keys(value):
    if isinstance(value, list):
        return {key for one in value for key in keys(one)}
    return {*value, *(key for one in value.values() for key in keys(one))} if isinstance(value, dict) else set()


def json_is_in_the_manual(here):
    """Every member of what --json prints, and no other, is in the part of the page that is about that command."""
    here.host("--cell", cell("every"), "--cell", cell("asker"))
    section = page("cellctl").split(".SH JSON\n")[1].split("\n.SH ")[0]
    for command, about_whom in (("list", []), ("introspect", ["every"]), ("stats", ["every"]), ("grants", ["asker"])):
        about = section.split(f"\n.B {command}\n")[1].split("\n.RE\n" if command == "introspect" else "\n.TP\n")[0]
        words = re.sub('"[^"]*"', " ", " ".join(re.findall(r"^\.(?:BR|RB|B) (.*)$", about, re.MULTILINE)))
        bold = set(re.findall(r"\b([a-z_][a-z0-9_]*)\b", words))
        found = keys(json.loads(here.good("--json", command, *about_whom)))
        assert bold - {"plain", "array", "optional"} == found, (command, bold ^ found)


def source(*names):
    with open(os.path.join(os.path.dirname(DATA), "src", *names), encoding="utf-8") as file:
        return file.read()


def key_file_is_in_the_manual(here):
    """Each group and key that the parser knows, and no other, with its bounds; and what the page has as an example is one."""
    text = page("cellhost-cell", 5)
    parser, permits = source("plugins", "manifest.c"), source("plugins", "permits.c")
    known = set(re.findall(r'"(\w+)"', re.search(r"known\[\] = \{(.*?)\}", parser, re.DOTALL)[1]))
    known |= set(re.findall(r'"(\w+)"', re.search(r" keys\[\w+\] = \{(.*?)\}", permits, re.DOTALL)[1]))
    known.add(re.search(r'#define NETWORK "(\w+)"', permits)[1])
    documented = set(re.findall(r"^\.TP\n\.BI (\w+)= ", text, re.MULTILINE))
    assert len(known) == 14 and documented == known, documented ^ known
    groups = set(re.findall(r'g_str_equal \(groups\[i\], "(\w+)"\)', parser))
    assert groups == set(re.findall(r"^\.SH THE GROUP \[(\w+)\]", text, re.MULTILINE)) == {"Cell", "Config"}, groups
    bounds = {name: int(number) << int(shift or 0) for name, number, shift in re.findall(
        r"^#define (?:MANIFEST|(?=PERMITS))_?(\w+) \(?(\d+)u(?: << (\d+)|\b)", source("plugins", "manifest.h")
        + source("plugins", "permits.h"), re.MULTILINE)}
    for key, said in (("RestartIntensity", "0 to {INTENSITY_MAX},"), ("RestartIntensity", "Without it, {INTENSITY}."),
                      ("RestartWindow", "1 to {WINDOW_MAX};"), ("RestartWindow", "without it, {WINDOW}."),
                      ("Watchdog", "1 to {WATCHDOG_MAX},"), ("Memory", "{MEMORY_MIN} to {MEMORY_MAX} MiB"),
                      ("Devices", "{PERMITS_MAX} of a kind at most")):
        about = text.split(f".BI {key}= ")[1].split("\n.TP\n")[0]
        assert said.format(**bounds) in about, (key, said.format(**bounds), about)
    assert f"up to {bounds['MAX_SIZE']} KiB" in text, bounds
    example = text.split(".SH EXAMPLE\n")[1].split(".EX\n")[1].split(".EE\n")[0]
    here.write("ledger.cell", example)
    rows = json.loads(here.ctl("validate", "--json", "ledger.cell").stdout)
    assert rows[0]["rule"] == "key file" and rows[0]["kept"] and not rows[1]["kept"], rows


def pages_are_well_formed(here):
    need("groff")
    for name in sorted(os.listdir(os.path.join(DATA, "man"))):
        done = here.run("groff", "-man", "-Tutf8", "-ww", "-z", os.path.join(DATA, "man", name))
        assert done.returncode == 0 and not done.stderr, done


def the_service_is_sound(here):
    need("systemd-analyze")
    with open(SERVICE, encoding="utf-8") as file:
        text = file.read()
    installed = re.search(r"^ExecStart=(\S+/cellhostd)$", text, re.MULTILINE)[1]
    here.write("cellhostd.service", text.replace(installed, HOST))      # it need not be installed yet
    done = here.run("systemd-analyze", "--user", "--man=no", "verify", here.path("cellhostd.service"))
    assert done.returncode == 0 and b"cellhostd.service" not in done.stderr, done


# ---- other languages ---------------------------------------------------------------------------------------


def catalogues_are_complete(here):
    """Each has all that the sources say, nothing that they do not say any more, and formats that fit."""
    need("xgettext", "msgcmp")
    top = os.path.dirname(DATA)
    with open(os.path.join(top, "po", "LINGUAS"), encoding="utf-8") as file:
        languages = [line.strip() for line in file if not line.startswith("#")]
    done = here.run("xgettext", "--from-code=UTF-8", "--keyword=_", "--keyword=N_", "--files-from=po/POTFILES",
                    "-o", here.path("all.pot"), cwd=top)
    assert done.returncode == 0, done
    assert languages
    for language in languages:
        catalogue = os.path.join(top, "po", language + ".po")
        for argv in (["msgfmt", "--check", "-o", os.devnull, catalogue], ["msgcmp", catalogue, here.path("all.pot")]):
            done = here.run(*argv)
            assert done.returncode == 0 and not done.stderr, (argv, done.stderr.decode())


def translations(here):
    """Every file with text for a person is listed, and whoever has another language sees it."""
    top = os.path.dirname(DATA)
    with open(os.path.join(top, "po", "POTFILES"), encoding="utf-8") as file:
        listed = {line.strip() for line in file if not line.startswith("#")}
    marked = set()
    for folder in ("cli", "daemon", "demo"):
        for name in os.listdir(os.path.join(top, "src", folder)):
            path = f"src/{folder}/{name}"
            if name.endswith(".c"):
                with open(os.path.join(top, path), encoding="utf-8") as file:
                    marked |= {path} if re.search(r"\bN?_ \(\"|\bN?_\(\"", file.read()) else set()
    assert listed == marked, listed ^ marked
    catalogue, places = os.environ["TEST_CATALOGUES"], os.environ["TEST_LOCALEDIR"]
    if not os.path.exists(os.path.join(catalogue, "de", "LC_MESSAGES", "cellhost.mo")):
        raise Skip("there is no msgfmt")
    # Where catalogues are installed is known to the programs; a namespace has ours there.
    names = here.run("bwrap", "--dev-bind", "/", "/", "--tmpfs", os.path.dirname(places), "--ro-bind", catalogue, places, "true")
    if names.returncode != 0:
        raise Skip("bubblewrap cannot make a namespace here")
    for argv, language, wanted in (([CTL], "de", "es fehlt ein Befehl: list, "), ([CTL], "C", "a command is missing: list, "),
                                   ([CTL, "list"], "de", "no host answers"), ([HOST, "x"], "de", "„x“ ist keine Option; siehe")):
        done = here.run("bwrap", "--dev-bind", "/", "/", "--tmpfs", os.path.dirname(places), "--ro-bind", catalogue, places, *argv,
                        env=dict(here.env, LC_ALL="C.UTF-8", LANGUAGE=language))
        assert done.returncode > 0 and wanted in done.stderr.decode(), done
    done = here.run("bwrap", "--dev-bind", "/", "/", "--tmpfs", os.path.dirname(places), "--ro-bind", catalogue, places,
                    CTL, "load", "--help", env=dict(here.env, LC_ALL="C.UTF-8", LANGUAGE="de"))
    assert "DATEI [NAME] [SCHLÜSSEL=WERT...]" in done.stdout.decode(), done


# ---- completion, as somebody types --------------------------------------------------------------------------


class Shell:
    """A shell at a terminal that completes: what stands in the line after a Tab."""

    def __init__(self, here):
        programs = here.path("bin")
        os.mkdir(programs)
        for program in (CTL, HOST):
            os.symlink(program, os.path.join(programs, os.path.basename(program)))
        self.terminal, end = pty.openpty()
        env = dict(here.env, PATH=programs + ":" + here.env["PATH"], PS1="", TERM="dumb", INPUTRC="/dev/null", HISTFILE="/dev/null")
        self.process = here.spawn("bash", "--norc", "--noprofile", "-i", env=env, stdin=end, stdout=end, stderr=subprocess.DEVNULL,
                                  start_new_session=True)
        os.close(end)
        for name in ("cellctl", "cellhostd"):
            self.send(f". '{os.path.join(DATA, 'completions', name)}'\n")
        # A line is shown, and not run, by what is bound to these keys; the terminal's own echo is not read.
        self.send("bind 'set enable-bracketed-paste off'; bind 'set bell-style none'\n")
        self.send(r"""show () { printf '<%s>\n' "$READLINE_LINE" >&3; READLINE_LINE=; READLINE_POINT=0; }""" + "\n")
        self.output = here.path("lines")
        os.mkfifo(self.output)
        self.reader = os.open(self.output, os.O_RDONLY | os.O_NONBLOCK)
        self.send(f"exec 3>'{self.output}'; bind -x '\"\\C-xs\": show'; echo ready >&3\n")
        assert self.line() == "ready\n"

    def send(self, text):
        os.write(self.terminal, text.encode())

    def line(self):
        """What the shell has written for us; what it writes to the terminal is thrown away."""
        text, until = b"", time.monotonic() + BOUND
        while not text.endswith(b"\n"):
            assert time.monotonic() < until, text
            ready = select.select([self.reader, self.terminal], [], [], 1)[0]
            if self.terminal in ready:
                os.read(self.terminal, 65536)
            if self.reader in ready:
                text += os.read(self.reader, 65536)
                time.sleep(0 if text else 0.01)         # before it is opened there is an end of file
        return text.decode()

    def complete(self, typed):
        self.send(typed + "\t\x18s")
        return self.line()[1:-2]


def completion_of_cellctl(here):
    need("bash")
    here.env["CELL_PATH"] = here.path("nowhere") + ":" + here.path("said here")
    here.host("--cell", cell("mirror"))
    other = here.host("--socket", "other", "--state-dir", "others", "--cell", cell("memory"))
    assert other.poll() is None
    shell = Shell(here)
    here.write("picture.so", "")
    for folder, name in (("data_home/cellhost/cells", "installed.so"), ("said here", "spoken.cell")):
        os.makedirs(here.path(folder))
        here.write(os.path.join(folder, name), "")
    for typed, wanted in [
            ("intr", "introspect "), ("help eje", "help eject "), ("--ver", "--version "), ("list --js", "list --json "),
            ("unload mi", "unload mirror "), ("call mir", "call mirror "), ("call --out", "call --output "),
            ("call mirror scal", "call mirror scalars "), ("call mirror @nu", "call mirror @number "),
            ("call mirror =nu", "call mirror =number "), ("call mirror texts te", "call mirror texts text="),
            ("call mirror shapes ma", "call mirror shapes maybe="), ("call mirror blobs @pict", "call mirror blobs @picture.so "),
            ("call mirror blobs one=@pict", "call mirror blobs one=@picture.so "), ("load pic", "load picture.so "),
            ("load inst", "load installed "), ("validate spo", "validate spoken "), ("swap mirror inst", "swap mirror installed "),
            ("eject ho", "eject ho"), ("absorb ho", "absorb ho"), ("unload ho", "unload ho"), ("stats ho", "stats host "),
            ("--socket other call mem", "--socket other call memory "),
            ("--socket=other stats mem", "--socket=other stats memory "),
            ("--socket oth", "--socket other"), ("call --timeout 5 mirror nothi", "call --timeout 5 mirror nothing ")]:
        line = shell.complete("cellctl " + typed)
        # After a file bash adds a blank only when it is asked to complete files.
        assert line.rstrip() == ("cellctl " + wanted).rstrip() and line.endswith("=") == wanted.endswith("="), (typed, line, wanted)
    assert shell.complete("cellhostd --log-level war").rstrip() == "cellhostd --log-level warning"


def offered(here, program, line):
    script = ('. "$1"; COMP_LINE=$2 COMP_POINT=${#2} COMP_WORDS=($2 "") COMP_CWORD=$((${#COMP_WORDS[@]} - 1));'
              f' _{program}; printf "%s\\n" "${{COMPREPLY[@]}}"')
    done = here.run("bash", "-c", script, "bash", os.path.join(DATA, "completions", program), line)
    assert done.returncode == 0 and not done.stderr, done
    return set(done.stdout.decode().split())


def completion_knows_everything(here):
    need("bash")
    commands, texts = helps(here)
    for name, text in zip([""] + commands, texts["cellctl"]):
        line = "cellctl " + (name + " " if name else "") + "--"
        assert offered(here, "cellctl", line) == {"--" + long for _, long in options_of(text)}, line
    options = {"--" + long for _, long in options_of(texts["cellctl"][0])}
    assert offered(here, "cellctl", "cellctl ") - options == {*commands, "help"}
    assert offered(here, "cellhostd", "cellhostd ") == {"--" + long for _, long in options_of(texts["cellhostd"][0])}


main([everything_is_in_the_manual, json_is_in_the_manual, key_file_is_in_the_manual, pages_are_well_formed, the_service_is_sound,
      catalogues_are_complete, translations, completion_of_cellctl, completion_knows_everything])
