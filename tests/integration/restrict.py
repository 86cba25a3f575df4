#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Runs a program under restrictions of a systemd unit, without systemd: restrict.py KEY=VALUE... -- PROGRAM [ARGUMENT...]

One that it cannot apply as systemd does it is refused, so that nobody takes a unit for tried that was not."""
import ctypes
import errno
import os
import subprocess
import sys

PR_SET_NO_NEW_PRIVS = 38
ALLOW, KILL_PROCESS, ERRNO, MASKED_EQ = 0x7FFF0000, 0x80000000, 0x00050000, 7
EPERM, ENOSYS = 1, 38
NAMESPACES = (0x00000080, 0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000)       # CLONE_NEW…


class Compare(ctypes.Structure):
    _fields_ = [("arg", ctypes.c_uint), ("op", ctypes.c_int), ("mask", ctypes.c_uint64), ("value", ctypes.c_uint64)]


class Filter:
    """What is allowed but for what is denied."""

    def __init__(self):
        self.lib = ctypes.CDLL("libseccomp.so.2", use_errno=True)
        self.lib.seccomp_init.restype = ctypes.c_void_p
        self.context = ctypes.c_void_p(self.lib.seccomp_init(ctypes.c_uint32(ALLOW)))
        assert self.context, "no filter"

    def deny(self, action, name, *compare):
        number = self.lib.seccomp_syscall_resolve_name(name.encode())
        if number == -1:                # this machine's libseccomp does not know it
            return
        array = (Compare * max(len(compare), 1))(*compare)
        done = self.lib.seccomp_rule_add_array(self.context, ctypes.c_uint32(action), number, len(compare), array)
        assert done == 0, (name, done)

    def load(self):
        assert self.lib.seccomp_load(self.context) == 0, "the filter is not loaded"


def names_of(word):
    """A system call, or a set of them as systemd has it."""
    if not word.startswith("@"):
        return [word]
    said = subprocess.run(["systemd-analyze", "syscall-filter", word], stdout=subprocess.PIPE, check=True).stdout.decode()
    words = [line.strip() for line in said.splitlines()[1:] if line.strip() and not line.strip().startswith("#")]
    return [name for inner in words for name in names_of(inner)]


def no_new_privileges(value):
    assert value == "yes", value
    assert ctypes.CDLL(None).prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0


def filter_calls(value):
    assert value.startswith("~"), "only what is denied"
    calls = Filter()
    for word in value[1:].split():
        word, _, number = word.partition(":")
        for name in names_of(word):
            calls.deny(ERRNO | getattr(errno, number) if number else KILL_PROCESS, name)
    calls.load()


def restrict_namespaces(value):
    assert value == "yes", value
    calls = Filter()
    for flag in NAMESPACES:
        for name in ("clone", "unshare"):
            calls.deny(ERRNO | EPERM, name, Compare(0, MASKED_EQ, flag, flag))
    calls.deny(ERRNO | EPERM, "setns")
    calls.deny(ERRNO | ENOSYS, "clone3")        # its flags cannot be seen
    calls.load()


KNOWN = {"NoNewPrivileges": no_new_privileges, "UMask": lambda value: os.umask(int(value, 8)), "SystemCallFilter": filter_calls,
         "RestrictNamespaces": restrict_namespaces}


def main():
    end = sys.argv.index("--")
    for word in sys.argv[1:end]:
        key, value = word.split("=", 1)
        if key not in KNOWN:
            sys.exit(f"restrict.py: nothing is known of {key}=; it has to be applied as systemd does it")
        KNOWN[key](value)
    os.execvp(sys.argv[end + 1], sys.argv[end + 1:])


main()
