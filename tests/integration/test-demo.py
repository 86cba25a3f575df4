#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The demo over a small folder: every picture becomes a thumbnail, each failure has its reason, cells move, the books are right."""
import base64
import os
import re
import struct

from programs import Skip, main

DEMO = os.environ["TEST_DEMO"]
PIXEL = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg==")
BITMAP = struct.pack("<2sIIIIiiHHIIiiII4s", b"BM", 58, 0, 54, 40, 1, 1, 1, 24, 0, 4, 0, 0, 0, 0, b"\xff")


def demo(here, *args, language="C"):
    return here.run(DEMO, *args, env=dict(here.env, TMPDIR=here.folder, LANGUAGE=language, LC_ALL="C.UTF-8"))


def pictures_are_worked_through(here):
    if os.geteuid() == 0:
        raise Skip("no host is run by root")
    if here.run("bwrap", "--unshare-all", "--unshare-user", "--ro-bind", "/", "/", "true").returncode != 0:
        raise Skip("bubblewrap cannot make a sandbox here")
    os.makedirs(here.path("pictures", "more"))
    here.write("pictures/a.png", PIXEL)
    here.write("pictures/more/b.bmp", BITMAP)
    here.write("pictures/more/not shown.txt", "no picture, and not called one")
    with open(os.fsencode(here.path("pictures")) + b"/\xff\x1b[1m.jpg", "wb") as file:
        file.write(b"this is no picture")
    done = demo(here, "pictures", "out")
    said = done.stdout.decode()
    assert done.returncode == 0 and not done.stderr, done
    assert "left the process for a sandbox" in said and "came back" in said, said
    assert re.search(r"^pictures +2 thumbnails of 5 files", said, re.MULTILINE), said
    assert len(os.listdir(here.path("out"))) == 2, os.listdir(here.path("out"))
    # That file, and the two that the demo brings along.
    for failure in (r"failures  3", r"  \ufffd\?\[1m\.jpg: [^\n]+ \(and 1 more\)", r"  cut-off\.png: [^\n]+"):
        assert re.search(rf"^{failure}$", said, re.MULTILINE), (failure, said)
    booked = len(PIXEL) + len(BITMAP)
    assert f"ledger    {booked} bytes booked for pictures; all accounts together: 0\n" in said, said
    for cell, location in (("thumbnailer", "in process"), ("ledger", "in process"),
                           ("exchange", "in process"), ("exchange", "sandbox")):
        assert re.search(rf"^  {cell} +{location} +[1-9]\d* calls ", said, re.MULTILINE), (cell, location, said)
    assert "\x1b" not in said and not [name for name in os.listdir(here.folder) if name.startswith("cellhost-demo")], said


def without_pictures(here):
    os.mkdir(here.path("none"))
    for language, wanted in (("C", "there is no picture in none"), ("de", "in none ist kein Bild")):
        done = demo(here, "none", language=language)
        assert done.returncode == 3 and done.stderr.decode() == f"cellhost-demo: {wanted}\n", done


main([pictures_are_worked_through, without_pictures])
