#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""cellctl at a real host: what it prints, and the sentence and exit code that each kind of bad input gets."""
import json
import os
import pty
import re
import select
import shlex
import shutil
import signal
import socket
import stat
import subprocess
import time

from programs import BOUND, CTL, EXIT, HOST, Skip, cell, main, need, stop, wait_until

SUBCOMMANDS = ["list", "load", "unload", "introspect", "client", "call", "eject", "absorb", "trust", "restart", "swap", "grants",
               "stats", "logs", "debug", "shutdown"]
SCALARS = {"b": "true", "u8": "255", "i8": "-128", "u16": "65535", "i16": "-32768", "u32": "4294967295", "i32": "-2147483648",
           "u64": "18446744073709551615", "i64": "-9223372036854775808", "f64": "-0.125"}
ORDINARY = {name: "1" for name in SCALARS} | {"b": "true"}


def no_constants(name):
    raise ValueError(f"{name} is not JSON")


def parse(text):
    return json.loads(text, parse_constant=no_constants)


def words(values):
    return [f"{name}={value}" for name, value in values.items()]


def can_sandbox(here):
    if here.run("bwrap", "--unshare-all", "--unshare-user", "--ro-bind", "/", "/", "true").returncode != 0:
        raise Skip("bubblewrap cannot make a sandbox here")


# ---- what works --------------------------------------------------------------------------------------------


def help_and_version(here):
    overview = here.good("--help")
    for name in SUBCOMMANDS:
        assert re.search(rf"^  {name}\b", overview, re.MULTILINE), name
        text = here.good(name, "--help")
        assert text.startswith("Usage:\n  cellctl " + name) and "--json" in text, text
        assert here.good("help", name) == text
    assert here.good("help") == overview == here.good("-h")
    assert re.fullmatch(r"cellctl \d+\.\d+\.\d+\n", here.good("--version"))
    for args in ([CTL], [CTL, "call"], [HOST]):
        done = here.run(*args, "--help", env=dict(here.env, LC_ALL="C"))
        assert done.returncode == 0 and b"[OPTION...]" in done.stdout and done.stdout.isascii(), done
    for name in ("--input", "--output", "NAME=VALUE"):
        assert name in here.good("call", "--help")


def life_of_a_cell(here):
    here.host()
    assert here.good("load", cell("mirror")) == "mirror: loaded\n"
    assert here.good("load", cell("mirror"), "second", "key=value", "other=") == "second: loaded\n"
    # A file is named from where cellctl is, not from where the host is.
    os.symlink(cell("memory"), here.path("here.so"))
    os.mkdir(here.path("elsewhere"))
    assert parse(here.good("load", "--json", "../here.so", "third", cwd=here.path("elsewhere"))) == {"name": "third"}
    rows = here.good("list").splitlines()
    assert [row.split()[0] for row in rows] == ["NAME", "host", "mirror", "second", "third"], rows
    listed = {entry["name"]: entry for entry in parse(here.good("list", "--json"))}
    assert listed["mirror"]["interface"] == "org.cellhost.test.Mirror" and listed["mirror"]["location"] == "in process"
    assert listed["mirror"]["retired"] == 0
    assert listed["mirror"]["moves"] == 0 and listed["mirror"]["pid"] is None
    here.good("call", "mirror", "nothing")
    assert {"method": "nothing", "calls": 1, "errors": 0}.items() <= next(
        row for row in parse(here.good("--json", "stats", "mirror")) if row["method"] == "nothing").items()
    assert re.search(r"^nothing +1 +0 ", here.good("stats", "mirror"), re.MULTILINE)
    assert here.good("unload", "second") == "second: unloaded\n"
    assert parse(here.good("--json", "unload", "third")) == {"name": "third"}
    assert [entry["name"] for entry in parse(here.good("list", "-j"))] == ["host", "mirror"]


def statistics(here):
    here.host("--cell", cell("mirror"))

    def of(method):
        return next(row for row in parse(here.good("--json", "stats", "mirror")) if row["method"] == method)

    for _ in range(17):
        here.good("call", "mirror", "nothing")
    assert {"calls": 17, "errors": 0, "samples": 2}.items() <= of("nothing").items(), of("nothing")
    assert of("nothing")["p50"] <= of("nothing")["p99"] <= of("nothing")["p999"]
    here.refused("FAILED", "call", "mirror", "fail", "why")
    assert {"calls": 1, "errors": 1}.items() <= of("fail").items(), of("fail")
    # What takes long is shown as it was: it is held for so long, and buckets are right to an eighth.
    calling = here.spawn(CTL, "call", "mirror", "hold", here.path("begun"), here.path("until"))
    wait_until(lambda: os.path.exists(here.path("begun")), "the call")
    began = time.monotonic()
    wait_until(lambda: time.monotonic() > began + 0.02, "some time")
    here.write("until", "")
    assert calling.wait(BOUND) == 0 and of("hold")["p50"] > 0.02e9 * 7 / 8, of("hold")
    assert of("texts") == {"method": "texts", "calls": 0, "errors": 0, "samples": 0, "p50": None, "p99": None, "p999": None}


