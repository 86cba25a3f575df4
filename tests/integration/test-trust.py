#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Trust goes by origin: what has come from elsewhere runs in a sandbox or not at all, until the user says otherwise of that very
file."""
import hashlib
import json
import os
import shutil
import stat

from programs import Skip, cell, main, stop

IN, OUT = "in process", "sandbox"


def can_sandbox(here):
    if here.run("bwrap", "--unshare-all", "--unshare-user", "--ro-bind", "/", "/", "true").returncode != 0:
        raise Skip("bubblewrap cannot make a sandbox here")


def at_home(here, *args, **more):
    """A host whose user's home is the test's folder, and has downloads in it."""
    here.env["HOME"] = here.folder
    os.makedirs(here.path("Downloads"), exist_ok=True)
    here.process = here.host(*args, **more)


def copy(name, *to):
    path = os.path.join(*to)
    shutil.copyfile(cell(name), path)
    os.chmod(path, 0o755)
    return path


def sha256(path):
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def entry(here, name):
    return next(row for row in json.loads(here.good("--json", "list")) if row["name"] == name)


def place(here, name):
    row = entry(here, name)
    return row["location"], row["origin"]


def trusted(here):
    return {row["sha256"]: row["file"] for row in json.loads(here.good("--json", "trust", "--list"))}


def trust_file(here):
    return here.path("config_home", "cellhost", "trust")


# ---- what is foreign ---------------------------------------------------------------------------------------------


def what_was_made_here_is_not_foreign(here):
    """Its author loads it, and nothing is to be said or done."""
    at_home(here)
    copy("mirror", here.path("hello.so"))
    assert here.good("load", "./hello.so") == "hello: loaded\n"
    assert place(here, "hello") == (IN, "own")
    assert entry(here, "host")["origin"] == "host"
    # Nor where nobody else can write below a folder that is everybody's.
    os.mkdir(here.path("open"))
    os.chmod(here.path("open"), 0o1777)
    os.mkdir(here.path("open", "mine"))
    here.good("load", copy("mirror", here.path("open", "mine", "too.so")))
    assert place(here, "too") == (IN, "own")


def what_is_foreign(here):
    can_sandbox(here)
    at_home(here)
    os.mkdir(here.path("open"))
    os.chmod(here.path("open"), 0o1777)
    os.mkdir(here.path("Downloads", "unpacked"))
    found = {"fetched": (copy("mirror", here.path("Downloads", "fetched.so")), "downloads"),
             "unpacked": (copy("mirror", here.path("Downloads", "unpacked", "unpacked.so")), "downloads"),
             "everybodys": (copy("mirror", here.path("open", "everybodys.so")), "not yours alone")}
    os.symlink(found["fetched"][0], here.path("linked.so"))
    found["linked"] = here.path("linked.so"), "downloads"
    for mark in ("user.xdg.origin.url", "user.xdg.referrer.url", "user.xdg.origin.email.from"):
        path = copy("mirror", here.path(mark.rsplit(".", 1)[1] + ".so"))
        try:
            os.setxattr(path, mark, b"https://example.org/")
            found[mark.rsplit(".", 1)[1]] = path, "marked"
        except OSError as error:
            print(f"# no marks here: {error}")
    assert "; foreign: it lies where downloads do" in here.good("validate", found["fetched"][0])
    for name, (path, why) in found.items():
        said = here.good("load", path)
        assert said.startswith(f"{name}: loaded into a sandbox\nits file is foreign: it ") and why in said, said
        assert f"'cellctl trust {name}'" in said, said
        assert place(here, name) == (OUT, "foreign"), name
        assert f"cell {name} is loaded into a sandbox: {path} is foreign (it " in here.read("log"), here.read("log")
        assert here.good("call", name, "nothing") == ""


def downloads_are_where_the_user_has_them(here):
    can_sandbox(here)
    os.makedirs(here.path("config_home"))
    here.write("config_home/user-dirs.dirs", f'XDG_DOWNLOAD_DIR="{here.path("fetched")}"\n')
    os.mkdir(here.path("fetched"))
    at_home(here)
    here.good("load", copy("mirror", here.path("fetched", "there.so")))
    here.good("load", copy("mirror", here.path("Downloads", "usual.so")))
    assert (place(here, "there"), place(here, "usual")) == ((OUT, "foreign"), (IN, "own"))


def where_a_sandboxed_cell_may_write(here):
    """What lies there need not be the user's."""
    can_sandbox(here)
    for folder in ("config_home/cellhost", "shared", "away"):
        os.makedirs(here.path(folder))
    here.write("config_home/cellhost/policy", f"[Cell editor]\nWritePaths={here.path('shared')}\n")
    at_home(here)
    path = copy("mirror", here.path("shared", "a.so"))
    os.symlink(path, here.path("away", "b.so"))
    for name, where in (("a", path), ("b", here.path("away", "b.so"))):
        assert "where a cell in a sandbox may write" in here.good("load", where)
        assert place(here, name) == (OUT, "foreign")
    here.good("load", copy("mirror", here.path("away", "c.so")))
    assert place(here, "c") == (IN, "own")
    # Nor need it be the user who has put his key file beside his module.
    here.write("away/d.cell", f"[Cell]\nModule={copy('mirror', here.path('away', 'd.so'))}\n")
    os.symlink(here.path("away", "d.cell"), here.path("shared", "d.cell"))
    assert "its key file is foreign: a link to it lies where a cell in a sandbox may write" in here.good("load",
                                                                                                         here.path("shared",
                                                                                                                   "d.cell"))
    assert place(here, "d") == (OUT, "foreign")
    here.good("unload", "d")
    here.good("load", here.path("away", "d.cell"))
    assert place(here, "d") == (IN, "own")


