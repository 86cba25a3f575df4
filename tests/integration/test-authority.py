#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Authority belongs to the connection: what an ejected cell may ask for, what keeps it from moving, and what another user gets."""
import contextlib
import errno
import json
import os
import pwd
import shutil
import subprocess

from programs import BOUND, CTL, EXIT, Skip, cell, main, stop, wait_until

PRETENDER = os.environ["TEST_PRETENDER"]
MUTATIONS = ("load", "unload", "eject", "absorb", "trust", "shutdown")


def can_sandbox(here):
    if here.run("bwrap", "--unshare-all", "--unshare-user", "--ro-bind", "/", "/", "true").returncode != 0:
        raise Skip("bubblewrap cannot make a sandbox here")


def key_file(here, calls=None):
    line = f"Calls={calls}\n" if calls is not None else ""
    return here.write("petitioner.cell", f"[Cell]\nModule={cell('petitioner')}\n{line}")


def policy(here, text, mode=0o644):
    folder = here.path("config_home", "cellhost")
    os.makedirs(folder, exist_ok=True)
    return here.write(os.path.join("config_home", "cellhost", "policy"), text, mode)


def start(here, calls=None, uses=None, says=None):
    """A host with a sequence and a petitioner that still is in it; the paths of the petitioner's key file and of the policy."""
    can_sandbox(here)
    files = key_file(here, calls), here.path("config_home", "cellhost", "policy")
    if says is not None:
        policy(here, says)
    here.process = here.host("--cell", cell("sequence"))
    here.good("load", files[0], *([f"uses={uses}"] if uses else []))
    return files


def ask(here, whom, what="", about=""):
    """The petitioner asks: the status it gets, and the sentence."""
    reply = json.loads(here.good("--json", "call", "petitioner", "ask", whom, what, about))
    return reply["status"], reply["message"]


def denied(here, whom, what="", about=""):
    status, said = ask(here, whom, what, about)
    assert status == -14, (status, said)
    return said


def granted(here, whom, what="", about=""):
    status, said = ask(here, whom, what, about)
    assert status == 0, (status, said)


def place(here):
    entry = next(entry for entry in json.loads(here.good("--json", "list")) if entry["name"] == "petitioner")
    return entry["location"], entry["moves"]


# ---- whom it may call --------------------------------------------------------------------------------------


def what_its_key_file_does_not_list(here):
    about, _ = start(here)
    granted(here, "sequence")           # in the host it is trusted
    here.good("unload", "petitioner")
    here.good("load", about)
    here.good("eject", "petitioner")
    said = denied(here, "sequence")
    assert said.endswith(f"petitioner may not call sequence from a sandbox; write Calls=sequence below [Cell] in {about}"), said
    assert "petitioner may not call sequence" in here.read("log")
    # It is read anew for each question.
    key_file(here, "alarm")
    assert f"write Calls=alarm;sequence below [Cell] in {about}" in denied(here, "sequence")
    key_file(here, "alarm;sequence")
    granted(here, "sequence")
    # What is open stays open.
    key_file(here, "alarm")
    granted(here, "sequence")


def a_key_file_that_is_not_the_users_own_any_more(here):
    """It was when the cell was loaded; what it says by now need not be his."""
    about, _ = start(here, "sequence")
    here.good("eject", "petitioner")
    policy(here, f"[Cell editor]\nWritePaths={here.folder}\n")
    said = denied(here, "sequence").partition(": ")[2]
    assert said == (f"cell petitioner is given nothing by its key file {about}, which is foreign (it lies where a cell in a "
                    "sandbox may write); "
                    "move that to where only you write"), said
    assert said in here.good("grants", "petitioner")
    policy(here, "")
    granted(here, "sequence")
    # Nor does it move to where it may not call any more whom it calls.
    here.good("absorb", "petitioner")
    granted(here, "sequence")
    policy(here, f"[Cell editor]\nWritePaths={here.folder}\n")
    assert said in here.refused("DENIED", "eject", "petitioner")
    policy(here, "")
    here.good("eject", "petitioner")


