#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What cellhost-bench prints for programs, and how it refuses."""
import json
import os
import subprocess
import sys

bench = sys.argv[1]


def run(*args):
    return subprocess.run([bench, *args], capture_output=True, text=True, timeout=50)


def refuse_constant(name):
    raise ValueError(f"{name} is not JSON")


names = run("--list", "limit.").stdout.split()
assert "limit.line" in names and "limit.ring" in names, names

done = run("--quick", "--json", "limit.")
assert done.returncode == 0, done.stderr
lines = [json.loads(line, parse_constant=refuse_constant) for line in done.stdout.splitlines()]
assert [line["name"] for line in lines] == names, (lines, names)
for line in lines:
    assert {"unit", "value", "p50", "p99", "p999", "limit", "limit_value", "ratio"} <= line.keys(), line
    if "skipped" in line:
        assert line["skipped"] and line["value"] is None, line
        continue
    assert line["value"] > 0 and line["kept"] + line["discarded"] > 0, line
    # A rate's percentiles go down: p99 is what 99 % of the samples reached.
    low, high = ("p999", "p50") if line["unit"].endswith("/s") else ("p50", "p999")
    assert line[low] <= line["p99"] <= line[high], line
    assert (line["limit"] is None) == (line["ratio"] is None), line

assert len(run("--quick", "limit.fnptr", "limit.futex.one").stdout.splitlines()) == 5, "a heading and four figures"

# Where one processor may be used, what needs two is skipped with the reason.
one = subprocess.run(["taskset", "-c", str(min(os.sched_getaffinity(0))), bench, "--quick", "--json", "limit.line"],
                     capture_output=True, text=True, timeout=50)
assert one.returncode == 0 and "two processors" in json.loads(one.stdout)["skipped"], one

unknown = run("no-such-figure")
assert unknown.returncode == 2 and "no-such-figure" in unknown.stderr and not unknown.stdout, unknown
assert run("--nonsense").returncode == 2