def a_policy_that_makes_no_sense(here):
    """What it grants is not known: nothing but the system's is the user's own, and that is said."""
    can_sandbox(here)
    os.makedirs(here.path("config_home/cellhost"))
    os.mkdir(here.path("shared"))
    grants = f"[Cell editor]\nWritePaths={here.path('shared')}\n"
    at_home(here)
    paths = copy("mirror", here.path("shared", "a.so")), copy("mirror", here.path("b.so"))
    here.write("config_home/cellhost/policy", grants + "Role=vieww\n")
    for name, path in zip("ab", paths):
        assert "the policy makes no sense" in here.good("load", path)
        assert place(here, name) == (OUT, "foreign")
    said = [line for line in here.read("log").splitlines() if "it cannot be told where cells in sandboxes may write" in line]
    assert len(said) == 2 and all("'vieww'" in line for line in said), said
    assert "may not be in the host" in here.refused("DENIED", "absorb", "b")
    here.good("unload", "a")
    here.good("unload", "b")
    here.write("config_home/cellhost/policy", grants)
    assert "where a cell in a sandbox may write" in here.good("load", paths[0])
    here.good("load", paths[1])
    assert (place(here, "a"), place(here, "b")) == ((OUT, "foreign"), (IN, "own"))


def introspect_shows_it(here):
    can_sandbox(here)
    at_home(here)
    paths = copy("mirror", here.path("mine.so")), copy("mirror", here.path("Downloads", "other.so"))
    for path, word, why in zip(paths, ("own", "foreign"), (None, "it lies where downloads do")):
        here.good("load", path)
        name = os.path.basename(path)[:-3]
        about = json.loads(here.good("--json", "introspect", name))
        assert (about["origin"], about["foreign"], about["sha256"]) == (word, why, sha256(path)), about
        last = here.good("introspect", name).splitlines()[-1]
        assert last == f"# file: {word}{f' ({why})' if why else ''}, SHA-256 {sha256(path)}", last
    here.good("trust", "other")
    assert "# file: trusted (it lies where downloads do), SHA-256" in here.good("introspect", "other")
    assert json.loads(here.good("--json", "introspect", "host"))["sha256"] is None
    assert "# file" not in here.good("introspect", "host")


def a_foreign_key_file(here):
    """It says what the module is given and whom it may call: the module is as foreign as that, whoever trusts the module."""
    can_sandbox(here)
    at_home(here)
    mine = copy("mirror", here.path("mine.so"))
    names = here.write(os.path.join("Downloads", "guest.cell"), f"[Cell]\nModule={mine}\n[Config]\nwhat=theirs\n")
    assert f"{names}; foreign: it lies where downloads do" in here.good("validate", names)
    assert "its key file is foreign: it lies where downloads do; move that " in here.good("load", names)
    here.good("trust", mine)
    assert place(here, "guest") == (OUT, "foreign")
    said = here.refused("DENIED", "absorb", "guest")
    assert "(its key file: it lies where downloads do)" in said and "move its key file to where only you write" in said, said
    here.good("load", mine)
    assert place(here, "mine")[0] == IN


# ---- what the user says ------------------------------------------------------------------------------------------