def a_cell_that_is_not_there(here):
    """Whether it is there is nothing that everybody is told."""
    start(here)
    here.good("eject", "petitioner")
    here.good("unload", "sequence")
    denied(here, "sequence")
    key_file(here, "sequence")
    assert ask(here, "sequence")[0] == -3


def what_the_policy_withdraws(here):
    about, path = start(here, calls="sequence", says="[Cell petitioner]\nCalls=\n")
    here.good("eject", "petitioner")
    assert f"write Calls=sequence below [Cell petitioner] in {path}" in denied(here, "sequence")
    policy(here, "[Default]\nCalls=alarm\n")
    assert f"write Calls=alarm;sequence below [Cell petitioner] in {path}" in denied(here, "sequence")
    # Both have to say so.
    key_file(here, "")
    policy(here, "[Cell petitioner]\nCalls=sequence\n")
    assert f"below [Cell] in {about}" in denied(here, "sequence")
    key_file(here, "sequence")
    granted(here, "sequence")


def the_host_itself(here):
    _, path = start(here, calls="host;sequence")
    here.good("eject", "petitioner")
    for what in ("list", *MUTATIONS):
        said = denied(here, "host", what, "sequence")
        assert f"write Role=view (or operate, or admin) below [Cell petitioner] in {path}" in said, said
    policy(here, "[Cell petitioner]\nRole=view\n")
    granted(here, "host", "list")
    for what in MUTATIONS:
        said = denied(here, "host", what, cell("mirror") if what == "load" else "petitioner" if what == "trust" else "sequence")
        assert said.endswith(f"cell petitioner does not have the role 'admin', which this asks for; "
                             f"write Role=admin below [Cell petitioner] in {path}"), said
    assert [entry["name"] for entry in json.loads(here.good("--json", "list"))] == ["host", "petitioner", "sequence"]
    assert here.process.poll() is None and json.loads(here.good("--json", "trust", "--list")) == []
    # In the host it may no more than that, too, without being told so by anybody.
    here.good("absorb", "petitioner")
    granted(here, "host", "list")
    assert "a cell in the host's process does not have the role 'admin'" in denied(here, "host", "unload", "sequence")


def a_role_that_was_given(here):
    start(here, calls="host", says="[Cell petitioner]\nRole=admin\n")
    here.good("eject", "petitioner")
    granted(here, "host", "unload", "sequence")
    assert [entry["name"] for entry in json.loads(here.good("--json", "list"))] == ["host", "petitioner"]


# ---- moves -------------------------------------------------------------------------------------------------


def moves_are_honest(here):
    about, path = start(here, uses="sequence")
    for change, sentence in ((lambda: None, f"write Calls=sequence below [Cell] in {about}"),
                             (lambda: (key_file(here, "sequence"), policy(here, "[Default]\nCalls=\n")),
                              f"write Calls=sequence below [Cell petitioner] in {path}")):
        change()
        said = here.refused("DENIED", "eject", "petitioner")
        assert said == f"cell petitioner may not call sequence from a sandbox; {sentence}", said
        assert place(here) == ("in process", 0)
        granted(here, "sequence")       # nothing was stopped
    policy(here, "[Default]\nCalls=sequence\n")
    here.good("eject", "petitioner")
    granted(here, "sequence")


def what_it_calls_only_later(here):
    """A client that the cell has made by now counts, whether it has called or not."""
    start(here)
    here.good("eject", "petitioner")
    denied(here, "sequence")
    here.good("absorb", "petitioner")
    granted(here, "sequence")
    here.refused("DENIED", "eject", "petitioner")


