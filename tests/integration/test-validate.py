#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""`cellctl validate` says what a host would say of a file: rule by rule, without a host."""
import json
import os
import shutil

from programs import EXIT, Skip, cell, main

ALARM = os.environ["TEST_ALARM"]
RULES = ["key file", "file", "code", "load", "start", "end"]


def rules(here, *args, exits="Ok"):
    """[(rule, kept, said)], and what stands on standard error."""
    done = here.ctl("validate", "--json", *args)
    assert done.returncode == (0 if exits == "Ok" else EXIT[exits]), done
    return [(row["rule"], row["kept"], row["said"]) for row in json.loads(done.stdout)], done.stderr.decode()


def broken(here, exits, rule, says, *args):
    """The last rule is that one, it is broken, and the sentence on standard error says so, too."""
    rows, complaint = rules(here, *args, exits=exits)
    assert [row[0] for row in rows] == RULES[:RULES.index(rule) + 1], rows
    assert all(kept for _, kept, _ in rows[:-1]) and not rows[-1][1] and says in rows[-1][2], rows
    assert complaint.startswith("cellctl: a host would not load it: ") and says in complaint, complaint
    return rows[-1][2]


def need_sandbox(here):
    if here.run("bwrap", "--unshare-all", "--unshare-user", "--ro-bind", "/", "/", "true").returncode != 0:
        raise Skip("bubblewrap cannot make a sandbox here")


def good(here):
    need_sandbox(here)
    rows, _ = rules(here, ALARM)
    assert [row[0] for row in rows if row[0] != "interface"] == RULES and all(kept for _, kept, _ in rows), rows
    text = here.good("validate", cell("whole"))
    assert text.startswith("RULE") and "org.cellhost.test.Broken 1" in text, text


def each_rule(here):
    key_file = here.write("bad.cell", "[Cell]\nModul=x.so\n")
    broken(here, "INVALID", "key file", "Modul", key_file)
    broken(here, "NOT_FOUND", "key file", "there is no file", here.path("nobody.so"))
    shutil.copy(cell("whole"), here.path("open.so"))
    os.chmod(here.path("open.so"), 0o775)
    broken(here, "REFUSED", "file", "chmod go-w", here.path("open.so"))
    broken(here, "REFUSED", "code", "not an ELF file", here.write("text.so", "I am a text\n"))
    broken(here, "REFUSED", "code", "magic", cell("broken-magic"))


def what_it_does(here):
    need_sandbox(here)
    broken(here, "REFUSED", "load", "handler", cell("broken-no-handler"))
    broken(here, "REFUSED", "load", "Segmentation fault", cell("rude-crash-load"))
    broken(here, "REFUSED", "start", "Segmentation fault", cell("rude-crash-start"))
    broken(here, "REFUSED", "end", "Segmentation fault", cell("rude-crash-end"))
    refused, _ = rules(here, here.write("other.cell", "[Cell]\nModule=%s\nInterface=org.example.Other\n" % ALARM), exits="CONTRACT")
    assert refused[-1][0] == "interface" and "Interface=org.example.Other" in refused[-1][2], refused


def one_that_does_not_begin(here):
    """It ends as loading does, with the cell's own reason; but who has asked for other cells may begin where they are."""
    need_sandbox(here)
    reason = "its init failed: an argument is not acceptable; it says: key 'max' must not be 0"
    assert broken(here, "INVALID", "start", reason, cell("rude-reject-start")) == reason
    broken(here, "UNREACHABLE", "start", "it says: the moon is down", cell("rude-fail-start"))
    rows, _ = rules(here, cell("careless"), "wants=sequence")
    assert rows[-1][0] == "start" and rows[-1][1], rows
    alone = "it does not start where it is alone: "
    assert rows[-1][2].startswith(alone) and rows[-1][2].endswith("it calls cell sequence: it is alone here"), rows
    here.host()
    assert here.refused("INVALID", "load", cell("rude-reject-start")) == "rude-reject-start: " + reason
    here.good("load", cell("sequence"))
    here.good("load", cell("careless"), "wants=sequence")


def one_that_is_remembered(here):
    """A host refuses what has crashed without trying it again; validate tries it."""
    need_sandbox(here)
    here.host()
    here.refused("REFUSED", "load", cell("rude-crash-start"))
    assert "cellctl validate" in here.refused("REFUSED", "load", cell("rude-crash-start"))
    here.good("load", cell("whole"))
    here.good("unload", "whole")
    folder = here.path("cache_home", "cellhost", "probes")
    for name in os.listdir(folder):
        with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
            file.write("[Probe]\nGood=false\nReason=it crashed once\n")
    assert "it crashed once" in here.refused("REFUSED", "load", cell("whole"))
    here.good("validate", cell("whole"))
    here.good("load", cell("whole"))


def names(here):
    """One that is not found is looked for nearby; a person reads what is wrong once."""
    folder = here.path("data_home", "cellhost", "cells")
    os.makedirs(folder)
    shutil.copy(cell("whole"), os.path.join(folder, "whole.so"))
    broken(here, "NOT_FOUND", "key file", "; did you mean whole?", "hwole")
    done = here.ctl("validate", "hwole")
    assert done.returncode == EXIT["NOT_FOUND"] and done.stdout.count(folder.encode()) == 1, done
    assert done.stderr == b"cellctl: a host would not load it: it breaks the rule 'key file'\n", done
    shutil.copy(cell("whole"), here.path("other.so"))
    done = here.ctl("validate", "other")
    assert done.stderr == b"cellctl: no cell other is installed; did you mean ./other.so?\n", done


def words(here):
    assert "KEY=VALUE" in here.refused("INVALID", "validate", cell("whole"), "nonsense")
    assert "a word is missing" in here.refused("INVALID", "validate")


main([good, each_rule, what_it_does, one_that_does_not_begin, one_that_is_remembered, names, words])
