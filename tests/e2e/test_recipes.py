#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""examples/recipes in each language: what they enqueue, on both stores, and which payloads their workers survive.

A language whose interpreter or driver is not here is skipped, and says so; with NANOQ_RECIPES_REQUIRED=1 that is a
failure. NODE_PATH names where node finds what npm installed (make test-recipes sets both).
"""
import datetime
import hashlib
import json
import os
import shutil
import subprocess
import unittest
import urllib.parse

from test_cli import LIMIT, MYSQL, MysqlBase
from test_work import ServiceBase

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
RECIPES = os.path.join(TOP, "examples", "recipes")
REQUIRED = os.environ.get("NANOQ_RECIPES_REQUIRED") == "1"

# file: its interpreters, the first that has the driver counts (Debian's modules are those of Debian's python3)
PROGRAMS = {"py": ("python3", "/usr/bin/python3"), "php": ("php",), "pl": ("perl",), "rb": ("ruby",), "js": ("node",)}
# file, driver: how to see that the driver is there
DRIVERS = {
    "sqlite": {("py", "sqlite"): ("-c", "import sqlite3"), ("php", "sqlite"): ("-r", "exit((int)!extension_loaded('pdo_sqlite'));"),
               ("pl", "SQLite"): ("-MDBI", "-MDBD::SQLite", "-e1"), ("rb", "sqlite"): ("-e", "require 'sqlite3'"),
               ("js", "better-sqlite3"): ("-e", "require('better-sqlite3')")},
    "mysql": {("py", "pymysql"): ("-c", "import pymysql"), ("py", "MySQLdb"): ("-c", "import MySQLdb"),
              ("php", "mysql"): ("-r", "exit((int)!extension_loaded('pdo_mysql'));"),
              ("pl", "MariaDB"): ("-MDBI", "-MDBD::MariaDB", "-e1"), ("pl", "mysql"): ("-MDBI", "-MDBD::mysql", "-e1"),
              ("rb", "mysql"): ("-e", "require 'mysql2'"), ("js", "mysql2"): ("-e", "require('mysql2')")},
}
OPTIONAL = {("js", "node:sqlite"): ("-e", "require('node:sqlite')")}  # of node 22.5 and later
MODULES = {"pl": ("-MJSON::PP", "-e1"), "rb": ("-e", "require 'json'")}

DEEP = "[" * 600 + "]" * 600
PAYLOADS = [b"", b"null", b"true", b"0", b"-1", b"12345678901", b"1.5", b'""', b'"text"', b"[]", b"{}", b'{"a": {}, "b": []}',
            '"\U0001f389 gr\u00f6\u00dfe \u2028 \u0416"'.encode(), b'"\\u0000\\ud83c\\udf89 \\/ \\""', b'{"": null, "nanoq": 2, "cancel": 1}',
            b'[1, "1", true, null, 0.25]', DEEP.encode(), b'"' + b"x" * 60000 + b'"', b"not JSON", b"\xff\xfe\0\n\r\n", bytes(range(256)),
            b'{"a": 1', "\U0001f389".encode(), b"NaN", b"[1,]", os.urandom(5000)]


def interpreter(name, check, optional=False):
    """The one that answers with success to these arguments, or a skip."""
    for program in PROGRAMS[name]:
        path = shutil.which(program)
        if path and subprocess.run([path, *check], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=LIMIT).returncode == 0:
            return path
    what = "%s is not installed, or lacks what %s asks of it" % (PROGRAMS[name][0], " ".join(check))
    if REQUIRED and not optional:
        raise AssertionError(what)
    raise unittest.SkipTest(what)


class Enqueue:
    """One language and driver on one store: what it says, and what is in the tables, as the tool sees it."""

    def check(self, name, driver, check, where, optional=False):
        program = interpreter(name, check, optional)
        done = subprocess.run([program, os.path.join(RECIPES, "enqueue." + name), driver, *where], capture_output=True,
                              env={**os.environ, "LC_ALL": "C"}, timeout=LIMIT)
        self.assertEqual(done.returncode, 0, done.stderr.decode(errors="replace"))
        said = done.stdout.decode().splitlines()
        self.assertEqual(said[:3], ["movements: 1", "sync: added", "sync: duplicate"])
        self.assertRegex(said[3], "^bad value: ")
        self.assertEqual(len(said), 4)
        self.assertEqual(done.stderr, b"")
        count = lambda kind: int(self.run_nanoq("count", "--type", kind))
        self.assertEqual({kind: count(kind) for kind in ("recalculate", "reminder", "sync", "row", "gr\u00f6\u00dfe \U0001f389")},
                         {"recalculate": 1, "reminder": 1, "sync": 1, "row": 1000, "gr\u00f6\u00dfe \U0001f389": 1})
        self.assertEqual(int(self.run_nanoq("count")), 1004)
        row = lambda kind: self.json("list", "--type", kind)[0]
        self.assertEqual(self.run_nanoq("show", "--payload", str(row("recalculate")["id"])), b"7")
        self.assertEqual(self.run_nanoq("show", "--payload", str(row("gr\u00f6\u00dfe \U0001f389")["id"])), bytes(range(256)))
        reminder = self.show(row("reminder")["id"])
        run_at, created = (datetime.datetime.fromisoformat(reminder[at].rstrip("Z")) for at in ("run_at", "created_at"))
        self.assertAlmostEqual((run_at - created).total_seconds(), 7200, delta=0.1)
        # The key that it wrote is the one that the tool computes; so are those by payload.
        self.run_nanoq("add", "sync", "{}", "--unique-key", "customer 7", code=4)
        self.run_nanoq("add", "--raw", "row", "17", code=4)
        self.run_nanoq("add", "sync", "{}", "--unique-key", "customer 8")


def tests(store, drivers, optional=False):
    def make(name, driver, check):
        def test(self):
            self.check(name, driver, check, self.where(), optional)
        return test
    return {"test_%s_%s" % (name, driver.replace(":", "_").replace("-", "_")): make(name, driver, check)
            for (name, driver), check in drivers.items()}


class SqliteBase(Enqueue, ServiceBase):
    def setUp(self):
        super().setUp()
        self.env["NANOQ_DB"] = "sqlite:" + self.path("recipe.db")
        self.run_nanoq("migrate")

    def where(self):
        return (self.path("recipe.db"),)


class ServerBase(Enqueue, MysqlBase):
    def setUp(self):
        super().setUp()
        self.run_nanoq("migrate")

    def where(self):
        url = urllib.parse.urlsplit(MYSQL)
        return url.hostname, str(url.port or 3306), url.username, self.database


Sqlite = type("Sqlite", (SqliteBase,), {**tests("sqlite", DRIVERS["sqlite"]), **tests("sqlite", OPTIONAL, True)})
Server = type("Server", (ServerBase,), tests("mysql", DRIVERS["mysql"]))
del SqliteBase, ServerBase


def parsed(text):
    def pairs(items):
        return ("object", sorted(items, key=lambda item: item[0]))
    return json.loads(text, object_pairs_hook=pairs)


class Workers(ServiceBase):
    """Each payload comes back as the task's result: JSON as the same JSON, anything else by its digest."""

    def survive(self, name):
        program = interpreter(name, MODULES.get(name, ("-v",) if name != "py" else ("-c", "1")))
        ids = {}
        for i, payload in enumerate(PAYLOADS):
            ids[self.add("t%d" % i, "-", "--raw", "--max-retries", "0", stdin=payload)] = payload
        failing = self.add("fail", "1", "--max-retries", "0")
        # C: a worker under systemd or cron has no other.
        self.env.update(LC_ALL="C", LANG="C")
        self.work("--stream", "-j", "1", "--keep-done", "1h", "--", program, os.path.join(RECIPES, "worker." + name), code=5)
        for task, payload in ids.items():
            t = self.show(task)
            self.assertEqual(t["state"], "done", (payload[:50], t["error"]))
            got = json.dumps(t["result"]) if t["result_encoding"] == "json" else t["result"]
            try:
                want = json.loads(payload.decode() or "null", parse_constant=lambda c: [][0])
            except (ValueError, IndexError):
                want = {"bytes": len(payload), "sha256": hashlib.sha256(payload).hexdigest()}
            self.assertEqual(parsed(got), parsed(json.dumps(want)), payload[:50])
        t = self.show(failing)
        self.assertEqual(t["state"], "dead")
        self.assertIn("no such customer", t["error"])

    def number(self, name, payload, code=0):
        """The task that a number becomes, which must not end the worker."""
        program = interpreter(name, MODULES.get(name, ("-c", "1")))
        task = self.add("number", "-", "--raw", "--max-retries", "0", stdin=payload)
        self.work("--stream", "-j", "1", "--keep-done", "1h", "--", program, os.path.join(RECIPES, "worker." + name), code=code)
        return self.show(task)

    def test_python(self):
        self.survive("py")
        t = self.number("py", b"1" * 5000)
        self.assertEqual((t["state"], t["result"]), ("done", "1" * 5000))
        t = self.number("py", b"1e400", 5)
        self.assertEqual(t["state"], "dead")
        self.assertIn("ValueError: Out of range", t["error"])

    def test_php(self):
        self.survive("php")

    def test_perl(self):
        self.survive("pl")
        t = self.number("pl", b"[1e99999999, 1.5]")
        self.assertEqual((t["state"], t["error"]), ("done", None))
        # Numbers are still numbers to Perl's own functions.
        with open(os.path.join(RECIPES, "worker.pl"), encoding="utf-8") as f:
            text = f.read()
        self.assertIn(": $payload;", text)
        with open(self.path("worker.pl"), "w", encoding="utf-8") as f:
            f.write(text.replace(": $payload;", ": join ' ', map { sprintf '%.2f|%d|%s', $_, $_, $_ } @$payload;"))
        task = self.add("numbers", "[12.5, 1e3, -0.25, 7]", "--max-retries", "0")
        self.work("--stream", "-j", "1", "--keep-done", "1h", "--", "perl", self.path("worker.pl"))
        self.assertEqual(json.loads(self.show(task)["result"]), "12.50|12|12.5 1000.00|1000|1000 -0.25|0|-0.25 7.00|7|7")

    def test_ruby(self):
        self.survive("rb")

    def test_node(self):
        self.survive("js")


if __name__ == "__main__":
    unittest.main(verbosity=2)