def ejected_and_absorbed(here):
    can_sandbox(here)
    host = here.host("--cell", cell("mirror"))
    here.good("call", "mirror", "=number", "7")
    assert here.good("eject", "mirror") == "mirror: in a sandbox\n"
    entry = next(entry for entry in parse(here.good("--json", "list")) if entry["name"] == "mirror")
    assert entry["location"] == "sandbox" and entry["pid"] not in (None, host.pid) and entry["moves"] == 1, entry
    assert here.good("call", "mirror", "@number") == "value: 7\n"
    here.good("call", "mirror", "=number", "8")
    assert parse(here.good("--json", "absorb", "mirror")) == {"name": "mirror"}
    entry = next(entry for entry in parse(here.good("--json", "list")) if entry["name"] == "mirror")
    assert entry["location"] == "in process" and entry["moves"] == 2, entry
    assert here.good("call", "mirror", "@number") == "value: 8\n"


def entry_of(here, name):
    return next(entry for entry in parse(here.good("--json", "list")) if entry["name"] == name)


def replaced(here):
    """By another build, and by itself, here and in a sandbox; what crashes there is restarted, and the list says why."""
    can_sandbox(here)
    here.host("--cell", cell("phoenix"))
    assert here.good("call", "phoenix", "add", "5") == "value: 5\nbuild: 1\n"
    here.refused("NO_METHOD", "call", "phoenix", "abide")
    assert here.good("swap", "phoenix", cell("phoenix-next")) == "phoenix: replaced\n"
    assert here.good("call", "phoenix", "add", "1") == "value: 6\nbuild: 2\n"
    assert here.good("call", "phoenix", "abide") == "value: 6\n"
    assert "abide" in here.good("introspect", "phoenix") and entry_of(here, "phoenix")["retired"] == 1
    said = here.refused("NO_METHOD", "swap", "phoenix", cell("phoenix"))
    assert "its callers cannot go on with" in said and "abide" in said, said
    assert "did you mean phoenix?" in here.refused("NOT_FOUND", "swap", "phonix", cell("phoenix"))
    assert "there is no file" in here.refused("NOT_FOUND", "swap", "phoenix", here.path("nothing.so"))
    assert parse(here.good("--json", "restart", "phoenix")) == {"name": "phoenix"}
    assert here.good("call", "phoenix", "add", "1") == "value: 7\nbuild: 2\n"
    here.good("eject", "phoenix")
    before = entry_of(here, "phoenix")
    assert here.good("restart", "phoenix") == "phoenix: restarted\n"
    after = entry_of(here, "phoenix")
    assert after["pid"] != before["pid"] and after["generation"] > before["generation"] and after["since"] >= before["since"]
    assert (after["restarts"], after["reason"]) == (0, None), after
    assert parse(here.good("--json", "swap", "phoenix", cell("phoenix-next"))) == {"name": "phoenix"}
    assert here.good("call", "phoenix", "add", "1") == "value: 8\nbuild: 2\n"
    here.refused("CRASHED", "call", "phoenix", "burn", "fault")
    assert here.good("call", "phoenix", "add", "1") == "value: 1\nbuild: 2\n"
    after = entry_of(here, "phoenix")
    assert (after["restarts"], after["reason"]) == (1, "its process was killed by SIGSEGV (Segmentation fault)"), after
    here.refused("UNSUPPORTED", "restart", "host")
    here.refused("UNSUPPORTED", "swap", "host", cell("phoenix"))


def knows_code(here, argv):
    """A debugger that is started so knows the cell's functions, and where they lie."""
    need("gdb")
    ours, its = pty.openpty()                                   # or it would not ask whatever it asks of a person
    quiet = ["-iex", "set pagination off"]
    done = subprocess.run([argv[0], *quiet, *argv[1:], "-ex", "info address Phoenix_rise_invoke", "-ex", "detach", "-ex", "quit"],
                          stdin=its, capture_output=True, text=True, timeout=BOUND, check=False)
    os.close(its)
    os.close(ours)
    assert "is a function at address" in done.stdout and "y or n" not in done.stdout, (argv, done.stdout, done.stderr)


def a_kept_call_without_a_caller(here):
    """Nobody waits for its answer, so the cell may move though it could not take the call along."""
    can_sandbox(here)
    here.host("--cell", cell("careless"))
    here.refused("DEADLINE", "call", "-t", "1", "careless", "later")
    here.good("eject", "careless")
    here.refused("DEADLINE", "call", "-t", "1", "careless", "later")
    here.good("restart", "careless")
    here.good("absorb", "careless")