def what_it_uses_while_it_moves(here):
    """Those that it began to use when its new process was being made are asked for once more, and it goes on where it was."""
    about, _ = start(here, calls="mirror")
    here.good("load", cell("mirror"))
    here.good("unload", "petitioner")
    here.good("load", about, "begun=" + here.path("begun"), "until=" + here.path("until"))
    moving = here.spawn(CTL, "--timeout", "60", "eject", "petitioner", stderr=subprocess.PIPE)
    wait_until(lambda: os.path.exists(here.path("begun")), "the init of its new process")
    granted(here, "sequence")           # from the old one, which is trusted
    here.write("until", "")
    said = moving.communicate(timeout=BOUND)[1].decode()
    assert moving.returncode == EXIT["DENIED"], (moving.returncode, said)
    assert f"write Calls=mirror;sequence below [Cell] in {about}" in said, said
    assert place(here) == ("in process", 0)
    granted(here, "sequence")
    key_file(here, "mirror;sequence")
    here.good("eject", "petitioner")


def the_host_is_no_exception(here):
    about, path = start(here, uses="host")
    assert f"write Calls=host below [Cell] in {about}" in here.refused("DENIED", "eject", "petitioner")
    key_file(here, "host")
    said = here.refused("DENIED", "eject", "petitioner")
    assert f"write Role=view (or operate, or admin) below [Cell petitioner] in {path}" in said, said
    policy(here, "[Cell petitioner]\nRole=view\n")
    here.good("eject", "petitioner")
    granted(here, "host", "list")


def a_module_without_a_key_file(here):
    can_sandbox(here)
    here.host("--cell", cell("sequence"))
    shutil.copy(cell("petitioner"), here.path("alone.so"))
    os.chmod(here.path("alone.so"), 0o755)
    here.good("load", "alone.so", "uses=sequence")
    said = here.refused("DENIED", "eject", "alone")
    assert said.endswith(f"write Calls=sequence below [Cell] in {os.path.realpath(here.folder)}/alone.cell"), said
    here.write("alone.cell", "[Cell]\nCalls=sequence\n")
    here.good("eject", "alone")


def what_is_shown(here):
    about, path = start(here, calls="sequence;host", uses="sequence")
    missing = f"write Role=view (or operate, or admin) below [Cell petitioner] in {path}"
    assert json.loads(here.good("--json", "grants", "petitioner")) == {"role": "none", "calls": [
        {"cell": "sequence", "granted": True, "why_not": None},
        {"cell": "host", "granted": False, "why_not": "cell petitioner may not call host from a sandbox; " + missing}],
        "permissions": []}
    policy(here, "[Default]\nRole=view\n")
    shown = [line.split()[:2] for line in here.good("grants", "petitioner").splitlines()]
    assert shown == [["role:", "view"], ["CELL", "GRANTED"], ["sequence", "true"], ["host", "true"]], shown
    # Whom it uses and must not call is said, too, and nothing of it changes when it has moved but what it uses.
    key_file(here, "host")
    rows = json.loads(here.good("--json", "grants", "petitioner"))["calls"]
    assert [(row["cell"], row["granted"]) for row in rows] == [("host", True), ("sequence", False)], rows
    assert f"below [Cell] in {about}" in rows[1]["why_not"]
    here.refused("UNSUPPORTED", "grants", "host")


# ---- a policy that makes no sense --------------------------------------------------------------------------


def nonsense(here):
    path = policy(here, "[Cells]\nCalls=*\n")
    assert stop(here.host()) == 0
    assert path + ": there is a group [Cells]" in here.read("log")
    policy(here, "")
    start(here, calls="sequence", uses="sequence")
    here.good("load", cell("mirror"))
    policy(here, "[Cells]\nCalls=*\n")
    assert "[Cells]" in here.refused("INVALID", "eject", "petitioner")
    policy(here, "[Default]\nCalls=*\n", 0o666)
    assert "chmod go-w" in here.refused("REFUSED", "eject", "petitioner")
    # It keeps nobody else from moving.
    here.good("eject", "mirror")
    policy(here, "")
    here.good("eject", "petitioner")
    granted(here, "sequence")


