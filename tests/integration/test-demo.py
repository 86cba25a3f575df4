#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The demo over small folders: every picture becomes a thumbnail, each failure has its reason, cells move, the books are right,
each call is counted where it ran; and it ends, and leaves nothing, whatever comes in between."""
import base64
import glob
import os
import pty
import re
import select
import signal
import struct
import subprocess
import time

from programs import BOUND, Skip, main, sentence, wait_until

DEMO = os.environ["TEST_DEMO"]
PIXEL = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg==")
BITMAP = struct.pack("<2sIIIIiiHHIIiiII4s", b"BM", 58, 0, 54, 40, 1, 1, 1, 24, 0, 4, 0, 0, 0, 0, b"\xff")
LINE = re.compile(r"^  (\w+) +(in process|moving|sandbox)((?:, from \w+)?) +(\d+) calls   p50 +[\d.]+   p99 +[\d.]+   p99.9 "
                  r"+[\d.]+   "
                  r"most +[\d.]+ µs$", re.MULTILINE)


def environment(here, language="C", **more):
    return {**here.env, "TMPDIR": here.folder, "LANGUAGE": language, "LC_ALL": "C.UTF-8", **more}


def demo(here, *args, language="C", **more):
    return here.run(DEMO, *args, *(["out", "0.1"] if args == ("pictures",) else []), env=environment(here, language, **more))


def need_sandbox(here):
    if os.geteuid() == 0:
        raise Skip("no host is run by root")
    if here.run("bwrap", "--unshare-all", "--unshare-user", "--ro-bind", "/", "/", "true").returncode != 0:
        raise Skip("bubblewrap cannot make a sandbox here")


def pictures(here, n):
    os.mkdir(here.path("pictures"))
    for i in range(n):
        here.write(f"pictures/{i:04}.png", PIXEL)


def command_line(pid):
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read()
    except OSError:
        return b""


def remains(here):
    """What is left of demos: their folders, and processes that know of one."""
    found = [name for name in os.listdir(here.folder) if name.startswith("cellhost-demo")]
    return found + [pid for pid in os.listdir("/proc") if pid.isdigit() and os.fsencode(here.folder) in command_line(pid)]


def counts(said):
    """Calls by (cell, place, caller)."""
    return {(cell, place, caller): int(n) for cell, place, caller, n in LINE.findall(said)}


# ---- all of it -------------------------------------------------------------------------------------------------


def pictures_are_worked_through(here):
    need_sandbox(here)
    os.makedirs(here.path("pictures", "more"))
    here.write("pictures/a.PNG", PIXEL)
    here.write("pictures/more/a.PNG", PIXEL)
    here.write("pictures/more/b.bmp", BITMAP)
    here.write("pictures/more/closed.png", PIXEL, 0)
    here.write("pictures/more/not shown.txt", "no picture, and not called one")
    os.mkfifo(here.path("pictures", "never.png"))
    os.symlink("..", here.path("pictures", "more", "around"))
    os.mkdir(here.path("pictures", "closed"), 0)
    with open(os.fsencode(here.path("pictures")) + b"/\xff\x1b[1m.jpg", "wb") as file:
        file.write(b"this is no picture")
    # What an earlier run has left goes, and nothing else does.
    os.mkdir(here.path("out"))
    for name in ("old.jpg.cellhost-demo.png", "holiday.png", "1.cellhost-demo.png.bak"):
        here.write("out/" + name, "")
    done = demo(here, "pictures")
    said = done.stdout.decode()
    assert done.returncode == 0 and not done.stderr, done
    assert re.search(r"^moves +1 times the thumbnailer left for a sandbox, .*\n +1 times it came back", said, re.MULTILINE), said
    assert re.search(r"^pictures +3 thumbnails of 7 files", said, re.MULTILINE), said
    # Named after their pictures; two of them have one name.
    assert sorted(os.listdir(here.path("out"))) == ["1.cellhost-demo.png.bak", "a.PNG.2.cellhost-demo.png",
                                                    "a.PNG.cellhost-demo.png",
                                                    "b.bmp.cellhost-demo.png", "holiday.png"], os.listdir(here.path("out"))
    # Those files, that folder, and the two files that the demo brings along.
    for failure in (r"failures  5", r"  pictures/\ufffd\?\[1m\.jpg: [^\n]+", r"  cut-off\.png: [^\n]+",
                    r"  no-picture\.jpg: [^\n]+", r"  pictures/closed: the folder cannot be read: Permission denied",
                    r"  pictures/more/closed\.png: it cannot be read: Permission denied"):
        assert re.search(rf"^{failure}$", said, re.MULTILINE), (failure, said)
    booked = 2 * len(PIXEL) + len(BITMAP)
    assert f"ledger    {booked} bytes booked for pictures; all accounts together: 0\n" in said, said
    assert "\x1b" not in said and not remains(here), (said, remains(here))


def calls_are_counted_where_they_ran(here):
    need_sandbox(here)
    pictures(here, 218)
    done = demo(here, "pictures")
    said = done.stdout.decode()
    assert done.returncode == 0 and not done.stderr, done
    n = counts(said)
    assert set(n) == {("thumbnailer", "in process", ""), ("thumbnailer", "moving", ""), ("thumbnailer", "sandbox", ""),
                      ("ledger", "in process", ""), ("trader", "in process", ""), ("exchange", "in process", ""),
                      ("exchange", "sandbox", ""),
                      ("exchange", "in process", ", from trader"), ("exchange", "sandbox", ", from trader")}, said
    assert sum(n.values()) == int(re.search(r"^calls +(\d+), as their callers saw them:$", said, re.MULTILINE).group(1)), said
    here_, moving, sandbox = (n["thumbnailer", place, ""] for place in ("in process", "moving", "sandbox"))
    assert here_ + moving + sandbox == 220 and n["ledger", "in process", ""] == 218, n
    # Ten moves, each 20 pictures after the one before it, so eleven stretches, every other one in the sandbox.  Each begins with
    # those pictures that were done during the move; one at least is done in its place.
    assert re.search(r"^moves +5 times the.*\n +5 times it came back", said, re.MULTILINE), said
    assert 20 + 5 <= here_ <= 6 * 20 - 5 and 5 <= sandbox <= 5 * 19 and 10 <= moving <= 10 * 19, n
    assert n["exchange", "in process", ""] == n["exchange", "sandbox", ""] == 20000, n
    traded = n["exchange", "in process", ", from trader"] + n["exchange", "sandbox", ", from trader"]
    assert traded == 50000 * n["trader", "in process", ""], n


def a_stranger_that_some_pictures_kill(here):
    """Each of them is told with its reason, and all the good ones are done."""
    need_sandbox(here)
    pictures(here, 3)
    done = demo(here, "pictures")
    said = done.stdout.decode()
    assert done.returncode == 0 and not done.stderr, done
    told = re.search(r"^stranger  a build of the thumbnailer begins in a sandbox, for it is foreign: it lies in a folder that is "
                     r"not yours alone\n"
                     r"  crash\.png: (.*)\n  hang\.png: (.*)\n  memory\.png: (.*)\n"
                     r" +its process ended (\d+) times, and another took its place; 13 of 13 good pictures "
                     r"were done$", said, re.MULTILINE)
    assert told, said
    assert told[1] == "its process was killed by SIGSEGV (Segmentation fault)", told[1]
    assert told[2] == "it hung: thumbnail had not ended 2.0 s after its deadline", told[2]
    if os.environ["TEST_SANITIZE"] == "none":
        assert re.fullmatch(r"its process was killed by SIG\w+ \(.*\); it said: there is no memory for 16777216 bytes more, after "
                            r"1?\d times as many", told[3]), told[3]
    assert int(told[4]) == 3, told[4]
    # The pictures of the folder are not among those, and nobody trusts the stranger for it.
    assert re.search(r"^pictures +3 thumbnails of 5 files", said, re.MULTILINE), said
    assert not os.path.exists(os.path.join(here.env["XDG_CONFIG_HOME"], "cellhost", "trust"))


def nothing_can_be_saved(here):
    """Then no picture is done, and none is booked.  Of many failures the first are told."""
    need_sandbox(here)
    pictures(here, 15)
    os.mkdir(here.path("out"), 0o555)
    done = demo(here, "pictures")
    said = done.stdout.decode()
    assert re.search(r"^pictures +0 thumbnails of 17 files", said, re.MULTILINE), said
    assert re.search(r"^failures +17\n(  \S+\.png: [^\n]+\n){10}  and 7 more$", said,
                     re.MULTILINE) and "  pictures/0000.png: " in said, said
    assert "Permission denied" in said, said
    assert "ledger    0 bytes booked" in said and ("ledger", "in process", "") not in counts(said), said


# ---- on a terminal ---------------------------------------------------------------------------------------------


def on_a_terminal(here, *args):
    """A demo whose terminal is read here: the process, and the reader's side."""
    reading, terminal = pty.openpty()
    process = here.spawn(DEMO, *args, stdin=terminal, stdout=terminal, stderr=terminal, env=environment(here),
                         start_new_session=True)
    os.close(terminal)
    return process, reading


