#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a cell gets in its sandbox besides: what its key file asks for and the policy grants, and nothing more."""
import contextlib
import errno
import json
import os
import shutil
import socket
import tempfile

from programs import Skip, cell, main, wait_until


@contextlib.contextmanager
def outside():
    """A folder that is not below /tmp, where a sandbox has one of its own."""
    folder = tempfile.mkdtemp(prefix="cellhost-", dir="/var/tmp")
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def key_file(here, asks):
    return here.write("escaper.cell", f"[Cell]\nRestart=temporary\nModule={cell('escaper')}\n{asks}\n")


def policy(here, text):
    os.makedirs(here.path("config_home", "cellhost"), exist_ok=True)
    here.write(os.path.join("config_home", "cellhost", "policy"), text)


def start(here, asks, says=None):
    """A host with the cell in it; where its policy is."""
    if here.run("bwrap", "--unshare-all", "--unshare-user", "--ro-bind", "/", "/", "true").returncode != 0:
        raise Skip("bubblewrap cannot make a sandbox here")
    key_file(here, asks)
    if says is not None:
        policy(here, f"[Cell escaper]\n{says}\n")
    here.process = here.host()
    here.good("load", here.path("escaper.cell"))
    return here.path("config_home", "cellhost", "policy")


def tried(here, method, *args):
    return json.loads(here.good("--json", "call", "escaper", method, *args))["number"]


def permissions(here):
    rows = json.loads(here.good("--json", "grants", "escaper"))["permissions"]
    return {row["what"]: row["granted"] or row["why_not"] for row in rows}


def place(here):
    return next(row["location"] for row in json.loads(here.good("--json", "list")) if row["name"] == "escaper")


def nothing_is_granted_unless_said(here):
    """It stays where it is, and the sentence says what is missing; grants says the same."""
    with outside() as folder:
        path = start(here, f"Network=true\nReadPaths={folder}\nWritePaths={folder}/w\nDevices=/dev/fuse")
        lines = ["Network=true", f"ReadPaths={folder}", f"WritePaths={folder}/w", "Devices=/dev/fuse"]
        said = permissions(here)
        assert list(said) == ["Network", *lines[1:]], said
        for what, line in zip(said, lines):
            assert f"; write {line} below [Cell escaper] in {path}, or " in said[what], said
        shown = here.good("grants", "escaper")
        assert "ASKS FOR" in shown and f"write {lines[1]} below" in shown, shown
        refusal = here.refused("DENIED", "eject", "escaper")
        assert "asks for the network, of which the policy says nothing" in refusal, refusal
        assert f"; write Network=true below [Cell escaper] in {path}, or " in refusal, refusal
        assert place(here) == "in process"
        policy(here, "[Default]\nNetwork=false\nReadPaths=\nWritePaths=\n")
        assert "asks for the device /dev/fuse" in here.refused("DENIED", "eject", "escaper")
        # What is withheld it does without.
        policy(here, "[Default]\nNetwork=false\nReadPaths=\nWritePaths=\nDevices=\n")
        assert set(permissions(here).values()) == {"the policy withholds it"}, permissions(here)
        here.good("eject", "escaper")
        assert place(here) == "sandbox"
        assert tried(here, "read_file", folder) == errno.ENOENT
        assert tried(here, "connect_tcp", "192.0.2.1", "80") == errno.ENETUNREACH


def nothing_that_it_does_not_ask_for(here):
    with outside() as folder:
        start(here, "", f"Network=true\nReadPaths={folder}\nWritePaths={folder}")
        here.good("eject", "escaper")
        assert permissions(here) == {} and "ASKS FOR" not in here.good("grants", "escaper")
        assert tried(here, "read_file", folder) == errno.ENOENT
        assert tried(here, "connect_tcp", "192.0.2.1", "80") == errno.ENETUNREACH