def a_file_is_trusted(here):
    can_sandbox(here)
    at_home(here)
    path = copy("mirror", here.path("Downloads", "guest.so"))
    here.good("load", path)
    said = here.refused("DENIED", "absorb", "guest")
    assert said == ("cell guest is foreign (it lies where downloads do) and may not be in the host; trust its file with 'cellctl "
                    "trust guest' "
                    "first"), said
    assert place(here, "guest") == (OUT, "foreign") and here.good("call", "guest", "nothing") == ""
    assert here.good("trust", "guest") == f"{path}: trusted\n"
    assert place(here, "guest") == (OUT, "trusted")
    here.good("absorb", "guest")
    assert place(here, "guest") == (IN, "trusted")
    # By what is in it: under another name and elsewhere it is the same; and another build is another file.
    here.good("load", copy("mirror", here.path("Downloads", "twin.so")))
    assert place(here, "twin") == (IN, "trusted")
    changed = copy("mirror", here.path("Downloads", "changed.so"))
    with open(changed, "ab") as file:
        file.write(b"\0")
    assert "foreign" in here.good("load", changed)
    assert place(here, "changed") == (OUT, "foreign")
    assert trusted(here) == {sha256(path): path}
    assert "FILE" in here.good("trust", "--list") and path in here.good("trust", "--list")
    about = os.stat(trust_file(here))
    assert stat.S_IMODE(about.st_mode) == 0o600 and stat.S_ISREG(about.st_mode), about
    # It lasts; and it is taken back.
    assert stop(here.process) == 0
    at_home(here, "--cell", path)
    assert place(here, "guest") == (IN, "trusted")
    assert json.loads(here.good("--json", "trust", "--remove", path)) == {"file": path, "sha256": sha256(path)}
    assert place(here, "guest") == (IN, "foreign") and trusted(here) == {}
    assert "may not be in the host" in here.refused("DENIED", "restart", "guest")
    here.good("eject", "guest")
    here.refused("DENIED", "absorb", "guest")
    here.good("restart", "guest")


def a_file_that_is_gone(here):
    can_sandbox(here)
    at_home(here)
    path = copy("mirror", here.path("Downloads", "guest.so"))
    known = sha256(path)
    assert json.loads(here.good("--json", "trust", "Downloads/guest.so")) == {"file": path, "sha256": known}
    os.remove(path)
    assert "not among the files" in here.refused("NOT_FOUND", "trust", "--remove", "0" * 64)
    here.refused("NOT_FOUND", "trust", "--remove", path)
    here.good("trust", "--remove", known)
    assert trusted(here) == {}
    here.refused("NOT_FOUND", "trust", path)
    # Of a name it is said what there is.
    assert here.refused("NOT_FOUND", "trust", "hots") == "there is no cell hots; did you mean host?"
    said = here.refused("NOT_FOUND", "trust", "nobody")
    assert said.startswith("there is no cell nobody, and there is no nobody.so and no nobody.cell in /"), said
    assert said.endswith("; what lies elsewhere is given with its path"), said
    here.write("nobody.so", "")
    assert here.refused("NOT_FOUND", "trust", "nobody") == "no cell nobody is installed; did you mean ./nobody.so?"
    assert "there is no cell nobody" in here.refused("NOT_FOUND", "trust", "--remove", "nobody")
    here.refused("UNSUPPORTED", "trust", "host")
    here.refused("INVALID", "trust")
    here.refused("INVALID", "trust", "--list", path)
    here.refused("INVALID", "trust", "--list", "--remove")


def another_build_is_looked_at(here):
    can_sandbox(here)
    at_home(here)
    here.good("load", copy("phoenix", here.path("phoenix.so")))
    path = copy("phoenix-next", here.path("Downloads", "next.so"))
    said = here.refused("DENIED", "swap", "phoenix", path)
    assert path in said and "'cellctl eject phoenix'" in said and f"'cellctl trust {path}'" in said, said
    assert place(here, "phoenix") == (IN, "own") and here.good("call", "phoenix", "add", "2") == "value: 2\nbuild: 1\n"
    here.good("eject", "phoenix")
    here.good("swap", "phoenix", path)
    assert place(here, "phoenix") == (OUT, "foreign") and here.good("call", "phoenix", "add", "2") == "value: 4\nbuild: 2\n"
    here.refused("DENIED", "absorb", "phoenix")
    here.good("trust", "phoenix")
    here.good("absorb", "phoenix")
    assert place(here, "phoenix") == (IN, "trusted") and here.good("call", "phoenix", "add", "2") == "value: 6\nbuild: 2\n"