def nonsense_later(here):
    start(here, calls="sequence")
    here.good("eject", "petitioner")
    policy(here, "[Default]\nCall=*\n")
    status, said = ask(here, "sequence")
    assert status == -2 and "has a key Call;" in said, (status, said)


# ---- those who do not ask as they should -------------------------------------------------------------------


def by_hand(here):
    """A child that has its own idea of what a runner says: it gets no binding and no channel."""
    can_sandbox(here)
    about = key_file(here, "ledger")
    here.host("--runner", PRETENDER, "--cell", cell("sequence"), "--cell", cell("mirror"))
    here.good("load", about, "a=sequence", "b=host", "c=petitioner", "d=nobody", "e=mirror")
    said = here.refused("FAILED", "eject", "petitioner")
    asked = {name: said.split(name + ": ")[1].split(";")[0] for name in ("sequence", "host", "petitioner", "nobody", "mirror")}
    assert set(asked.values()) == {"-14 -14"}, asked
    channels = {entry["name"]: entry["channels"] for entry in json.loads(here.good("--json", "list"))}
    assert channels == {"host": 1, "petitioner": 0, "sequence": 0, "mirror": 0}, channels
    key_file(here, "ledger;mirror")
    said = here.refused("FAILED", "eject", "petitioner")
    assert "mirror: " in said and not said.split("mirror: ")[1].split(";")[0].endswith("-14"), said


# ---- another user ------------------------------------------------------------------------------------------

# Connects, and prints what it is told, or why it could not.
STRANGER = """
import errno, socket, sys
peer = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
peer.settimeout(60)
try:
    peer.connect(sys.argv[1])
    print(peer.recv(4096).decode(errors="replace"), len(peer.recv(4096)))
except OSError as error:
    print(errno.errorcode[error.errno])
"""


def somebody_else(here):
    """The words before a command that another user runs."""
    if os.geteuid() == 0:
        return ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    with contextlib.suppress(FileNotFoundError), open("/etc/subuid", encoding="utf-8") as file:
        for name, first, _ in (line.split(":") for line in file if line.count(":") == 2):
            words = ["unshare", "--user", "--map-root-user", f"--map-users={first},1,1", "setpriv", "--reuid=1"]
            if name == pwd.getpwuid(os.geteuid()).pw_name and here.run(*words, "true").returncode == 0:
                return words
    raise Skip("there is nobody else: no newuidmap, or no line of this user's in /etc/subuid")


def another_user(here):
    words = somebody_else(here)
    here.host()
    # Whoever runs this may keep others from the folder that all of this lies in: it is given to the stranger.
    folder = os.open(os.path.dirname(here.socket), os.O_PATH | os.O_DIRECTORY)
    argv = [*words, "python3", "-c", STRANGER, f"/proc/self/fd/{folder}/socket"]

    def told():
        done = here.run(*argv, pass_fds=(folder,))
        assert done.returncode == 0, done
        return done.stdout.decode().strip()

    assert told() == errno.errorcode[errno.EACCES]
    os.chmod(os.path.dirname(here.socket), 0o711)
    assert told() == errno.errorcode[errno.EACCES]
    # Even who comes so far is told one thing, and that is the end.
    os.chmod(here.socket, 0o666)
    said = told()
    assert "this host belongs to another user" in said and said.endswith(" 0"), said
    assert [entry["name"] for entry in json.loads(here.good("--json", "list"))] == ["host"]
    os.close(folder)


os.umask(0o022)         # a module or key file that others may write to is refused
main([what_its_key_file_does_not_list, a_key_file_that_is_not_the_users_own_any_more, a_cell_that_is_not_there,
      what_the_policy_withdraws, the_host_itself, a_role_that_was_given, moves_are_honest, what_it_calls_only_later,
      what_it_uses_while_it_moves, the_host_is_no_exception, a_module_without_a_key_file, what_is_shown, nonsense, nonsense_later,
      by_hand, another_user])