def what_was_granted_counts_while_it_lives(here):
    """Its process keeps what it was started with, so what lies there is still not the user's own; not even under another name."""
    with outside() as folder:
        os.mkdir(folder + "/w")
        start(here, f"WritePaths={folder}/w", f"WritePaths={folder}/w")
        here.good("eject", "escaper")
        shutil.copyfile(cell("mirror"), folder + "/w/a.so")
        os.chmod(folder + "/w/a.so", 0o755)
        policy(here, "[Cell escaper]\nWritePaths=\n")
        assert "where a cell in a sandbox may write" in here.good("load", folder + "/w/a.so", "first")
        os.rename(folder + "/w", folder + "/moved")
        assert "where a cell in a sandbox may write" in here.good("load", folder + "/moved/a.so", "second")
        here.good("unload", "escaper")
        assert here.good("load", folder + "/moved/a.so", "third") == "third: loaded\n"


def the_network(here):
    """And no Unix sockets with it: names on it are no files."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(socket.AF_UNIX) as name:
        port = str(server.getsockname()[1])
        name.bind(f"\0cellhost-test-{os.getpid()}")
        name.listen()
        start(here, "Network=true", "Network=true")
        assert tried(here, "connect_to", f"@cellhost-test-{os.getpid()}") == 0     # from the host it can
        assert permissions(here) == {"Network": True}
        here.good("eject", "escaper")
        assert tried(here, "connect_tcp", "127.0.0.1", port) == 0
        assert tried(here, "make_socket", str(int(socket.AF_UNIX))) == errno.EAFNOSUPPORT
        assert tried(here, "connect_to", f"@cellhost-test-{os.getpid()}") != 0
        assert tried(here, "make_socket", "40") == errno.EAFNOSUPPORT              # vsock
        # Every process of it is judged anew.
        policy(here, "[Cell escaper]\nNetwork=false\n")
        here.good("absorb", "escaper")
        here.good("eject", "escaper")
        assert tried(here, "connect_tcp", "127.0.0.1", port) == errno.ECONNREFUSED


def paths(here):
    with outside() as folder:
        for name in ("read", "write", "neither"):
            os.mkdir(os.path.join(folder, name))
            with open(os.path.join(folder, name, "file"), "w", encoding="utf-8") as file:
                file.write("there\n")
        start(here, f"ReadPaths={folder}/read;{folder}/neither\nWritePaths={folder}/write",
              f"ReadPaths={folder}/read\nWritePaths={folder}")
        said = permissions(here)
        assert said[f"ReadPaths={folder}/read"] is True and said[f"WritePaths={folder}/write"] is True, said
        assert said[f"ReadPaths={folder}/neither"] == "the policy withholds it", said
        here.good("eject", "escaper")
        assert tried(here, "read_file", f"{folder}/read/file") == 0
        assert tried(here, "write_file", f"{folder}/read/file") == errno.EROFS
        assert tried(here, "write_file", f"{folder}/read/new") == errno.EROFS
        assert tried(here, "write_file", f"{folder}/write/new") == 0
        assert tried(here, "read_file", f"{folder}/neither/file") == errno.ENOENT
        assert tried(here, "write_file", f"{folder}/new") == errno.EROFS
        assert sorted(os.listdir(f"{folder}/write")) == ["file", "new"] and os.listdir(f"{folder}/read") == ["file"]


def links(here):
    """A folder that it may write to is no way to others."""
    with outside() as folder, outside() as other:
        os.mkdir(f"{folder}/mine")
        os.symlink(other, f"{folder}/mine/link")
        os.symlink("mine", f"{folder}/near")
        start(here, f"ReadPaths={folder}/mine/link", f"ReadPaths={folder}")
        said = here.refused("DENIED", "eject", "escaper")
        assert said.endswith(f"{folder}/mine/link leads to {other}, which is not granted"), said
        policy(here, f"[Cell escaper]\nReadPaths={folder};{other}\n")
        here.good("eject", "escaper")
        here.good("absorb", "escaper")
        key_file(here, f"ReadPaths={folder}/near")
        here.good("eject", "escaper")
        assert tried(here, "read_file", f"{folder}/near") == 0
        here.good("absorb", "escaper")
        key_file(here, f"ReadPaths={folder}/nowhere")
        assert "which cannot be opened: No such file" in here.refused("REFUSED", "eject", "escaper")


def what_no_cell_gets(here):
    """The host's own socket, and to write, what says what it may."""
    with outside() as folder:
        os.mkdir(f"{folder}/run", 0o700)
        os.mkdir(f"{folder}/config", 0o700)
        here.env.update(XDG_RUNTIME_DIR=f"{folder}/run", XDG_CONFIG_HOME=f"{folder}/config")
        os.mkdir(f"{folder}/config/cellhost")
        with open(f"{folder}/config/cellhost/policy", "w", encoding="utf-8") as file:
            file.write(f"[Cell escaper]\nReadPaths={folder}\nWritePaths={folder}\n")
        start(here, f"ReadPaths={folder}")
        assert "lies the host's own socket" in here.refused("DENIED", "eject", "escaper")
        key_file(here, f"ReadPaths={folder}/run/cellhost/socket")
        assert "lies the host's own socket" in here.refused("DENIED", "eject", "escaper")
        key_file(here, f"WritePaths={folder}/config")
        assert "lies what says what it may" in here.refused("DENIED", "eject", "escaper")
        # Also where that need not be yet: the policy is a link, and no file is trusted.
        os.rename(f"{folder}/config/cellhost/policy", f"{folder}/policy")
        os.symlink(f"{folder}/policy", f"{folder}/config/cellhost/policy")
        assert "lies what says what it may" in here.refused("DENIED", "eject", "escaper")
        with open(f"{folder}/config/cellhost/trust", "w", encoding="utf-8"):
            key_file(here, f"WritePaths={folder}/config/cellhost/trust")
        assert "lies what says what it may" in here.refused("DENIED", "eject", "escaper")
        key_file(here, f"ReadPaths={folder}/config")
        here.good("eject", "escaper")
        # The key file is elsewhere, but it could put another in the place of the link to it.
        here.good("unload", "escaper")
        os.mkdir(f"{folder}/cells")
        os.symlink(key_file(here, f"WritePaths={folder}/cells"), f"{folder}/cells/escaper.cell")
        assert "is given nothing by its key file" in here.refused("DENIED", "load", f"{folder}/cells/escaper.cell")