def read_until(reading, wanted):
    """All that comes to the terminal up to `wanted`, or to its end when that is None."""
    text, until = b"", time.monotonic() + BOUND
    while wanted is None or wanted not in text:
        assert select.select([reading], [], [], max(until - time.monotonic(), 0))[0], text
        try:
            more = os.read(reading, 65536)
        except OSError:                 # its end
            more = b""
        if not more:
            assert wanted is None, text
            break
        text += more
    return text.decode()


def progress(here):
    need_sandbox(here)
    pictures(here, 30)
    process, reading = on_a_terminal(here, "pictures", "out", "0.3")
    text = read_until(reading, None)
    os.close(reading)
    assert process.wait(BOUND) == 0, text
    assert re.search(r"\r1 of 32  \S+\x1b\[K", text) and re.search(r"\r\d+ of 300  ms of trading\x1b\[K", text), text
    # Written over, so that it leaves nothing.
    lines = [line.rsplit("\r", 1)[-1] if "\r" in line else line for line in text.replace("\r\n", "\n").split("\n")]
    assert any(line.startswith("\x1b[Kpictures  30 thumbnails of 32 files") for line in lines), lines
    assert not [line for line in lines if " of 32  " in line or "ms of trading" in line], lines


# ---- and it ends -----------------------------------------------------------------------------------------------


