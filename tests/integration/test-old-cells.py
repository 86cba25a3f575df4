#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Cells that were compiled with earlier headers, as they were then: today's host loads, calls, moves and restores them."""
import json
import os
import platform
import subprocess

from programs import BOUND, CTL, Skip, main, stop, wait_until

OLD = os.environ["TEST_OLD"]
LEDGER = os.environ["TEST_LEDGER"]


def old(name):
    if platform.machine() != "x86_64":
        raise Skip(f"the old cells are for x86-64, and this is {platform.machine()}")
    if os.environ["TEST_SANITIZE"] != "none":
        raise Skip("the old cells were compiled without sanitizers, and such a host refuses them")
    return os.path.join(OLD, name + ".so")


def has_sandbox(here):
    return here.run("bwrap", "--unshare-all", "--unshare-user", "--ro-bind", "/", "/", "true").returncode == 0


def call(here, *words):
    return json.loads(here.good("--json", "call", *words))


def rounds(here, name):
    """Where it is, then in a sandbox, then back; without one only the first."""
    yield
    if has_sandbox(here):
        here.good("eject", name)
        yield
        here.good("absorb", name)
        yield


def the_first(here):
    host = here.host()
    here.good("load", old("tally"), "tally", "factor=3")
    assert call(here, "tally", "@factor") == {"value": 3.0}
    n = 0
    for _ in rounds(here, "tally"):
        n += 1
        assert call(here, "tally", "add", f"name={n}", "amount=-5", "marks=[1,2,3]", "loud=true") == {"n": n}
        listed = call(here, "tally", "list")
        assert listed["text"] == f"{n} entries" and listed["entries"][-1] == {"name": str(n), "amount": -5,
                                                                              "marks": [1, 2, 3]}, listed
        with open(here.write("small", "Abc" * 1000), "rb"):
            here.good("call", "--output=" + here.path("large"), "tally", "upper", "@" + here.path("small"))
        assert here.read("large") == "ABC" * 1000
        assert "is below zero" in here.refused("INVALID", "call", "tally", "=factor", "-1")
    # A call that is kept goes along.
    kept = here.spawn(CTL, "--json", "call", "tally", "keep", "later", stdout=subprocess.PIPE)
    wait_until(lambda: any(row["method"] == "keep" and row["calls"] for row in json.loads(here.good("--json", "stats", "tally"))),
               "the call")
    for _ in rounds(here, "tally"):
        pass
    wait_until(lambda: call(here, "tally", "answer") == {"answered": True}, "the kept call")
    assert json.loads(kept.communicate(timeout=BOUND)[0]) == {"text": "later"}
    for i in range(n, 8):
        call(here, "tally", "add", f"name=more-{i}", "amount=1", "marks=[]")
    assert "there are 8 already" in here.refused("FAILED", "call", "tally", "add", "name=x", "amount=1", "marks=[]")
    call(here, "tally", "=factor", "2.5")
    # And its state outlives the host.
    assert stop(host) == 0
    host = here.host("--cell", old("tally"))
    assert call(here, "tally", "@n") == {"value": 8} and call(here, "tally", "@factor") == {"value": 2.5}
    here.good("unload", "tally")
    assert stop(host) == 0


def a_caller(here):
    host = here.host("--cell", LEDGER, "--cell", here.write("payer.cell", f"[Cell]\nModule={old('payer')}\nCalls=ledger\n"))
    n = 0
    for _ in rounds(here, "payer"):
        # It has no state, and begins anew in each place; after a move the first signal tells of a gap.
        here.good("call", "payer", "pay", "amount=1", "memo=rent")
        n += 3
        wait_until(lambda: call(here, "payer", "@heard")["value"] >= 3 and call(here, "payer", "@done") == {"value": 1},
                   "signals and completions")
    assert call(here, "ledger", "balance", "account=2") == {"balance": n}
    assert stop(host) == 0


def in_cxx(here):
    host = here.host("--cell", old("lamp"))
    level = 5
    for _ in rounds(here, "lamp"):
        level += 2
        assert call(here, "lamp", "turn", "2") == {"level": level}
        assert "by must not be 0" in here.refused("INVALID", "call", "lamp", "turn", "0")
    assert stop(host) == 0


if __name__ == "__main__":
    main([the_first, a_caller, in_cxx])