def logs_and_debugger(here):
    can_sandbox(here)
    host = here.host("--cell", cell("phoenix"))
    assert here.good("logs", "phoenix") == "" and parse(here.good("--json", "logs", "phoenix")) == []
    here.good("call", "phoenix", "say", "one")
    argv = shlex.split(here.good("debug", "phoenix"))
    assert argv[:3] == ["gdb", "-p", str(host.pid)] and argv[3] == "-ex", argv
    knows_code(here, argv)
    here.good("eject", "phoenix")
    pid = entry_of(here, "phoenix")["pid"]
    how = parse(here.good("--json", "debug", "phoenix"))
    assert how["name"] == "phoenix" and how["pid"] == pid
    argv = shlex.split(how["command"])
    assert argv[:6] == ["gdb", "-iex", f"set sysroot /proc/{pid}/root", f"/proc/{pid}/exe", "-p", str(pid)], argv
    knows_code(here, argv)
    here.good("call", "phoenix", "say", "two\x1b")
    here.refused("CRASHED", "call", "phoenix", "burn", "fault")
    here.good("call", "phoenix", "say", "three")
    expected = [("info", "said one"), ("info", "said two "), ("warning", "printed two "), ("info", "said three"),
                ("warning", "printed three"),
                ("error",
                 "its process was killed by SIGSEGV (Segmentation fault); it is restarted, with the state that was last kept for "
                 "it: what came later is lost")]

    def lines():
        return [(line["grade"], line["text"]) for line in parse(here.good("--json", "logs", "phoenix"))]

    # What is printed comes by a pipe, and may be there later than what has come by others.
    wait_until(lambda: sorted(lines()) == sorted(expected), "what it has said")
    said = here.good("logs", "phoenix")
    assert "info said one\n" in said and len(said.splitlines()) == len(expected), said
    assert "did you mean phoenix?" in here.refused("NOT_FOUND", "debug", "phenix")
    assert parse(here.good("--json", "debug", "host"))["pid"] == host.pid
    # Whatever is found as gdb is run with the process.
    here.write("gdb", "#!/bin/sh\necho \"$@\"\n")
    os.chmod(here.path("gdb"), 0o755)
    there = {**here.env, "PATH": here.path("") + ":" + here.env["PATH"]}
    pid = entry_of(here, "phoenix")["pid"]
    given = here.run(CTL, "debug", "--run", "phoenix", env=there).stdout.decode()
    assert f" -p {pid} -ex " in given and " -ex add-symbol-file " in given, given


def what_is_put(here):
    """What a cell prints to standard output comes when it has a line, wherever the cell is."""
    can_sandbox(here)
    host = here.host("--cell", cell("phoenix"), stdout=subprocess.PIPE)
    here.good("call", "phoenix", "put", "one")
    assert select.select([host.stdout], [], [], BOUND)[0] and host.stdout.readline() == b"one\n"
    here.good("eject", "phoenix")
    here.good("call", "phoenix", "put", "two")
    wait_until(lambda: "warning two\n" in here.good("logs", "phoenix"), "what was put")


def every_scalar(here):
    here.host("--cell", cell("mirror"))
    lines = "".join(f"{name}: {value}\n" for name, value in SCALARS.items())
    assert here.good("call", "mirror", "scalars", *SCALARS.values()) == lines
    assert here.good("call", "mirror", "scalars", *reversed(words(SCALARS))) == lines
    as_json = json.dumps({name: parse(value) for name, value in SCALARS.items()})
    assert here.good("call", "mirror", "scalars", as_json) == lines
    reply = parse(here.good("call", "--json", "mirror", "scalars", as_json))
    # Beyond what a double holds a number is a string, which is read as well.
    assert reply["u64"] == "18446744073709551615" and reply["i64"] == "-9223372036854775808"
    assert reply["u32"] == 4294967295 and reply["f64"] == -0.125 and reply["b"] is True
    assert here.good("call", "mirror", "scalars", json.dumps(reply)) == lines


def strings_bytes_and_blobs(here):
    here.host("--cell", cell("mirror"))
    here.write("data", b"\0\xff")
    for value, shown in (("häß €", "häß €"), ("", '""'), ("a\nb\x1b[31m", "a\\nb\\u001b[31m"), ("=5", "=5")):
        assert here.good("call", "mirror", "texts", "text=" + value, "data=").splitlines()[0] == "text: " + shown, value
        reply = parse(here.good("call", "-j", "mirror", "texts", "text=" + value, "data=AP8="))
        assert reply == {"text": value, "data": "AP8=", "size": 2}, reply
    # The same bytes in a locale that cannot show them: somebody else may read them.
    assert here.good("call", "mirror", "texts", "häß", "@data",
                     env=dict(here.env, LC_ALL="C")) == "text: häß\ndata: AP8=\nsize: 2\n"
    # Where bytes are due their padding makes no name of them, unless an argument is called that.
    assert here.good("call", "mirror", "texts", "x", "AP8=") == "text: x\ndata: AP8=\nsize: 2\n"
    assert here.good("call", "mirror", "texts", "x", "data=") == "text: x\ndata: -\nsize: 0\n"
    for words_of_it in (["AP8=", "AP8="], ["text=x", "AP8="], ["x", "AP9="], ["x", "AP=="]):
        assert "there is no argument 'AP" in here.refused("INVALID", "call", "mirror", "texts", *words_of_it), words_of_it
    assert here.good("call", "mirror", "blobs", "@data", "[]") == "one: 2 bytes\nmore: -\nsize: 2\n"
    shown = here.good("call", "-o", "out", "mirror", "blobs", "@data", '["@data", null]')
    assert shown == "one: @out\nmore: @out.2, -\nsize: 2\n", shown
    for name in ("out", "out.2"):
        with open(here.path(name), "rb") as file:
            assert file.read() == b"\0\xff"
    assert parse(here.good("call", "-j", "mirror", "blobs", '{"one": null, "more": []}')) == {"one": None, "more": [], "size": 0}