def without_pictures(here):
    os.mkdir(here.path("none"))
    for language, wanted in (("C", "there is no picture in none"), ("de", "in none ist kein Bild")):
        done = demo(here, "none", language=language)
        assert done.returncode == 3 and done.stderr.decode() == f"cellhost-demo: {wanted}\n", done


def the_host_does_not_start(here):
    pictures(here, 1)
    long = here.path("x" * 100)
    os.mkdir(long)
    done = demo(here, "pictures", TMPDIR=long)
    said = sentence(done, "cellhost-demo")
    assert done.returncode == 1 and said.startswith("the host did not start: ") and "107 bytes" in said, said
    assert not os.listdir(long) and not remains(here)
    done = demo(here, "pictures", TMPDIR=here.path("nowhere"))
    assert done.returncode == 1 and "nowhere" in sentence(done, "cellhost-demo"), done


def interrupted(here):
    """At any time, in any way: it says what it has done so far, and nothing is left."""
    need_sandbox(here)
    pictures(here, 1000)
    os.mkdir(here.path("few"))
    here.write("few/a.png", PIXEL)
    for number, after, folder in ((signal.SIGINT, b"1 of 1002  ", "pictures"), (signal.SIGTERM, b"started with", "pictures"),
                                  (signal.SIGHUP, b"of trading", "few"), (signal.SIGINT, b"exchange ", "few")):
        process, reading = on_a_terminal(here, folder, "out", "1")
        read_until(reading, after)
        process.send_signal(number)
        text = read_until(reading, None)
        os.close(reading)
        assert process.wait(BOUND) == 1 and "the thumbnails are in out" in text, (number, text)
        wait_until(lambda: not remains(here), "the end of all processes")


def interrupted_at_once(here):
    """Before it has made its folder, when it has, when the host begins to start, and when programs can nearly connect."""
    need_sandbox(here)
    pictures(here, 40)
    for i in range(12):
        seen = (None, "cellhost-demo-*", "cellhost-demo-*/log", "cellhost-demo-*/socket")[i % 4]
        process = here.spawn(DEMO, "pictures", "out", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment(here))
        if seen:
            wait_until(lambda: process.poll() is not None or glob.glob(here.path(seen)), "the demo")
        process.send_signal(signal.SIGTERM)
        assert process.wait(BOUND) in ((1,) if seen else (1, 3, -signal.SIGTERM)), process.returncode
        wait_until(lambda: not remains(here), "the end of all processes")


def a_host_that_hangs(here):
    """Is killed: at the second signal, or some time after the first."""
    need_sandbox(here)
    pictures(here, 1000)
    for signals in (1, 2):
        process, reading = on_a_terminal(here, "pictures", "out")
        read_until(reading, b"started with")
        host = next(pid for pid in remains(here) if pid.isdigit() and b"--ready-fd" in command_line(pid))
        os.kill(int(host), signal.SIGSTOP)
        for _ in range(signals):
            process.send_signal(signal.SIGINT)
        text = read_until(reading, None)
        os.close(reading)
        assert process.wait(BOUND) == 1, text
        wait_until(lambda: not remains(here), "the end of all processes")


def nobody_reads(here):
    """`./dev demo | head -n 1`: it ends as if it were interrupted."""
    need_sandbox(here)
    pictures(here, 1000)
    reading, writing = os.pipe()
    process = here.spawn(DEMO, "pictures", "out", stdout=writing, stderr=subprocess.DEVNULL, env=environment(here))
    os.close(writing)
    os.read(reading, 1)
    os.close(reading)
    assert process.wait(BOUND) == 1
    wait_until(lambda: not remains(here), "the end of all processes")


main([pictures_are_worked_through, calls_are_counted_where_they_ran, a_stranger_that_some_pictures_kill, nothing_can_be_saved,
      progress, without_pictures, the_host_does_not_start, interrupted, interrupted_at_once, a_host_that_hangs, nobody_reads])