def a_key_file_that_is_not_the_users_own_any_more(here):
    """It was when the cell was loaded; whoever can write to it by now gets nothing by it."""
    with outside() as folder:
        grants = f"[Cell escaper]\nNetwork=false\nReadPaths={folder}\n"
        start(here, f"ReadPaths={folder}")
        policy(here, grants)
        here.good("eject", "escaper")
        assert permissions(here) == {f"ReadPaths={folder}": True}
        key_file(here, f"Network=true\nReadPaths={folder}")
        policy(here, grants + f"[Cell editor]\nWritePaths={here.folder}\n")
        said = (f"cell escaper is given nothing by its key file {here.path('escaper.cell')}, which is foreign (it lies where a "
                "cell in a sandbox may "
                "write); move that to where only you write")
        assert permissions(here) == {"Network": said, f"ReadPaths={folder}": said}, permissions(here)
        assert said in here.refused("DENIED", "restart", "escaper")
        # What asks for nothing is not in need of it.
        key_file(here, "")
        here.good("restart", "escaper")
        assert tried(here, "read_file", folder) == errno.ENOENT
        policy(here, grants)
        key_file(here, f"ReadPaths={folder}")
        here.good("restart", "escaper")
        assert permissions(here) == {f"ReadPaths={folder}": True}


def devices(here):
    """It is there or not; whether it may be opened is its mode's."""
    paths = ("/dev/fuse", "/dev/net/tun", "/dev/kmsg", "/dev/hwrng", "/dev/loop-control")
    path = next((path for path in paths if os.path.exists(path)), None)
    if path is None:
        raise Skip("there is no device here that is not in every sandbox")
    start(here, f"Devices={path}", "Devices=")
    here.good("eject", "escaper")
    assert tried(here, "read_file", path) == errno.ENOENT
    here.good("absorb", "escaper")
    policy(here, f"[Cell escaper]\nDevices={path}\n")
    here.good("eject", "escaper")
    assert tried(here, "read_file", path) == (0 if os.access(path, os.R_OK) else errno.EACCES)
    assert tried(here, "write_file", "/dev/here") == errno.EROFS