def arrays_optionals_and_structs(here):
    here.host("--cell", cell("mirror"))
    here.write("data", "12345")
    outer = {"inner": {"x": -1, "note": None}, "inners": [{"x": 1, "note": "a, b"}, {"x": 2, "note": None}],
             "words": ["one", "two\t"], "data": "@data"}
    values = {"numbers": [1, -2, 32767], "maybe": None, "perhaps": {"x": 3, "note": ""}, "outer": outer}
    reply = parse(here.good("call", "--json", "mirror", "shapes", json.dumps(values)))
    assert reply == values | {"outer": outer | {"data": "5 bytes"}}, reply
    one_by_one = ["outer=" + json.dumps(outer), "maybe=5", "numbers=[]"]
    shown = here.good("call", "mirror", "shapes", *one_by_one)
    assert shown.startswith("numbers: -\nmaybe: 5\nperhaps: -\nouter:\n  inner:\n    x: -1\n"), shown
    assert '  words: "one", "two\\t"\n' in shown, shown
    here.write("input", json.dumps(values))
    assert parse(here.good("call", "-j", "--input", "input", "mirror", "shapes")) == reply
    assert parse(here.good("call", "-j", "-i", "-", "mirror", "shapes", stdin=None, input=json.dumps(values).encode())) == reply
    assert parse(here.good("call", "-j", "mirror", "texts", '{"text": "One", "data": "AA=="}'))["text"] == "One"
    assert here.good("call", "mirror", "log", '{"text": "{"}') == here.good("call", "mirror", "log", "text={") == ""
    assert here.good("call", "mirror", "nothing") == "" and parse(here.good("call", "-j", "mirror", "nothing", "{}")) == {}


def the_largest_that_fits(here):
    here.host("--cell", cell("memory"))
    here.write("input", json.dumps({"text": "x" * ((1 << 20) - 1000)}))
    assert here.good("call", "-i", "input", "memory", "add") == "id: 1\n"


# ---- what does not -----------------------------------------------------------------------------------------


def bad_command_lines(here):
    assert "list, load, " in here.refused("INVALID")
    assert "did you mean list?" in here.refused("INVALID", "lits")
    assert "list, load, " in here.refused("INVALID", "frobnicate")
    assert "--frobnicate" in here.refused("INVALID", "--frobnicate") and "--help" in here.refused("INVALID", "list", "-x")
    assert "usage: cellctl load FILE" in here.refused("INVALID", "load")
    assert "usage: cellctl list" in here.refused("INVALID", "list", "more")
    assert "usage: cellctl call CELL METHOD" in here.refused("INVALID", "call", "mirror")
    assert "SECONDS" in here.ctl("--help").stdout.decode() and "many" in here.refused("INVALID", "--timeout", "many", "list")
    for wrong in ("-1", "0", "2147484", "1s"):
        said = here.refused("INVALID", "call", "--timeout", wrong, "mirror", "nothing")
        assert said == f"--timeout {wrong}: give 1 to 2147483 seconds; see 'cellctl call --help'", said
    assert "\\u001b" in here.refused("INVALID", "a\x1b[31m\n")
    assert "not UTF-8" in here.refused("INVALID", "unload", b"\xff")


def its_own_reason(here):
    """What a cell has said last when it does not begin stands in the sentence, wherever it was to begin; bounded, and one line."""
    can_sandbox(here)
    here.host()
    said = here.refused("INVALID", "load", cell("rude-reject-start"), "kv")
    assert said == "kv: its init failed: an argument is not acceptable; it says: key 'max' must not be 0", said
    said = here.refused("UNREACHABLE", "load", cell("rude-fail-start"))
    assert "; it says: the moon is down: 000" in said and 500 < len(said) < 700, said
    os.mkdir(here.path("open"))
    shutil.copy(cell("rude-reject-start"), here.path("open", "far.so"))
    os.chmod(here.path("open", "far.so"), 0o755)
    os.chmod(here.path("open"), 0o1777)                 # foreign: it begins in a sandbox
    assert "it says: key 'max' must not be 0" in here.refused("INVALID", "load", here.path("open", "far.so"))


def unknown_names(here):
    here.host("--cell", cell("mirror"), "--cell", cell("pacer"), "--cell", cell("memory"), "--cell", os.environ["TEST_LEDGER"])
    for command in ("unload", "introspect", "client", "eject", "absorb", "restart", "grants", "stats"):
        assert here.refused("NOT_FOUND", command, "miror") == "there is no cell miror; did you mean mirror?"
    assert "cellctl list" in here.refused("NOT_FOUND", "call", "frobnicator", "x")
    assert here.refused("NO_METHOD", "call", "mirror", "scalar").endswith("did you mean scalars?")
    assert here.refused("NO_METHOD", "call", "ledger", "=total",
                        "1") == "cell ledger: the property total is read-only; @total reads it"
    for word, more in (("@nothing", []), ("=nothing", ["1"])):
        said = here.refused("NO_METHOD", "call", "mirror", word, *more)
        assert said == "cell mirror has no property nothing; it has: number", said
    assert here.refused("NO_METHOD", "call", "mirror", "@numbr") == "cell mirror has no property numbr; did you mean number?"
    assert here.refused("NO_METHOD", "call", "memory", "@nope") == "cell memory has no property nope; it has none at all"
    assert "it has: blobs, " in here.refused("NO_METHOD", "call", "mirror", "frobnicate")
    said = here.refused("INVALID", "call", "mirror", "texts", "txt=x")
    assert "'txt'" in said and "text, data" in said, said
    assert "'more' is one argument too many" in here.refused("INVALID", "call", "mirror", "nothing", "more")
    assert "the argument data is missing; they are: text=str data=bytes" in here.refused("INVALID", "call", "mirror", "texts", "x")
    assert "text is given twice" in here.refused("INVALID", "call", "mirror", "texts", "text=x", "text=y")
    assert "'perhap'" in here.refused("INVALID", "call", "mirror", "shapes", '{"perhap": 1}')


