#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Cells that are broken on purpose, and a running host: each is refused, or contained, with a sentence that names what is wrong.
Afterwards the host serves, and has the descriptors, children and mapped files that it had before."""
import collections
import glob
import json
import os
import re
import shutil
import struct
import subprocess
import threading

from programs import BOUND, CTL, EXIT, Skip, cell, main, stop, wait_until


def bytes_of(name):
    with open(cell(name), "rb") as file:
        return file.read()


# ---- what a host has ---------------------------------------------------------------------------------------


def descriptors(pid):
    """What each is, without the numbers that the kernel counts on."""
    found = collections.Counter()
    for path in glob.glob(f"/proc/{pid}/fd/*"):
        try:
            found[re.sub(r"\d+", "N", os.readlink(path))] += 1
        except FileNotFoundError:
            pass
    return found


def children(pid):
    found = set()
    for path in glob.glob("/proc/[0-9]*/stat"):
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                numbers = file.read().rsplit(")", 1)[1].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(numbers[1]) == pid:
            found.add(path)
    return found


def mapped(pid):
    """Files and shared memory; a heap and a stack may be of any size."""
    found = collections.Counter()
    with open(f"/proc/{pid}/maps", encoding="utf-8") as file:
        for line in file:
            words = line.split(None, 5)
            if len(words) == 6 and words[5].startswith("/"):
                found[words[5].strip()] += 1
    return found


def modules(pid):
    """How many files of cells it has mapped: each is a memory file of its own."""
    found = set()
    with open(f"/proc/{pid}/maps", encoding="utf-8") as file:
        for line in file:
            words = line.split(None, 5)
            if len(words) == 6 and "/memfd:cell-module" in words[5]:
                found.add(words[4])
    return len(found)


class Account:
    """A host with a cell that serves, and what it had when it came to rest."""

    def __init__(self, here, *args):
        self.here = here
        self.host = here.host("--cell", cell("mirror"), *args)
        here.refused("REFUSED", "load", cell("broken-magic"))           # what is made once has been made
        self.serves()
        self.before = self.look()
        wait_until(self.rests, "rest")

    def look(self):
        return descriptors(self.host.pid), children(self.host.pid), mapped(self.host.pid)

    def rests(self):
        before, self.before = self.before, self.look()
        return before == self.before

    def serves(self):
        assert self.here.good("call", "mirror", "texts", "a", "") == "text: a\ndata: -\nsize: 0\n"

    def settle(self, what):
        """All is as it was; what a connection or a child had goes a moment after its end."""
        self.serves()
        try:
            wait_until(lambda: self.look() == self.before, what)
        except AssertionError:
            for before, after in zip(self.before, self.look()):
                print(f"# {what}: {before} is now {after}")
            raise

    def refuse(self, path, sentence, error="REFUSED", *more):
        said = self.here.refused(error, "load", path, *more)
        assert sentence in said, (path, sentence, said)
        return said


# ---- what nothing of may run ---------------------------------------------------------------------------------

BEFORE = {
    "magic": "cell_entry.magic: this host has 0x4c4c4543, the plugin has 0x12345678",
    "major": "cell_entry.abi_major: this host has 0, the plugin has 1",
    "minor": "cell_entry.abi_minor: this host has 9, the plugin has 10",
    "size": "the plugin has 24",
    "build-thread": "ThreadSanitizer",
    "build-address": "AddressSanitizer",
    "build-pointers": "64-bit pointers",
    "build-unknown": "cell_entry.build: this host knows 0xf",
    "no-entry": "it does not export cell_entry: it is no cell",
    "extra-symbol": "it exports helper, and a cell exports cell_entry alone",
    "weak-symbol": "it exports helper, and a cell exports cell_entry alone: make it static, compile with -fvisibility=hidden, or",
    "mangled-symbol": "it exports _ZSt6helperv, and a cell exports cell_entry alone: link with the SDK's version script, -Wl,",
}


def refused_before_anything_of_it_runs(here):
    account = Account(here)
    for name, sentence in BEFORE.items():
        said = account.refuse(cell("broken-" + name), sentence)
        assert f"broken-{name}.so" in said, said
    account.settle("a cell whose entry is broken")


def files_that_are_no_cells(here):
    account = Account(here)
    whole = bytes_of("whole")
    machine = bytearray(whole)
    struct.pack_into("<H", machine, 18, 4)
    wrong = {
        "text.so": (b"#!/bin/sh\n", "it is not an ELF file"),
        "empty.so": (b"", "it is not an ELF file"),
        "header.so": (whole[:40], "it ends within its ELF header"),
        "cut.so": (whole[:len(whole) // 2], "it ends within"),
        "end.so": (whole[:-1], "it ends within its table of sections"),
        "machine.so": (machine, "the plugin was built for 4 (unknown)"),
    }
    for name, (content, sentence) in wrong.items():
        account.refuse(here.write(name, bytes(content), 0o755), sentence)
    os.mkdir(here.path("folder.so"))
    account.refuse(here.path("folder.so"), "it is not a regular file")
    os.mkfifo(here.path("fifo.so"))
    account.refuse(here.path("fifo.so"), "it is not a regular file")
    account.refuse(here.path("nothing.so"), "there is no file", "NOT_FOUND")
    account.refuse(here.write("words.txt", "words"), "a cell's file is a module", "INVALID")
    account.settle("a file that is no cell")


def files_that_others_can_write_to(here):
    account = Account(here)
    account.refuse(here.write("group.so", bytes_of("whole"), 0o775), "its mode 0775 lets others write to it")
    here.write("own.so", bytes_of("whole"), 0o755)
    here.write("own.cell", "[Cell]\n", 0o666)
    account.refuse(here.path("own.cell"), "its mode 0666 lets others write to it")
    account.refuse(here.path("own.so"), "its mode 0666 lets others write to it")
    os.mkdir(here.path("open"))
    here.write("open/own.so", bytes_of("whole"), 0o755)
    os.chmod(here.path("open"), 0o777)
    account.refuse(here.path("open", "own.so"), f"the folder {here.path('open')} has mode 0777")
    account.settle("a file that others can write to")


def key_files(here):
    account = Account(here)
    here.write("own.so", bytes_of("whole"), 0o755)
    for content, sentence in (("[Cell]\nName=a b\n", "a cell cannot be called 'a b'"), ("[Cell]\nColour=red\n", "has a key Colour"),
                              ("[Sell]\n", "a group [Sell]"), ("#" * 70000, "it has 70000 bytes"), ("nonsense", "nonsense")):
        here.write("own.cell", content)
        account.refuse(here.path("own.so"), sentence, "REFUSED" if len(content) > 65536 else "INVALID")
    here.write("own.cell", "[Cell]\nInterface=org.example.Other\n")
    account.settle("a key file that is wrong")


def need_sandbox(here):
    if here.run("bwrap", "--unshare-all", "--unshare-user", "--ro-bind", "/", "/", "true").returncode != 0:
        raise Skip("bubblewrap cannot make a sandbox here")


# ---- what its tables say -----------------------------------------------------------------------------------

AFTER = {
    "tail": "cell_entry.size",
    "type-size": "the plugin has 16",
    "field-size": "cell_entry.field_size: this host has 48, the plugin has 8",
    "options-size": "the plugin has 4",
    "options-newer": "cell_entry.options_size",
    "no-options": "cell_entry.options_size",
    "no-host": "cell_entry.host: there is no place for the host's functions",
    "self-size": "cell_entry.self_size: this host has 1073741824, the plugin has 2147483647",
    "threading": "options.threading: this host knows 0 to 2, the plugin has 7",
    "save-only": "options.save: it saves a state, and has no restore to read it",
    "restore-only": "options.restore: it restores a state, and has no save to write it",
    "interface": "interface's name cannot be called ''",
    "no-interface": "an interface's name has 1 to",
    "method-name": "the method cannot be called 'to work'",
    "method-keyword": "the method cannot be called 'int': C reserves the name",
    "no-name": "the method cannot be called ''",
    "field-name": "the field cannot be called '1st'",
    "field-keyword": "has a field called 'class': C or C++ reserves the name",
    "many-outputs": "method work has more than 31 of a kind",
    "struct-name": "the type cannot be called 'a-b'",
    "member-name": "the field cannot be called 'a;b'",
    "doc": "the documentation of method work is not UTF-8",
    "twice": "there are two of method work",
    "kind": "an item of kind 77",
    "no-handler": "method work has no handler",
    "outside": "calls lies at byte 4096",
    "items-end": "cell_entry.items: this host takes 0 to 1024, the plugin has -1",
    "too-many": "cell_entry.items: this host takes 0 to 1024, the plugin has 100000",
    "unresolved": "nobody_has_this",
}


def refused_for_its_tables(here):
    need_sandbox(here)                  # its tables can be read where it has been loaded, which the host has done for it
    account = Account(here)
    for name, sentence in AFTER.items():
        said = account.refuse(cell("broken-" + name), sentence)
        assert f"broken-{name}.so" in said, said
    account.settle("a cell whose tables are broken")


def a_missing_library(here):
    account = Account(here)
    changed = bytes_of("mirror").replace(b"\0libc.so.6\0", b"\0nobody.so\0")
    assert changed != bytes_of("mirror")
    account.refuse(here.write("needy.so", changed, 0o755), "it needs the library nobody.so, which is not on this machine")
    account.settle("a cell that needs a library")


def two_of_one_name(here):
    account = Account(here)
    account.refuse(cell("mirror"), "there is a cell mirror already", "EXISTS")
    account.refuse(cell("memory"), "there is a cell mirror already", "EXISTS", "mirror")
    account.refuse(cell("memory"), "there is a cell host already", "EXISTS", "host")
    account.refuse(cell("memory"), "a cell cannot be called 'two words'", "INVALID", "two words")
    account.settle("a name that is taken")


def documentation_that_is_code(here):
    """It is text for whoever reads it, and nothing more in what is made of it."""
    account = Account(here)
    here.good("load", cell("comment"))
    header = here.good("client", "comment")
    assert "/* * / int broken_a; / * */\n" in header and '"*/\\"); int broken_b; /*"' in header, header
    here.good("unload", "comment")
    account.serves()


# ---- what it does --------------------------------------------------------------------------------------------


RUDE = {
    "crash-load": "it crashed (Segmentation fault) while its constructors ran",
    "abort-load": "it crashed (Aborted) while its constructors ran",
    "exit-load": "it ended its process (exit status 3) while its constructors ran",
    "crash-start": "it crashed (Segmentation fault) while a cell was made of it",
    "crash-end": "it crashed (Segmentation fault) while the cell was ended",
}


def crashes_when_it_is_loaded(here):
    """It is the sandbox that it was tried in which crashes, and that is remembered."""
    need_sandbox(here)
    account = Account(here)
    for name, sentence in RUDE.items():
        for _ in range(2):
            said = account.refuse(cell("rude-" + name), sentence)
            assert f"rude-{name}" in said, said
    account.settle("a cell that crashes")


def init_that_fails(here):
    """A sandbox may be why, so the host tries it, too: the module that was loaded for it stays, and is counted."""
    account = Account(here)
    for _ in range(2):
        assert here.refused("UNREACHABLE", "load", cell("rude-fail-start"))
    assert modules(account.host.pid) == 3 and here.good("call", "host", "@modules") == "value: 3\n"
    assert here.good("call", "host", "@retired_modules") == "value: 2\n"
    wait_until(lambda: (descriptors(account.host.pid), children(account.host.pid)) == account.before[:2], "what it had")
    account.serves()


def hangs_when_it_is_loaded(here):
    """Both at a time: each is given up after a while."""
    need_sandbox(here)
    account = Account(here)
    when = {"hang-load": b"its constructors ran", "hang-start": b"a cell was made of it"}
    hanging = {name: here.spawn(CTL, "load", cell("rude-" + name), stderr=subprocess.PIPE) for name in when}
    for name, process in hanging.items():
        account.serves()
        said = process.communicate(timeout=BOUND)[1]
        assert process.returncode == EXIT["REFUSED"] and b"it did not end within" in said and when[name] in said, (name, said)
    account.settle("a cell that hangs")


def handlers_in_a_sandbox(here):
    """One that crashes takes its own process along, and is there again; one that hangs is given up by its caller, and killed when
    somebody says so."""
    need_sandbox(here)
    account = Account(here)
    here.good("load", cell("loiterer"), "crashes")
    here.good("eject", "crashes")
    assert here.refused("CRASHED", "call", "crashes", "crash")
    account.serves()
    assert here.good("call", "crashes", "@rounds") == "value: 0\n"
    row = next(row for row in json.loads(here.good("list", "--json")) if row["name"] == "crashes")
    assert row["restarts"] == 1 and row["location"] == "sandbox" and "killed by SIG" in row["reason"], row
    here.good("load", cell("loiterer"), "hangs")
    here.good("eject", "hangs")
    assert here.refused("DEADLINE", "call", "hangs", "hang")
    account.serves()
    here.good("unload", "crashes")
    assert "--force" in here.refused("BUSY", "unload", "hangs")
    here.good("unload", "--force", "hangs")
    wait_until(lambda: not children(account.host.pid) - account.before[1], "the end of its children")
    wait_until(lambda: descriptors(account.host.pid) == account.before[0], "the end of their descriptors")
    account.serves()


def a_thread_that_is_left_behind(here):
    """Nothing is unmapped: it finds its code and its variables, until it ends by itself."""
    account = Account(here)
    here.good("load", cell("loiterer"))
    here.good("call", "loiterer", "leave_thread", here.path("enough"))
    wait_until(lambda: here.good("call", "loiterer", "@rounds") != "value: 0\n", "the thread")
    here.good("unload", "loiterer")
    account.serves()
    # The same bytes again are a module of their own, which knows nothing of the thread.
    here.good("load", cell("loiterer"))
    assert here.good("call", "loiterer", "@rounds") == "value: 0\n"
    assert next(row for row in json.loads(here.good("list", "--json")) if row["name"] == "loiterer")["retired"] == 1
    assert modules(account.host.pid) == 3 and here.good("call", "host", "@modules") == "value: 3\n"
    assert here.good("call", "host", "@retired_modules") == "value: 1\n"
    here.write("enough", "")
    wait_until(lambda: not os.path.exists(here.path("enough")), "the end of the thread")
    account.serves()
    assert stop(account.host) == 0


def a_file_that_is_swapped(here):
    """What was looked at is what is loaded, whatever becomes of the file meanwhile: the other one ends who loads it."""
    account = Account(here)
    for name, source in (("good", "whole"), ("bad", "broken-magic")):
        shutil.copy(cell(source), here.path(name))
        os.chmod(here.path(name), 0o755)
    shutil.copy(here.path("good"), here.path("swapped.so"))
    done = threading.Event()

    def swap():
        while not done.is_set():
            for name in ("bad", "good"):
                shutil.copy(here.path(name), here.path("next.so"))
                os.replace(here.path("next.so"), here.path("swapped.so"))

    thread = threading.Thread(target=swap)
    thread.start()
    seen = collections.Counter()
    modules_before, here_loaded = modules(account.host.pid), 0
    try:
        for _ in range(60):
            tried = here.ctl("load", here.path("swapped.so"), "swapped")
            seen[tried.returncode] += 1
            if tried.returncode == 0:
                here.good("call", "swapped", "work")
                # One that was replaced while it was read lies nowhere any more, and is taken for foreign.
                row = next(row for row in json.loads(here.good("list", "--json")) if row["name"] == "swapped")
                here_loaded += row["location"] == "in process"
                here.good("unload", "swapped")
            else:
                assert b"cell_entry.magic" in tried.stderr, tried
    finally:
        done.set()
        thread.join(BOUND)
    assert len(seen) <= 2 and account.host.poll() is None, seen
    account.serves()
    assert modules(account.host.pid) == modules_before + here_loaded, (seen, here_loaded)


main([refused_before_anything_of_it_runs, files_that_are_no_cells, files_that_others_can_write_to, key_files,
      refused_for_its_tables, a_missing_library, two_of_one_name, documentation_that_is_code, crashes_when_it_is_loaded,
      init_that_fails, hangs_when_it_is_loaded, handlers_in_a_sandbox, a_thread_that_is_left_behind, a_file_that_is_swapped])