def places_that_are_taken(here):
    for path in ("/", "/usr/share", "/tmp", "/proc/1", "/run", "/dev/null"):
        key_file(here, f"ReadPaths={path}")
        said = here.refused("INVALID", "validate", "--json", here.path("escaper.cell"))
        assert f"ReadPaths: {path} is the sandbox's own" in said, said


def another_build(here):
    """Its process is made for it, and not for the one that it comes after."""
    with outside() as folder:
        with open(os.path.join(folder, "file"), "w", encoding="utf-8") as file:
            file.write("there\n")
        start(here, "", f"ReadPaths={folder}")
        here.good("eject", "escaper")
        assert tried(here, "read_file", f"{folder}/file") == errno.ENOENT
        asks = here.write("next.cell", f"[Cell]\nRestart=temporary\nModule={cell('escaper')}\nReadPaths={folder}\n")
        here.good("swap", "escaper", asks)
        assert tried(here, "read_file", f"{folder}/file") == 0
        here.good("swap", "escaper", here.path("escaper.cell"))
        assert tried(here, "read_file", f"{folder}/file") == errno.ENOENT
        policy(here, "")
        assert f"asks to read {folder}, of which the policy says nothing" in here.refused("DENIED", "swap", "escaper", asks)
        assert tried(here, "read_file", f"{folder}/file") == errno.ENOENT


def strict(here):
    """From when it has begun: a call that serving does not need ends its process, and is named; the one of who did not ask goes
    on."""
    start(here, "Strict=true")
    assert tried(here, "read_file", "/usr/bin/env") == 0, "in the host it can, so that a wrong name would be noticed"
    here.good("eject", "escaper")
    assert tried(here, "complain") == 0
    here.refused("CRASHED", "call", "escaper", "read_file", "/usr/bin/env")
    row = wait_until(lambda: next((row for row in json.loads(here.good("--json", "list")) if row["location"] == "dead"), None),
                     "its end")
    assert "openat" in row["reason"], row
    here.good("unload", "escaper")
    key_file(here, "Strict=false")
    here.good("load", here.path("escaper.cell"))
    here.good("eject", "escaper")
    assert tried(here, "read_file", "/usr/bin/env") == 0


def strict_and_other_processes(here):
    """One that its init has left behind would have less to obey than it."""
    start(here, "")

    def rude(strict):
        return here.write("rude.cell", f"[Cell]\nRestart=temporary\nModule={cell('rude-fork-start')}\nStrict={strict}\n")

    here.good("load", rude("true"))
    said = here.refused("UNSUPPORTED", "eject", "rude")
    assert "the key file says Strict, and its init has started a process" in said, said
    assert here.good("call", "rude", "work") == "calls: 1\n"
    rude("false")
    here.good("eject", "rude")


def strict_cells_serve(here):
    """Each kind of cell is called, moved with its state, and calls others, with no more system calls than are on the list."""
    start(here, "")
    cells = {name: cell(name) for name in ("memory", "crowd", "mirror")} | {"alarm": os.environ["TEST_ALARM"]}
    for name, module in cells.items():
        here.write(name + ".cell", f"[Cell]\nRestart=temporary\nModule={module}\nStrict=true\n")
        here.good("load", here.path(name + ".cell"))
        here.good("eject", name)
    for _ in range(2):
        here.good("call", "memory", "add", "a word")
        here.good("restart", "memory")
        here.good("call", "mirror", "texts", "text=text", "data=ZGF0YQ==")
        here.good("call", "mirror", "blobs", "@" + here.path("mirror.cell"), json.dumps(["@" + here.path("crowd.cell")]))
        here.good("call", "mirror", "write", "past the log")
        here.good("call", "crowd", "say", "1", "1", "10")
        here.good("restart", "crowd")
        here.good("call", "alarm", "wait", "1", "text")
        here.good("restart", "alarm")
    assert json.loads(here.good("--json", "call", "memory", "read", "1"))["text"] == "a word"
    for name in cells:
        here.good("absorb", name)
        here.good("eject", name)


main([nothing_is_granted_unless_said, nothing_that_it_does_not_ask_for, what_was_granted_counts_while_it_lives, the_network, paths,
      links, what_no_cell_gets, a_key_file_that_is_not_the_users_own_any_more, devices, places_that_are_taken, another_build,
      strict, strict_and_other_processes, strict_cells_serve])