def wrong_values(here):
    here.host("--cell", cell("mirror"))
    wrong = [("b", "1", "true or false"), ("b", "True", "true or false"), ("f64", "x", "a number"),
             ("f64", "1e999", "a number that a double can hold"),
             ("f64", "nan", "a number"), ("u8", "1.5", "a whole number"), ("u8", "", "a whole number"),
             ("u8", "0x10", "a whole number"), ("i32", " 1", "a whole number")]
    for name, low, high in (("u8", -1, 256), ("i8", -129, 128), ("u16", -1, 65536), ("i16", -32769, 32768), ("u32", -1, 1 << 32),
                            ("i32", -(1 << 31) - 1, 1 << 31), ("u64", -1, 1 << 64), ("i64", -(1 << 63) - 1, 1 << 63)):
        wrong += [(name, str(value), f"{value} does not fit in {name}") for value in (low, high)]
    for name, value, why in wrong:
        said = here.refused("INVALID", "call", "mirror", "scalars", *words(ORDINARY | {name: value}))
        assert said.startswith(f"mirror.scalars: {name}: ") and why in said, (name, value, said)
    said = here.refused("INVALID", "call", "mirror", "log", '{"txt": "x"}')
    assert "there is no argument 'txt'" in said and "write text={...}" in said, said
    for method, words_of_it, why in [
            ("scalars", ['{"b": "true"}'], "b: "), ("texts", ["x", "no base64!"], "base64"), ("blobs", ["data", "[]"], "@FILE"),
            ("shapes", ["1", "outer={}"], "numbers: "), ("shapes", ["[1", "outer={}"], "JSON"),
            ("shapes", ["[1, 99999]"], "numbers[1]: 99999 does not fit in i16"),
            ("shapes", ["[]", 'outer={"inner": {"x": 1, "y": 2}}'], "'y'"),
            ("shapes", ['{"numbers": [], "numbers": []}'], "numbers"),
            ("texts", ['{"text": "\\ud800", "data": ""}', "x"], "base64")]:
        said = here.refused("INVALID", "call", "mirror", method, *words_of_it)
        assert why in said, (method, words_of_it, said)
    assert "not UTF-8" in here.refused("INVALID", "call", "mirror", "texts", b"\xc3\x28", "")
    assert "not UTF-8" in here.refused("INVALID", "call", b"mirr\xf6r", "texts", "", "")
    here.write("latin1", b'{"text": "\xe4", "data": ""}')
    assert "UTF-8" in here.refused("INVALID", "call", "-i", "latin1", "mirror", "texts")
    here.write("empty", "")
    assert "JSON" in here.refused("INVALID", "call", "-i", "empty", "mirror", "texts")
    assert "--input" in here.refused("INVALID", "call", "-i", "empty", "mirror", "texts", "x")


def too_large(here):
    here.host("--cell", cell("mirror"), "--cell", cell("crowd"))
    here.write("text", json.dumps({"text": "x" * (1 << 20), "data": ""}))
    said = here.refused("TOO_LARGE", "call", "-i", "text", "mirror", "texts")
    assert said == "mirror.texts: the request is larger than 1048576 bytes; larger data travels as a blob", said
    here.write("bytes", b"x" * ((1 << 20) + 1))
    assert "1048576" in here.refused("TOO_LARGE", "call", "mirror", "texts", "x", "@bytes")
    # A reply has a bound of its own.
    here.write("reply", b"x" * 10000)
    said = here.refused("TOO_LARGE", "call", "mirror", "texts", "x", "@reply")
    assert said == "mirror.texts: the reply is larger than 4096 bytes, the method's max_reply; larger data travels as a blob", said
    # So it has when the call was kept and is answered later.
    keeping = here.spawn(CTL, "call", "--timeout", str(BOUND), "crowd", "keep", "1", "x" * 5000, stderr=subprocess.PIPE)
    wait_until(lambda: here.good("call", "crowd", "answer") == "answered: 1\n", "the call")
    said = keeping.communicate(timeout=BOUND)[1].decode()
    assert keeping.returncode == EXIT["TOO_LARGE"] and ("crowd.keep: the reply is larger than 4096 bytes, the method's "
                                                        "max_reply") in said, said
    here.write("json", b" " * (5 << 20))
    assert "64 deep" in here.refused("TOO_LARGE", "call", "mirror", "shapes", "[]", "outer=" + "[" * 100)
    assert "4194304" in here.refused("TOO_LARGE", "call", "-i", "json", "mirror", "texts")
    assert "268435456" in here.refused("TOO_LARGE", "call", "mirror", "blobs", "@/dev/zero", "[]")
    # The host is none the worse.
    assert here.good("call", "mirror", "nothing") == ""


