#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What `cellctl introspect` says of a cell: for people, and with --json for programs."""
import hashlib
import json
import re

from programs import cell, main

TYPES = {"plain": "{}", "array": "array ({})", "optional": "optional ({})"}


def quoted(doc):
    escaped = re.sub(r'["\\]', r"\\\g<0>", doc or "").replace("\n", "\\n")
    return f' "{escaped}"' if doc else ""


class Text:
    """The contract that --json has taken apart, put together again: (kind, name, line) of each item."""

    def __init__(self, about, docs):
        self.docs = docs
        self.lines = [("interface", None, f"interface {about['interface']} {about['version']}{self.doc(about)}")]
        for of in about["structs"]:
            self.add("struct", of, f"{{ {self.rows(of['members'])} }}")
        for of in about["methods"]:
            words = [f" fails {name}" for name in of["errors"]] + [" " + key for key in ("idempotent", "oneway", "job") if of[key]]
            self.add("method", of, f"({self.rows(of['arguments'])}) -> ({self.rows(of['outputs'])})", *words,
                     self.bounds(of), self.doc(of))
        for of in about["properties"]:
            self.add("property", of, of["type"], " writable" if of["writable"] else "", self.bounds(of), self.doc(of))
        for of in about["signals"]:
            self.add("signal", of, f"({self.rows(of['arguments'])})", self.doc(of))
        for of in about["errors"]:
            self.lines.append(("error", of["name"], f"error {of['name']}{self.doc(of)}"))

    def add(self, kind, of, *words):
        self.lines.append((kind, of["name"], f"{kind} {of['name']} {''.join(words)}"))

    def doc(self, of):
        return quoted(of["doc"]) if self.docs else ""

    def rows(self, rows):
        return ", ".join(f"{TYPES[row['shape']].format(row['type'])} {row['name']}{self.doc(row)}" for row in rows)

    @staticmethod
    def bounds(of):
        access = f" access {of['access']}" if of["access"] != "any" else ""
        return access + "".join(f" {key} {of[key]}" for key in ("timeout", "max_reply") if of[key] is not None)


def fingerprint(lines):
    return hashlib.sha256("".join(line + "\n" for line in lines).encode()).hexdigest()[:16]


def used_structs(about, of):
    """The names of the structs that an item's rows use, directly or not."""
    structs = {struct["name"]: struct for struct in about["structs"]}
    used = {row["type"] for row in of["arguments"] + of.get("outputs", [])} & structs.keys()
    while more := {row["type"] for name in used for row in structs[name]["members"]} & (structs.keys() - used):
        used |= more
    return used


def json_has_all_of_it(here):
    """Put together again it is the same text, and has the same fingerprints."""
    names = ("mirror", "every", "memory")
    here.host(*(word for name in names for word in ("--cell", cell(name))))
    for name in (*names, "host"):
        about = json.loads(here.good("--json", "introspect", name))
        assert "".join(line + "\n" for _, _, line in Text(about, True).lines) == here.good("introspect",
                                                                                           name).split("# file: ")[0], name
        lines = Text(about, False).lines
        assert about["fingerprint"] == fingerprint(line for _, _, line in lines), name
        for kind in ("method", "signal"):
            for of in about[kind + "s"]:
                used = used_structs(about, of)
                about_it = {("struct", struct) for struct in used} | {(kind, of["name"])}
                assert of["fingerprint"] == fingerprint(line for what, item, line in lines if (what, item) in about_it), (name, of)
        for of in about["properties"]:
            assert of["fingerprint"] == fingerprint([f"@{of['name']} {of['type']}"]), of
            assert of["setter_fingerprint"] == (fingerprint([f"={of['name']} {of['type']}"]) if of["writable"] else None), of


def what_is_said_of_a_method(here):
    here.host("--cell", cell("every"))
    methods = {of["name"]: of for of in json.loads(here.good("introspect", "--json", "every"))["methods"]}
    attributes = dict(methods["attributes"])
    assert re.fullmatch("[0-9a-f]{16}", attributes.pop("fingerprint")), attributes
    assert attributes == {"name": "attributes", "doc": None, "arguments": [], "outputs": [], "errors": [], "idempotent": True,
                          "oneway": True, "job": True, "access": "admin", "timeout": 30000, "max_reply": 65536}, attributes
    everything = methods["everything"]
    assert everything["doc"] == "Takes and gives all types." and everything["errors"] == ["Shared", "Undocumented"], everything
    assert everything["access"] == "any" and everything["timeout"] is None and not everything["idempotent"], everything
    for row in ({"name": "in_structs", "type": "Mixed", "shape": "array", "doc": "documented"},
                {"name": "in_optional", "type": "bool", "shape": "optional", "doc": None},
                {"name": "in_u8", "type": "u8", "shape": "plain", "doc": None}):
        assert row in everything["arguments"], (row, everything)


def for_people(here):
    here.host("--cell", cell("mirror"))
    text = here.good("introspect", "mirror")
    assert text.startswith('interface org.cellhost.test.Mirror 1 "Gives back what it is given"\n'), text
    assert "\nmethod fail (str message) -> () fails Asked\n" in text, text
    header = here.good("client", "mirror")
    assert "mirror_nothing" in header and "#ifndef" in header
    assert "org.cellhost.Host" in here.good("introspect", "host")


main([for_people, json_has_all_of_it, what_is_said_of_a_method])
