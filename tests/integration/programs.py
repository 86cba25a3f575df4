# SPDX-License-Identifier: LGPL-2.1-or-later
"""cellhostd and cellctl as somebody runs them: real processes in a folder of their own.  And a few lines of TAP."""
import contextlib
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback

HOST = os.environ["TEST_HOST"]
CTL = os.environ["TEST_CTL"]
RUNNER = os.environ["TEST_RUNNER"]
CELLS = os.environ["TEST_CELLS"]        # the folder of the fixture cells
BOUND = 120                             # seconds, for what takes none: also under a sanitizer, on a busy machine

# The exit codes, from the one table of them.
with open(os.environ["TEST_ERRORS"], encoding="utf-8") as table:
    EXIT = {name: int(code) for name, code in re.findall(r"^  X \((\w+), +-\d+, \w+, +(\d+),", table.read(), re.MULTILINE)}


class Skip(Exception):
    """A test cannot be run here, and why."""


def need(*programs):
    """What `./dev setup` installs is there in an automatic build; elsewhere a test without it is skipped."""
    for program in programs:
        if not shutil.which(program):
            assert not os.environ.get("CI"), f"there is no {program}"
            raise Skip(f"there is no {program}")


def cell(name):
    return os.path.join(CELLS, name + ".so")


def wait_until(condition, what):
    """Looks again and again, the less often the longer it takes: a look may be a program that is started."""
    began = time.monotonic()
    while not (found := condition()):
        waited = time.monotonic() - began
        assert waited < BOUND, f"{what} does not come about"
        time.sleep(min(max(waited / 8, 0.002), 0.5))
    return found


class Place:
    """A folder with a host, or without: $XDG_RUNTIME_DIR and the like for whatever is run in it."""

    def __init__(self):
        # The path of a socket is short, so that of the folder has to be.
        self.folder = tempfile.mkdtemp(prefix="cellhost-", dir=None if len(tempfile.gettempdir()) < 40 else "/tmp")
        self.env = dict(os.environ, LANGUAGE="C")
        for name in ("CELLHOST_SOCKET", "NOTIFY_SOCKET", "CELL_PATH"):
            self.env.pop(name, None)
        for name in ("RUNTIME_DIR", "STATE_HOME", "CACHE_HOME", "CONFIG_HOME", "DATA_HOME"):
            self.env["XDG_" + name] = self.path(name.lower())
        os.mkdir(self.env["XDG_RUNTIME_DIR"], 0o700)
        self.socket = self.path("runtime_dir", "cellhost", "socket")
        self.processes = []

    def path(self, *names):
        return os.path.join(self.folder, *names)

    def write(self, name, content, mode=0o644):
        with open(self.path(name), "wb") as file:
            os.fchmod(file.fileno(), mode)      # whoever waits for the file may take it away at once
            file.write(content if isinstance(content, bytes) else content.encode())
        return self.path(name)

    def read(self, name):
        with open(self.path(name), "rb") as file:
            return file.read().decode()

    def spawn(self, *argv, **more):
        process = subprocess.Popen(argv, **{"cwd": self.folder, "env": self.env, "stdin": subprocess.DEVNULL, **more})
        self.processes.append(process)
        return process

    def run(self, *argv, **more):
        return subprocess.run(argv, timeout=BOUND, check=False,
                              **{"cwd": self.folder, "env": self.env, "stdin": subprocess.DEVNULL, "capture_output": True, **more})

    # ---- the host

    def host_argv(self, *args):
        return [HOST, "--runner", RUNNER, *(["--allow-root"] if os.geteuid() == 0 else []), *args]

    def host(self, *args, log="log", **more):
        """Starts one, and returns when programs can connect."""
        reading, writing = os.pipe()
        with open(self.path(log), "ab") as stderr:
            process = self.spawn(*self.host_argv("--ready-fd", str(writing), *args),
                                 **{"stderr": stderr, "pass_fds": (writing,), **more})
        os.close(writing)
        ready = select.select([reading], [], [], BOUND)[0] and os.read(reading, 1)
        os.close(reading)
        assert ready, "the host did not start:\n" + self.read(log)
        return process

    def host_refused(self, *args, **more):
        """One that does not start: its exit code, and the sentence that it says."""
        done = self.run(*self.host_argv(*args), **more)
        return done.returncode, sentence(done, "cellhostd")

    # ---- the command line

    def ctl(self, *args, **more):
        return self.run(CTL, *args, **more)

    def good(self, *args, **more):
        """Must succeed, without a word on standard error: what it prints."""
        done = self.ctl(*args, **more)
        assert done.returncode == 0 and not done.stderr, (args, done)
        return done.stdout.decode()

    def refused(self, name, *args, **more):
        """Must fail with that error of the table and one sentence on standard error, which is returned."""
        done = self.ctl(*args, **more)
        said = sentence(done, "cellctl")
        assert done.returncode == EXIT[name], (args, name, EXIT[name], done)
        return said

    def close(self):
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.wait(BOUND)
        shutil.rmtree(self.folder, ignore_errors=True)


def sentence(done, program):
    """What was said: one line, of nothing that a terminal obeys."""
    said = done.stderr.decode()
    assert done.returncode != 0, done
    assert said.startswith(program + ": ") and said.count("\n") == 1 and said.endswith("\n"), said
    assert said[:-1].isprintable() and len(said) > len(program) + 12, said
    return said[len(program) + 2:-1]


def stop(process, number=signal.SIGTERM):
    """Ends a process; its exit code."""
    process.send_signal(number)
    return process.wait(BOUND)


@contextlib.contextmanager
def place():
    here = Place()
    try:
        yield here
    except BaseException:
        for name in sorted(os.listdir(here.folder)):
            if name.startswith("log"):
                print("# " + here.read(name).replace("\n", "\n# "))
        raise
    finally:
        here.close()


def interrupted(number, _):
    """Ends the test as an exception does: nothing that it started outlives it, not even what it has stopped."""
    signal.signal(number, signal.SIG_IGN)
    sys.exit(128 + number)


def main(tests):
    """Runs functions that take a Place; or those whose names are given on the command line."""
    signal.signal(signal.SIGTERM, interrupted)
    chosen = [test for test in tests if not sys.argv[1:] or test.__name__ in sys.argv[1:]]
    failed = 0
    print(f"1..{len(chosen)}")
    for i, test in enumerate(chosen, 1):
        name = test.__name__.replace("_", " ")
        try:
            with place() as here:
                test(here)
            print("ok", i, name, flush=True)
        except Skip as reason:
            print("ok", i, name, "# SKIP", reason, flush=True)
        except Exception:
            failed += 1
            print("# " + traceback.format_exc().replace("\n", "\n# "))
            print("not ok", i, name, flush=True)
    sys.exit(1 if failed else 0)