def files_that_are_not_there(here):
    here.host("--cell", cell("mirror"))
    assert here.path("no.so") in here.refused("NOT_FOUND", "load", "no.so")
    assert "nowhere" in here.refused("NOT_FOUND", "load", "nowhere")
    assert here.refused("NOT_FOUND", "load", "mirorr").endswith("what lies elsewhere is given with its path")
    # Who mistypes the name of a cell that is installed is told so by whoever looks for it.
    folder = here.path("data_home", "cellhost", "cells")
    os.makedirs(folder)
    os.symlink(cell("mirror"), os.path.join(folder, "mirror.so"))
    here.write(os.path.join(folder, "0 mirorr.cell"), "")
    for words_of_it in (["load", "mirorr"], ["swap", "mirror", "mirorr"]):
        assert here.refused("NOT_FOUND", *words_of_it).endswith("; did you mean mirror?")
    # Who stands beside a file may mean that.
    os.symlink(cell("mirror"), here.path("todo.so"))
    here.write("keys.cell", "[Cell]\n")
    here.write("prog.c", "int main;\n")
    assert here.refused("NOT_FOUND", "load", "todo") == "no cell todo is installed; did you mean ./todo.so?"
    assert here.refused("NOT_FOUND", "swap", "mirror", "todo") == "no cell todo is installed; did you mean ./todo.so?"
    assert here.refused("NOT_FOUND", "load", "keys") == "no cell keys is installed; did you mean ./keys.cell?"
    assert "the file prog.c is no plugin" in here.refused("INVALID", "load", "prog.c")
    for arguments in (["blobs", "@no", "[]"], ["texts", "x", "@no"]):
        assert "no cannot be read: No such file" in here.refused("NOT_FOUND", "call", "mirror", *arguments)
    assert "no cannot be read" in here.refused("NOT_FOUND", "call", "-i", "no", "mirror", "nothing")
    assert "no/out cannot be written" in here.refused("NOT_FOUND", "call", "-o", "no/out", "mirror", "blobs", "@/dev/null", "[]")
    assert ". cannot be read: Is a directory" in here.refused("INVALID", "call", "mirror", "blobs", "@.", "[]")
    if os.geteuid() != 0:
        here.write("closed", "x", 0)
        assert "Permission denied" in here.refused("DENIED", "call", "mirror", "blobs", "@closed", "[]")


def output_that_cannot_be(here):
    """What the contract says is said before the call is made, and what only the reply does after it."""
    here.host("--cell", cell("mirror"))
    said = here.refused("INVALID", "call", "-o", "out", "mirror", "=number", "7")
    assert said == "mirror.=number returns no blob that out could be written with; nothing was done", said
    assert here.good("call", "mirror", "@number") == "value: 0\n"
    done = here.ctl("call", "-o", "out", "mirror", "blobs", '{"one": null, "more": []}')
    assert done.returncode == EXIT["NOT_FOUND"] and b"the call was executed, and there is no blob in its reply" in done.stderr, done
    assert not os.path.exists(here.path("out"))
    # A place that cannot be written to is found before anything is done.
    here.write("number", "7")
    os.mkdir(here.path("folder"))
    for path, error, why in (("folder", "INVALID", "Is a directory"), ("nowhere/out", "NOT_FOUND", "No such file or directory")):
        said = here.refused(error, "call", "-o", path, "mirror", "blobs", "@number", "[]")
        assert said == f"mirror.blobs: {path} cannot be written: {why}", said
    calls = next(row for row in parse(here.good("--json", "stats", "mirror")) if row["method"] == "blobs")["calls"]
    assert calls == 1, calls
    # Standard output has the blobs and nothing else.
    assert here.good("call", "-o", "-", "mirror", "blobs", "@number", '["@number", null]') == "77"
    assert "both write" in here.refused("INVALID", "call", "-j", "--output=-", "mirror", "blobs", "@number", "[]")
    assert not os.path.exists(here.path("-"))
    # One that is further inside is one.
    here.write("data", "text")
    outer = '{"inner": {"x": 1}, "inners": [], "words": [], "data": "@data"}'
    here.good("call", "-o", "out", "mirror", "shapes", '{"numbers": [], "outer": ' + outer + "}")
    assert here.read("out") == "text"


def a_call_that_crashes(here):
    can_sandbox(here)
    here.host("--cell", cell("crasher"))
    here.good("eject", "crasher")
    assert here.refused("CRASHED", "call", "crasher", "crash", "fault").endswith("; see 'cellctl logs crasher'")
    wait_until(lambda: "killed by SIGSEGV" in here.good("logs", "crasher"), "what the log says")


def cells_that_call_others(here):
    """One whose init does so says whom it misses."""
    path = cell("careless")
    here.host("--cell", path)
    said = here.refused("NOT_FOUND", "load", path, "second", "wants=sequence")
    assert said == ("second: its init failed: there is no such cell, file or thing; cell sequence, which it calls, is not loaded: "
                    "load it first"), said
    said = here.refused("CONTRACT", "load", path, "second", "wants=careless")
    assert "; it calls cell careless: the cell is org.cellhost.test.Careless" in said, said
    here.good("load", cell("sequence"))
    here.good("load", path, "second", "wants=sequence")