# ---- without a sandbox -------------------------------------------------------------------------------------------


def programs_without(here, bwrap=None):
    """A folder of programs among which there is no bubblewrap, or that one."""
    os.makedirs(here.path("programs"))
    if bwrap is not None:
        here.write("programs/bwrap", bwrap, 0o755)
    return {**here.env, "PATH": here.path("programs"), "HOME": here.folder}


def refused_where_there_is_no_sandbox(here, bwrap=None):
    environment = programs_without(here, bwrap)
    os.mkdir(here.path("Downloads"))
    path = copy("mirror", here.path("Downloads", "guest.so"))
    at_home(here, "--cell", path, env=environment)      # what is foreign is no reason to serve nobody
    log = here.read("log")
    said = here.refused("UNSUPPORTED", "load", path)
    for text in (log, said):
        assert f"cell guest is not loaded: {path} is foreign (it lies where downloads do)" in text, text
        assert f"'cellctl trust {path}'" in text and "install bubblewrap" in text, text
    assert [row["name"] for row in json.loads(here.good("--json", "list"))] == ["host"]
    here.good("trust", path)
    assert here.good("load", path) == "guest: loaded\n"
    assert place(here, "guest") == (IN, "trusted")
    assert here.read("log").count(": cells are loaded without being tried first") == 1
    here.good("load", copy("mirror", here.path("mine.so")))
    assert place(here, "mine") == (IN, "own")


def no_bubblewrap(here):
    refused_where_there_is_no_sandbox(here)


def bubblewrap_that_does_not_start(here):
    refused_where_there_is_no_sandbox(here, "#!/bin/sh\nexit 1\n")


# ---- a list that says nothing ------------------------------------------------------------------------------------


def a_damaged_list_trusts_nobody(here):
    can_sandbox(here)
    at_home(here)
    path = copy("mirror", here.path("Downloads", "guest.so"))
    here.good("trust", path)
    good = here.read("config_home/cellhost/trust")
    group = f"[{sha256(path)}]\n"
    bad = {"a mode": (good, 0o644), "words": (good + "trust me\n", 0o600), "a key": (good + "All=true\n", 0o600),
           "no key": (group, 0o600),
           "a group": (good + "[Default]\nFile=a\nWhen=b\n", 0o600),
           "upper case": (good.replace(sha256(path), sha256(path).upper()), 0o600),
           "a NUL": (good + "\0", 0o600), "an escape": (good.replace("File=", "File=\x1b[31m"), 0o600)}
    for number, (what, (text, mode)) in enumerate(bad.items()):
        here.write("config_home/cellhost/trust", text, mode)
        here.good("load", path, f"guest{number}")
        assert place(here, f"guest{number}") == (OUT, "foreign"), what
        here.refused("DENIED", "absorb", f"guest{number}")
        assert trust_file(here) in here.refused("STATE", "trust", path), what
        assert trust_file(here) in here.refused("STATE", "trust", "--list"), what
        assert here.read("config_home/cellhost/trust") == text, what
    # Somebody else's, or what somebody else could have put there.
    here.write("elsewhere", good, 0o600)
    os.remove(trust_file(here))
    os.symlink(here.path("elsewhere"), trust_file(here))
    assert trusted_by_nobody(here, path)
    os.remove(trust_file(here))
    here.write("config_home/cellhost/trust", good, 0o600)
    os.chmod(here.path("config_home", "cellhost"), 0o777)
    assert trusted_by_nobody(here, path)
    os.chmod(here.path("config_home", "cellhost"), 0o700)
    here.good("load", path)
    assert place(here, "guest") == (IN, "trusted")


def trusted_by_nobody(here, path):
    here.ctl("unload", "nobody")
    here.good("load", path, "nobody")
    return place(here, "nobody") == (OUT, "foreign")


os.umask(0o022)         # a module that others may write to is refused
main([what_was_made_here_is_not_foreign, what_is_foreign, downloads_are_where_the_user_has_them, where_a_sandboxed_cell_may_write,
      a_policy_that_makes_no_sense, introspect_shows_it, a_foreign_key_file, a_file_is_trusted, a_file_that_is_gone,
      another_build_is_looked_at, no_bubblewrap, bubblewrap_that_does_not_start, a_damaged_list_trusts_nobody])