def files_that_are_no_cells(here):
    here.host("--cell", cell("mirror"))
    junk = bytes(range(256)) * 20
    for name, content, why in [("empty.so", b"", "ELF"), ("text.so", "#!/bin/sh\n", "not an ELF file"),
                               ("junk.so", junk, "not an ELF file"),
                               ("elf.so", b"\x7fELF" + junk, ""),
                               ("elf64.so", b"\x7fELF\x02\x01\x01" + b"\0" * 9 + b"\x03\0\x3e\0" + junk, "")]:
        here.write(name, content)
        said = here.refused("REFUSED", "load", name)
        assert said.startswith(here.path(name) + ": ") and why in said, said
    with open(cell("mirror"), "rb") as file:
        whole = file.read()
    here.write("cut.so", whole[:len(whole) // 2])
    here.refused("REFUSED", "load", "cut.so")
    here.write("open.so", whole, 0o666)
    assert "chmod go-w" in here.refused("REFUSED", "load", "open.so")
    library = next(line.split()[2] for line in here.run("ldd", CTL).stdout.decode().splitlines() if "libglib" in line)
    os.symlink(os.path.realpath(library), here.path("glib.so"))
    assert "it is no cell" in here.refused("REFUSED", "load", "glib.so")
    assert "cell_entry.magic" in here.refused("REFUSED", "load", cell("broken-magic"))
    for name in (".", here.write("words.txt", "secret words")):
        said = here.refused("INVALID", "load", os.path.join(here.folder, name))
        assert "secret" not in said and ".so" in said, said
    assert "already" in here.refused("EXISTS", "load", cell("mirror"))
    assert "1st" in here.refused("INVALID", "load", cell("mirror"), "1st")
    # In any locale: what is not ASCII is UTF-8.
    assert "'1st'" in here.refused("INVALID", "load", cell("mirror"), "1st", env=dict(here.env, LC_ALL="C"))
    assert "KEY=VALUE" in here.refused("INVALID", "load", cell("mirror"), "name", "word")
    here.refused("DENIED", "unload", "host")
    here.refused("UNSUPPORTED", "eject", "host")


def key_files(here):
    here.host()
    here.write("first.cell", f"[Cell]\nName=one\nModule={cell('mirror')}\nInterface=org.cellhost.test.Mirror\n")
    here.write("other.cell", f"[Cell]\nModule={cell('mirror')}\nInterface=org.cellhost.test.Other\n")
    assert here.good("load", "first.cell") == "one: loaded\n"
    said = here.refused("CONTRACT", "load", "other.cell")
    assert "org.cellhost.test.Mirror" in said and "org.cellhost.test.Other" in said, said
    assert [entry["name"] for entry in parse(here.good("list", "-j"))] == ["host", "one"]


def errors_of_cells(here):
    here.host("--cell", cell("mirror"))
    assert here.refused("FAILED", "call", "mirror", "fail",
                        "no\n\x1b]0;title\x07") == "mirror.fail: no\\n\\u001b]0;title\\u0007 (Asked)"
    assert here.refused("FAILED", "call", "mirror", "fail", "") == "mirror.fail: It was asked for (Asked)"


def handlers_that_end_badly(here):
    """Their authors read what they have done, and of which output."""
    here.host("--cell", cell("careless"))
    deferred = "the handler ended with CELL_DEFERRED, which is for a call that cell_defer () has just kept"
    number = "the handler ended with {}, which is neither CELL_OK nor an error of <cell/errors.h>"
    output = "the handler's output {}: it is not UTF-8, as a str has to be"
    for method, words_of_it, why in [("defer", [], deferred), ("end", ["1"], deferred), ("end", ["77"], number.format(77)),
                                     ("end", ["-99"], number.format(-99)), ("text", [], output.format("title")),
                                     ("lines", [], output.format("words"))]:
        said = here.refused("INTERNAL", "call", "careless", method, *words_of_it)
        assert said.startswith(f"careless.{method}: {why}"), said
    # And of a call that was kept.
    for status, error, why in (("0", "INTERNAL", output.format("title")), ("77", "INTERNAL", number.format(77)),
                               ("-6", "TOO_LARGE", "as it was asked for")):
        keeping = here.spawn(CTL, "call", "--timeout", str(BOUND), "careless", "later", stderr=subprocess.PIPE)
        wait_until(lambda: "true" in here.good("call", "careless", "answer", status), "the call")
        said = keeping.communicate(timeout=BOUND)[1].decode()
        assert keeping.returncode == EXIT[error] and said == f"cellctl: careless.later: {why}\n", said


def hosts_that_do_not_answer(here):
    assert here.refused("UNREACHABLE", "list") == f"no host answers at {here.socket}: start it with cellhostd"
    for path in (here.folder, "/etc/passwd", here.write("file", "")):
        assert here.refused("UNREACHABLE", "--socket", path, "list") == f"no host answers at {path}: it is no socket"
    assert "no host answers" in here.refused("UNREACHABLE", "list", env=dict(here.env, CELLHOST_SOCKET=here.path("no")))
    assert "107 bytes" in here.refused("INVALID", "-s", "/" + "x" * 200, "list")
    host = here.host()
    host.kill()
    host.wait(BOUND)
    assert os.path.exists(here.socket)
    assert "no host answers" in here.refused("UNREACHABLE", "list")


def sockets_of_others(here):
    for kind in (socket.SOCK_STREAM, socket.SOCK_SEQPACKET):
        path = here.path(f"other-{int(kind)}")
        with socket.socket(socket.AF_UNIX, kind) as other:
            other.bind(path)
            other.listen()
            started = here.spawn(CTL, "-s", path, "list", stderr=subprocess.PIPE)
            if kind == socket.SOCK_SEQPACKET:
                # It takes the connection and says something else.
                connection = other.accept()[0]
                connection.send(b"220 mail.example.org ESMTP\r\n")
                connection.close()
            said = started.communicate(timeout=BOUND)[1].decode()
        assert started.returncode != 0 and said.startswith("cellctl: ") and path in said and said.count("\n") == 1, said


def closed_doors(here):
    if os.geteuid() == 0:
        raise Skip("root may connect to everything")
    here.host()
    assert stat.S_IMODE(os.stat(here.socket).st_mode) == 0o600
    for path, mode in ((here.socket, 0), (os.path.dirname(here.socket), 0)):
        before = stat.S_IMODE(os.stat(path).st_mode)
        os.chmod(path, mode)
        said = here.refused("DENIED", "list")
        os.chmod(path, before)
        assert "may not connect to" in said and here.socket in said, said
    here.good("list")


# ---- what happens meanwhile --------------------------------------------------------------------------------


def a_reader_that_has_gone(here):
    here.host("--cell", cell("mirror"))
    reading, writing = os.pipe()
    os.close(reading)
    done = here.ctl("list", stdout=writing, stderr=subprocess.PIPE, capture_output=False, restore_signals=True)
    assert done.returncode == -signal.SIGPIPE and not done.stderr, done     # as any filter
    done = here.ctl("list", stdout=writing, stderr=subprocess.PIPE, capture_output=False, restore_signals=False)
    os.close(writing)
    assert done.returncode != 0 and (done.returncode < 0 or b"Broken pipe" in done.stderr), done
    with open("/dev/full", "wb") as full:
        done = here.ctl("list", stdout=full, stderr=subprocess.PIPE, capture_output=False)
    assert b"No space left" in done.stderr and done.stderr.count(b"\n") == 1 and done.returncode != 0, done


def interrupted_calls(here):
    here.host("--cell", cell("mirror"))
    for number in (signal.SIGINT, signal.SIGTERM):
        begun, until = here.path(f"begun-{int(number)}"), here.path(f"until-{int(number)}")
        calling = here.spawn(CTL, "call", "mirror", "hold", begun, until, stderr=subprocess.PIPE)
        wait_until(lambda: os.path.exists(begun), "the call")
        calling.send_signal(number)
        said = calling.communicate(timeout=BOUND)[1].decode()
        # It ends by the signal, so that a loop in a shell ends, too.
        assert calling.returncode == -number and said == "cellctl: interrupted; what was begun may be done all the same\n", said
        here.write(os.path.basename(until), "")
        assert here.good("call", "mirror", "nothing") == ""


def deadlines(here):
    here.host("--cell", cell("mirror"))
    said = here.refused("DEADLINE", "call", "--timeout", "1", "mirror", "hold", here.path("begun"), here.path("until"))
    assert "mirror.hold: the deadline passed" in said, said
    here.write("until", "")
    assert here.good("call", "mirror", "nothing") == ""


def a_host_that_dies(here):
    host = here.host("--cell", cell("mirror"))
    calling = here.spawn(CTL, "call", "mirror", "hold", here.path("begun"), here.path("until"), stderr=subprocess.PIPE)
    wait_until(lambda: os.path.exists(here.path("begun")), "the call")
    assert stop(host, signal.SIGKILL) == -signal.SIGKILL
    said = calling.communicate(timeout=BOUND)[1].decode()
    assert said == ("cellctl: mirror.hold: the host, or the connection to it, ended during the call; it may or may not have been "
                    "executed\n"), said
    assert calling.returncode == EXIT["CRASHED"], calling.returncode


def shut_down(here):
    host = here.host()
    assert here.good("shutdown") == "host: ends\n"
    assert host.wait(BOUND) == 0 and not os.path.exists(here.socket)
    host = here.host()
    assert parse(here.good("--json", "shutdown")) == {"name": "host"}
    assert host.wait(BOUND) == 0


def often_loaded(here):
    """What stays in memory is worth a word when it is much, and not at every load from then on."""
    here.host()
    for earlier in range(203):
        word = "200 earlier builds of it stay in the host's memory until the host is started anew\n" if earlier == 200 else ""
        assert here.good("load", cell("whole"), "often") == "often: loaded\n" + word
        here.good("unload", "often")
    assert here.read("log").count("earlier builds of often") == 1


main([help_and_version, life_of_a_cell, statistics, ejected_and_absorbed, replaced, a_kept_call_without_a_caller,
      logs_and_debugger, what_is_put,
      every_scalar, strings_bytes_and_blobs, arrays_optionals_and_structs, the_largest_that_fits, bad_command_lines,
      its_own_reason, unknown_names, wrong_values, too_large, files_that_are_not_there, output_that_cannot_be,
      a_call_that_crashes, cells_that_call_others, files_that_are_no_cells, key_files, errors_of_cells,
      handlers_that_end_badly, hosts_that_do_not_answer, sockets_of_others, closed_doors, a_reader_that_has_gone,
      interrupted_calls, deadlines, a_host_that_dies, shut_down, often_loaded])
