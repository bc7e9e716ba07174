#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# The nanoq command end to end, on SQLite and, with NANOQ_TEST_MYSQL, on a MySQL or MariaDB server.
import base64
import errno
import fcntl
import json
import os
import pty
import re
import select
import signal
import sqlite3
import subprocess
import sys
import tempfile
import termios
import time
import unittest
import urllib.parse

NANOQ = os.path.abspath(os.environ.get("NANOQ", "build/nanoq"))
MYSQL = os.environ.get("NANOQ_TEST_MYSQL")
LIMIT = 60  # seconds that anything may take


def read_terminal(master):
    """All that was written to a terminal whose other end is closed, or closes; closes this one. One read gives a part."""
    out = b""
    try:
        while chunk := os.read(master, 65536):
            out += chunk
    except OSError as e:
        if e.errno != errno.EIO:  # the other end is closed
            raise
    os.close(master)
    return out.decode()


class Base(unittest.TestCase):
    """A directory and an environment of its own for each test; the user's own SQLite file as database."""

    def setUp(self):
        self.temporary = tempfile.TemporaryDirectory(prefix="nanoq-cli-")
        self.dir = self.temporary.name
        self.env = {k: v for k, v in os.environ.items() if not k.startswith("NANOQ") and k != "NO_COLOR"}
        self.env.update(XDG_STATE_HOME=self.dir + "/state", HOME=self.dir, TMPDIR=self.dir)
        self.started = []

    def tearDown(self):
        for process in self.started:
            if process.poll() is None:
                process.kill()
            process.communicate()
        self.temporary.cleanup()

    def run_nanoq(self, *args, stdin=b"", code=0, env=None, cwd=None):
        if isinstance(stdin, str):
            stdin = stdin.encode()
        done = subprocess.run([NANOQ, *args], input=stdin, capture_output=True, timeout=LIMIT, cwd=cwd,
                              env={**self.env, **(env or {})})
        self.assertEqual(done.returncode, code, (args, done.stdout, done.stderr))
        self.err = done.stderr.decode("utf-8", "backslashreplace")
        return done.stdout

    def start(self, *args, **kwargs):
        process = subprocess.Popen([NANOQ, *args], env=self.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **kwargs)
        self.started.append(process)
        return process

    def json(self, *args):
        return json.loads(self.run_nanoq(*args, "--format", "json").decode())

    def add(self, *args, **kwargs):
        return int(self.run_nanoq("add", *args, **kwargs))

    def show(self, task):
        return self.json("show", str(task))

    def path(self, name):
        return os.path.join(self.dir, name)

    def wait(self, condition, what):
        until = time.monotonic() + LIMIT
        while not condition():
            self.assertLess(time.monotonic(), until, "waiting for " + what)
            select.select([], [], [], 0.02)

    def lines(self, name):
        try:
            with open(self.path(name), encoding="utf-8") as f:
                return f.read().split()
        except FileNotFoundError:
            return []


class MysqlBase(Base):
    def client(self, sql):
        url = urllib.parse.urlparse(MYSQL)
        args = ["mariadb", "-h", url.hostname, "-P", str(url.port or 3306), "-u", url.username]
        if url.password:
            args.append("-p" + urllib.parse.unquote(url.password))
        return subprocess.run([*args, "-BN"], input=sql.encode(), check=True, capture_output=True, timeout=LIMIT)

    def setUp(self):
        if not MYSQL:
            self.skipTest("NANOQ_TEST_MYSQL is not set")
        super().setUp()
        self.database = "nanoq_cli_%d" % os.getpid()
        self.client("DROP DATABASE IF EXISTS %s; CREATE DATABASE %s" % (self.database, self.database))
        self.env["NANOQ_DB"] = MYSQL.rstrip("/") + "/" + self.database

    def tearDown(self):
        super().tearDown()
        self.client("DROP DATABASE %s" % self.database)


class Usage(Base):
    def test_help_and_version(self):
        self.assertRegex(self.run_nanoq("--version"), rb"^nanoq \d+\.\d+\.\d+\n$")
        self.assertEqual(self.run_nanoq("version"), self.run_nanoq("-V"))
        out = self.run_nanoq("help")
        for word in (b"migrate", b"add", b"work", b"69", b"77", b"NANOQ_DB"):
            self.assertIn(word, out)
        self.assertIn(b"usage: nanoq help [COMMAND | TOPIC]", self.run_nanoq("help", "help"))
        self.assertIn(b"usage: nanoq version", self.run_nanoq("help", "version"))
        for command in "migrate add work list count show retry cancel delete stats bench".split():
            self.assertEqual(self.run_nanoq("help", command), self.run_nanoq(command, "--help"))
            self.assertIn(b"usage: nanoq " + command.encode(), self.run_nanoq(command, "-h"))
            self.assertLessEqual(max(map(len, self.run_nanoq("help", command).splitlines())), 110, command)

    def test_the_times_of_a_spec(self):
        out = self.run_nanoq("cron", "next", "30 2 * * *", "--zone", "Europe/Berlin", "--after", "2026-03-28T12:00Z",
                             "--count", "2", "--format", "json")
        self.assertEqual([row["time"] for row in json.loads(out)],
                         ["2026-03-29T01:00:00.000000Z", "2026-03-30T00:30:00.000000Z"])
        self.assertEqual(len(self.run_nanoq("cron", "next", "@every 90s").splitlines()), 6)
        self.assertIn(b"  next ", self.run_nanoq("cron", "--help"))
        self.assertIn(b"usage: nanoq cron next", self.run_nanoq("cron", "next", "--help"))
        for args, says in ((("nxt",), "did you mean next"), (("next",), "needs one spec"), (("next", "* * *"), "day"),
                           (("next", "*", "*"), "in quotes"), (("next", "@daily", "--zone", "../x"), "no name of a time zone"),
                           (("next", "@daily", "--after", "x"), "--after"), (("next", "@daily", "-n", "0"), "1 to 1000"),
                           (("next", "0 0 31 2 *"), "never comes"), (("next", "@daily", "--zone", "Mars/Port"), "no time zone")):
            done = subprocess.run([NANOQ, "cron", *args], capture_output=True, check=False)
            self.assertEqual(done.returncode, 2, args)
            self.assertIn(says.encode(), done.stderr)
        done = subprocess.run([NANOQ, "cron", "next", "@daily", "--zone", "Europe/Berlin"], capture_output=True, check=False,
                              env={**os.environ, "TZDIR": self.dir + "/none"})
        self.assertEqual(done.returncode, 1)
        self.assertIn(b"no zone files", done.stderr)

    def test_what_is_wrong_with_a_url_is_said_by_every_command(self):
        """Not "no such file", which is what it looks like to who does not parse it."""
        for args in (("list",), ("stats",), ("add", "a"), ("migrate",)):
            done = subprocess.run([NANOQ, *args, "--db", f"sqlite://{self.dir}/absent.db"], capture_output=True, check=False)
            self.assertIn(b"'//' is not allowed behind sqlite:", done.stderr)

    def test_wrong_use_is_exit_2_and_says_what_is_allowed(self):
        for args, says in ((("ad",), "did you mean add"), ((), "needs a command"),
                           (("lits",), "did you mean list"), (("xyzzy",), "Allowed: add, work"),
                           (("add", "--quene", "x"), "did you mean --queue"), (("add", "-Z"), "Allowed: --in"),
                           (("add", "--in"), "needs a value"), (("add", "--raw=1", "a"), "takes no value"),
                           (("list", "--format", "xml"), "table, json, tsv"), (("add",), "needs a task type"),
                           (("list", "--state", "ded"), "waiting, running, done, dead"),
                           (("add", "a", "1", "2"), "too many"), (("work",), "needs a command"), (("cron",), "needs a command"),
                           (("work", "-j", "0", "true"), "1 to 1024"), (("work", "--drain=x", "true"), "due, all"),
                           (("work", "-q", "-j4", "true"), "looks like an option"),
                           (("work", "--lease", "1s", "true"), "less than 3"),
                           (("work", "--memory", "1X", "true"), "512M"), (("work", "--memory", "1M", "true"), "than 16M"),
                           (("work", "--cpu", "0.5", "true"), "less than 1"), (("work", "--log", "x", "true"), "text, json"), (("show", "x"), "not a task id"),
                           (("work", "no-such-command-here"), "command not found"),
                           (("work", "/etc/passwd"), "cannot run /etc/passwd"),
                           (("retry", "1", "-2"), "unknown option"), (("retry", "0"), "not a task id"),
                           (("delete",), "at least one"), (("show", "99999999999999999999"), "not a task id"),
                           (("--dbb", "x", "list"), "unknown option"), (("help", "nope"), "unknown command"),
                           (("bench", "x"), "no argument"), (("bench", "--seconds", "0"), "less than 0.01"),
                           (("bench", "--payload", "1048577"), "0 to 1048576"),
                           (("bench", "--db", "sqlite:x?busy_timeout=1&prefix=a_"), "leave it out")):
            with self.subTest(args=args):
                self.assertEqual(self.run_nanoq(*args, code=2), b"")
                self.assertIn(says, self.err)

    def test_no_password_is_ever_printed(self):
        for url in ("mysql://u:geheim@127.0.0.1:1/x", "mysql://u:gehe[im@h:p/x", "u:geheim@host/db",
                    "http://u:geheim@h/", "mysql://u:geheim@"):
            for args in (("list", "--db", url), ("--db=" + url, "stats")):
                self.run_nanoq(*args, code=69 if url.endswith(":1/x") else 2)
                self.assertNotIn("gehe", self.err)
        # A URL where something else should stand.
        for args in (("mysql://u:geheim@h/d", "list"), ("show", "mysql://u:geheim@h/d"),
                     ("list", "--format", "mysql://u:geheim@h/d"), ("add", "--in", "mysql://u:geheim@h/d", "t")):
            self.run_nanoq(*args, code=2)
            self.assertNotIn("geheim", self.err)
            self.assertIn("mysql://u:xxxxxx@h/d", self.err)

    def test_a_password_is_wiped_from_argv(self):
        reader, writer = os.pipe()
        process = self.start("add", "--stdin", "--db", "sqlite:%s?x=mysql://u:geheim@h" % self.path("q"), stdin=reader)
        other = self.start("work", "--", "sh", "-c", ": mysql://u:geheim@h/x; sleep 60")
        for p in (process, other):
            def wiped(p=p):
                try:
                    with open("/proc/%d/cmdline" % p.pid, "rb") as f:
                        line = f.read()
                except FileNotFoundError:
                    return True
                return b"geheim" not in line
            self.wait(wiped, "the password to go")
        os.close(reader)
        os.close(writer)

    def test_database_choice(self):
        self.run_nanoq("list", "--db", "tasks.db", code=2)
        self.assertIn("sqlite:tasks.db", self.err)
        self.run_nanoq("list", "--db", "", code=2)
        self.run_nanoq("add", "a", "--db", "sqlite::memory:", code=2)
        other = "sqlite:" + self.path("other.db")
        self.run_nanoq("add", "a", "--db", other, code=1)
        self.assertIn("run: nanoq migrate", self.err)
        self.run_nanoq("retry", "1", "--db", other, code=1)
        self.assertIn("run: nanoq migrate", self.err)
        self.run_nanoq("list", "--db", "sqlite:" + self.path("an%20other%2Edb"), code=1)
        self.assertIn("no such file: " + self.path("an other.db"), self.err)
        self.assertEqual([n for n in os.listdir(self.dir) if "other" in n], [], "a mistyped path leaves nothing behind")
        self.assertIn(b"CREATE", self.run_nanoq("migrate", "--print", "--db", other))
        self.run_nanoq("migrate", "--db", other)
        self.run_nanoq("migrate", "--db", other)
        self.add("a", env={"NANOQ_DB": other})
        self.assertEqual(len(self.json("--db", other, "list")), 1)
        self.assertEqual(self.json("list"), [])
        self.assertEqual(self.run_nanoq("list"), b"no tasks\n")
        self.assertEqual(self.run_nanoq("stats"), b"no tasks\n")
        self.assertEqual(os.stat(self.path("state/nanoq")).st_mode & 0o777, 0o700)
        home = dict(XDG_STATE_HOME="relative", HOME=self.path("a home?#%"))
        os.mkdir(home["HOME"])
        self.add("a", env=home)
        self.assertTrue(os.path.exists(home["HOME"] + "/.local/state/nanoq/nanoq.db"))
        self.run_nanoq("list", "--db", "mysql://root@127.0.0.1:1/x", code=69)
        self.run_nanoq("list", env=dict(XDG_STATE_HOME="/proc/nope"), code=1)
        self.assertIn("--db or NANOQ_DB", self.err)


class Add(Base):
    def test_options_reach_the_task(self):
        task = self.add("email", '{"to": 1}', "--queue", "mail", "--priority", "-5", "--timeout", "1m30s",
                        "--max-retries", "0", "--at", "2040-01-31T12:00:00+02:00")
        t = self.show(task)
        self.assertEqual((t["type"], t["payload"], t["queue"], t["priority"], t["timeout"], t["max_retries"],
                          t["run_at"], t["state"]),
                         ("email", '{"to": 1}', "mail", -5, 90, 0, "2040-01-31T10:00:00.000000Z", "waiting"))
        self.assertEqual(self.show(self.add("soon", "--at", "2040-12-01 10:00"))["run_at"], "2040-12-01T10:00:00.000000Z")
        t = self.show(self.add("nothing"))
        self.assertEqual((t["payload"], t["queue"], t["timeout"], t["max_retries"]), ("", "default", 60, 10))

    def test_duplicates(self):
        first = self.add("email", "1")
        self.assertEqual(int(self.run_nanoq("add", "email", "1", code=4)), first)
        self.assertIn("duplicate", self.err)
        self.assertNotEqual(self.add("email", "1", "--no-unique"), first)
        key = self.add("email", "2", "--unique-key", "k")
        self.assertEqual(int(self.run_nanoq("add", "email", "3", "--unique-key", "k", code=4)), key)
        self.assertEqual(self.json("add", "fax", "1")["duplicate"], False)
        self.run_nanoq("add", "a", "--no-unique", "--unique-key", "k", code=2)

    def test_a_key_until_and_what_a_duplicate_does(self):
        key = ("--unique-key", "k")
        first = self.add("sync", "1", *key, "--in", "1h")
        self.assertEqual(self.add("sync", "2", *key, "--replace", "--priority", "3"), first)
        t = self.show(first)
        self.assertEqual((t["payload"], t["priority"]), ("2", 3))
        self.assertEqual(self.add("sync", "3", *key, "--debounce", "--in", "1h", "--max-wait", "1d"), first)
        self.assertGreater(self.show(first)["run_at"], t["run_at"])
        self.assertEqual(self.add("sync", "4", *key, "--append"), first)
        self.assertEqual(self.run_nanoq("show", str(first), "--payload"), b"3\n4")
        start = self.add("scan", "1", "--until", "start")
        self.assertEqual(int(self.run_nanoq("add", "scan", "1", "--until", "start", code=4)), start)
        day = self.add("alarm", "1", *key, "--until", "window", "--window", "1d")
        self.run_nanoq("delete", str(day))
        self.assertEqual(int(self.run_nanoq("add", "alarm", "2", *key, "--until", "window", "--window", "1d", code=4)), day)
        self.assertIn("has taken", self.err)
        for args, says in ((("--window", "1h"), "--until window"), (("--until", "window"), "--window"),
                           (("--until", "never"), "done, start or window"), (("--debounce",), "--in"),
                           (("--max-wait", "1h"), "debounce"), (("--append",), "--unique-key"),
                           (("--replace", "--append"), "only one"), (("--replace", "--no-unique"), "no"),
                           (("--debounce", "--in", "1h", "--max-wait", "1m"), "below"),
                           (("--until", "window", "--window", "1h", "--replace"), "refuses")):
            with self.subTest(args=args):
                self.assertEqual(self.run_nanoq("add", "t", "1", *args, code=2), b"")
                self.assertIn(says, self.err)

    def test_lines_say_it_too(self):
        lines = ('{"type":"s","payload":1,"unique_key":"k"}',
                 '{"type":"s","payload":2,"unique_key":"k","duplicate":"replace"}',
                 '{"type":"s","payload":3,"unique_key":"k","duplicate":"append"}',
                 '{"type":"s","payload":4,"unique_key":"w","until":"window","window":"1h"}',
                 '{"type":"s","payload":5,"unique_key":"d","duplicate":"debounce","in":"1h","max_wait":7200}',
                 '{"type":"s","payload":6,"until":"start"}')
        ids = self.run_nanoq("add", "--stdin", stdin="\n".join(lines)).split()
        self.assertEqual(ids[0], ids[1])
        self.assertEqual(ids[0], ids[2])
        self.assertEqual(len(set(ids)), 4)
        self.assertEqual(self.run_nanoq("show", ids[0].decode(), "--payload"), b"2\n3")
        for line, says in (('"until":"x"', "start"), ('"duplicate":true', "replace"), ('"window":"1h"', "until window"),
                           ('"duplicate":"debounce"', "in"), ('"duplicate":"append"', "unique_key"),
                           ('"unique":false,"until":"start"', "key"), ('"max_wait":1', "debounce")):
            with self.subTest(line=line):
                self.assertEqual(self.run_nanoq("add", "--stdin", stdin='{"type":"t",%s}' % line, code=2), b"")
                self.assertIn(says, self.err)

    def test_once(self):
        first = int(self.run_nanoq("once", "release-7", "--", "migrate", '{"to": 7}'))
        self.assertEqual(int(self.run_nanoq("once", "release-7", "--for", "365d", "--", "migrate", '{"to": 7}')), first)
        self.run_nanoq("delete", str(first))
        self.assertEqual(self.json("once", "release-7", "migrate"), {"id": first, "duplicate": True})
        self.assertNotEqual(int(self.run_nanoq("once", "release-8", "migrate", "-", stdin=b"1")), first)
        for args in ((), ("k",), ("", "t"), ("k", "t", "{"), ("k", "t", "1", "2"), ("k", "--for", "0", "t")):
            with self.subTest(args=args):
                self.run_nanoq("once", *args, code=2)

    def test_payload_bytes(self):
        for raw in (b'  {"a" : [1.0, 1e2 ,12345678901234567890123]}\n', b'"\xc3\xa4\\u0000"', b"null", b"0"):
            task = self.add("t", "-", "--no-unique", stdin=raw)
            self.assertEqual(self.run_nanoq("show", str(task), "--payload"), raw)
        raw = bytes(range(256)) * 4096
        task = self.add("t", "-", "--raw", stdin=raw)
        self.assertEqual(self.run_nanoq("show", str(task), "--payload"), raw)
        shown = self.show(task)
        self.assertEqual((shown["payload_encoding"], base64.b64decode(shown["payload"])), ("base64", raw))
        self.run_nanoq("add", "t", "-", "--raw", stdin=raw + b"x", code=2)
        self.assertIn("limit", self.err)

    def test_bad_input_is_refused_whole(self):
        for args, says in ((("a", "{\n \"to\": }"), "line 2, column"), (("a", ""), "empty"), (("a", "1 2"), "column"),
                           (("a", "1", "--in", "-5s"), "negative"), (("a", "1", "--in", "9" * 30), "3650d"),
                           (("a", "1", "--in", "5x"), "--in"), (("a", "1", "--at", "soon"), "--at"),
                           (("a", "1", "--in", "1s", "--at", "@5"), "exclude"), (("a", "1", "--priority", "101"), "100"),
                           (("a", "1", "--timeout", "0.5s"), "less than 1"), (("a", "1", "--timeout", "0"), "less"),
                           (("a", "1", "--max-retries", "-1"), "0 to 1000"), (("a" * 256, "1"), "type"),
                           (("a\n", "1"), "type"), (("", "1"), "type"), (("a", "1", "--queue", "a b"), "queue"),
                           (("a", "1", "--queue", "q" * 65), "queue"), (("a", "1", "--unique-key", ""), "at least one")):
            with self.subTest(args=args):
                self.assertEqual(self.run_nanoq("add", *args, code=2), b"")
                self.assertIn(says, self.err)
        self.assertEqual(self.json("list"), [])

    def test_many(self):
        lines = [json.dumps({"type": "t", "payload": {"n": i}}) for i in range(1200)]
        lines[5] = '{"payload" : [1.0, {"x":"}\\"" } ] , "type":"t","queue":"q","priority":3,"in":"1h","timeout":2.5,' \
                   '"max_retries":0,"unique_key":"k"}'
        lines[6] = ""
        lines[7] = lines[8]
        lines[9] = '{"type":"t","payload_text":"a\\u0000b","at":4000000000,"unique":false}'
        out = self.run_nanoq("add", "--stdin", "--format", "json", stdin="\n".join(lines), code=4).splitlines()
        answers = [json.loads(line) for line in out]
        self.assertEqual(len(answers), 1199)
        self.assertEqual([i for i, a in enumerate(answers) if a["duplicate"]], [7])
        self.assertEqual(answers[6]["id"], answers[7]["id"])
        t = self.show(answers[5]["id"])
        self.assertEqual((t["payload"], t["queue"], t["priority"], t["timeout"], t["max_retries"]),
                         ('[1.0, {"x":"}\\"" } ]', "q", 3, 2.5, 0))
        self.assertEqual(self.run_nanoq("show", str(answers[8]["id"]), "--payload"), b"a\0b")
        self.assertEqual(sum(1 for _ in self.json("list", "--limit", "5000")), 1198)

    def test_a_member_named_twice_is_refused(self):
        for line, column in (('{"type":"a","payload":1,"payload":2}', 25), ('{"type":"a", "t\\u0079pe" : "b"}', 14),
                             ('{"queue":"q","type":"a","queue":"q"}', 25)):
            self.assertEqual(self.run_nanoq("add", "--stdin", stdin=line, code=2), b"")
            self.assertIn("column %d: this member was given before" % column, self.err)
        # What a payload means is not ours to know.
        task = int(self.run_nanoq("add", "--stdin", stdin='{"type":"a","payload":{"x":1,"x":[{"a":1,"a":2}]}}'))
        self.assertEqual(self.show(task)["payload"], '{"x":1,"x":[{"a":1,"a":2}]}')

    def test_duplicates_of_lines_exit_as_one_does(self):
        line = '{"type":"a","payload":1}\n'
        first = self.run_nanoq("add", "--stdin", stdin=line)
        self.assertEqual(self.run_nanoq("add", "--stdin", stdin=line, code=4), first)
        self.assertEqual(len(self.run_nanoq("add", "--stdin", stdin=line + '{"type":"b"}\n', code=4).split()), 2)
        self.assertEqual(self.run_nanoq("add", "a", "1", code=4), first)
        self.assertEqual(len(self.json("list")), 2)

    def test_headers_and_expiry(self):
        task = self.add("t", "--header", "lang=d\u00e4", "-H", "a=", "--header", "b=x=y", "--expires", "10m")
        t = self.show(task)
        self.assertEqual(t["headers"], {"lang": "d\u00e4", "a": "", "b": "x=y"})
        self.assertTrue(t["expires_at"].startswith("20"), t)
        self.assertEqual(self.json("list")[0]["headers"], t["headers"])
        self.assertIn("lang=d\u00e4, a=, b=x=y", self.run_nanoq("show", str(task)).decode())
        for args in (["--header", "x"], ["--header", "X=1"], ["--header", "nq-expires=1"], ["--header", "a=1\n2"],
                     ["--header", "a=1", "--header", "a=2"], ["--expires", "0"], ["--expires", "5s", "--in", "5s"]):
            self.run_nanoq("add", "t", "1", *args, code=2)
        self.run_nanoq("add", "--stdin", "-H", "all=1", stdin='{"type":"l","headers":{"one":"2"},"expires":3600}\n{"type":"m"}\n')
        rest = {t["type"]: t for t in self.json("list")[1:]}
        self.assertEqual((rest["l"]["headers"], rest["m"]["headers"]), ({"one": "2"}, {"all": "1"}))
        self.assertIsNone(rest["m"]["expires_at"])
        for bad in ('{"A":"1"}', '{"a":1}', '[]', '{"nq-a":"1"}', '{"a":"\\n"}', '{"a":"\\u0000"}', '{"a":"\\u0085"}',
                    '{"a":"%s"}' % ("x" * 4064), "{%s}" % ",".join('"h%d":""' % i for i in range(65))):
            self.run_nanoq("add", "--stdin", stdin='{"type":"n","headers":%s}' % bad, code=2)
        self.run_nanoq("add", "--stdin", stdin='{"type":"n","in":"1h","expires":"1m"}', code=2)
        self.assertEqual(len(self.json("list")), 3)

    def test_tags(self):
        task = self.add("t", "--tag", "customer:42", "-T", "\u00fc nice one")
        self.assertEqual(self.show(task)["tags"], ["customer:42", "\u00fc nice one"])
        self.assertIn("customer:42,\u00fc nice one", self.run_nanoq("show", str(task)).decode())
        self.run_nanoq("add", "--stdin", "-T", "all", stdin='{"type":"l","tags":["one","2"]}\n{"type":"m"}\n{"type":"n","tags":[]}\n')
        self.assertEqual({t["type"]: t["tags"] for t in self.json("list")[1:]}, {"l": ["one", "2"], "m": ["all"], "n": []})
        for args in ([""], ["a,b"], [" a"], ["a\n"], ["x" * 65], ["1", "2", "3", "4", "5", "6", "7", "8", "9"]):
            self.run_nanoq("add", "bad", *[word for tag in args for word in ("--tag", tag)], code=2)
        for bad in ('"a"', '[1]', '[""]', '["a,b"]', '["a\\n"]', '["a\\u0000"]', '[" a"]', '["%s"]' % ("x" * 65), str(list("123456789")).replace("'", '"')):
            self.run_nanoq("add", "--stdin", stdin='{"type":"bad","tags":%s}' % bad, code=2)
        self.assertEqual(len(self.json("list")), 4)

    def test_json_has_null_for_what_is_not_there(self):
        task = self.add("t", "--in", "1h")
        for t in (self.show(task), self.json("list")[0]):
            absent = [k for k, v in t.items() if v is None]
            self.assertEqual(absent, ["group", "expires_at", "dead_id", "schedule", "due_at", "claimed_at", "finished_at", "worker",
                                      "progress_done", "progress_total", "progress_note", "progress_at", "error", "result",
                                      "result_encoding", "keep_until", "headers"])
            self.assertEqual((t["payload"], t["attempts"], t["cancelling"]), ("", 0, False))
        self.assertEqual([s["oldest_due"] for s in self.json("stats")], [None])
        self.assertEqual([(r["result"], r["error"]) for r in self.json("retry", str(task))], [("waiting", None)])
        self.assertGreaterEqual(self.json("stats")[0]["oldest_due"], 0)
        rows = self.run_nanoq("list", "--format", "tsv").decode().splitlines()
        self.assertEqual(dict(zip(*[row.split("\t") for row in rows]))["error"], "")
        self.run_nanoq("delete", str(task))
        self.assertEqual((self.json("stats"), self.run_nanoq("stats")), ([], b"no tasks\n"))

    def test_a_group_is_shown_beside_its_queue(self):
        self.add("a", "--queue", "mail", "--group", "42")
        self.run_nanoq("add", "--stdin", stdin='{"type":"b","queue":"mail","group":"43"}\n{"type":"c","queue":"mail"}\n')
        self.assertEqual([(t["queue"], t["group"]) for t in self.json("list", "--queue", "mail")],
                         [("mail", "42"), ("mail", "43"), ("mail", None)])
        self.assertEqual([t["type"] for t in self.json("list", "--queue", "mail//43")], ["b"])
        self.assertIn(b" mail//42 ", self.run_nanoq("list"))
        self.assertEqual([(s["queue"], s["due"], s["groups"]) for s in self.json("stats")], [("mail", 3, 2)])
        self.run_nanoq("add", "d", "--group", "", code=2)
        self.assertIn("group", self.err)

    def test_a_task_is_named_once_in_a_message(self):
        task = self.add("t")
        self.run_nanoq("cancel", str(task))
        self.run_nanoq("cancel", str(task), code=1)
        self.assertEqual(self.err, "nanoq cancel: task %d is cancelled and cannot be cancelled\n" % task)
        self.run_nanoq("delete", "99", code=3)
        self.assertEqual(self.err.count("task"), 1, self.err)

    def test_a_bad_line_leaves_its_chunk_out(self):
        good = [json.dumps({"type": "t", "payload": i}) for i in range(700)]
        for bad, column, says in (('{"type": "t", "payload": }', 26, "token"), ('{"type": "t", "prio": 3}', 23, "priority"),
                                  ('{"typ": "t"}', 9, "did you mean type"), ('[1]', 1, "JSON object"), ('{}', 1, "missing"),
                                  ('{"type": "t", "in": "x"}', 21, "in: "), ('{"type":"t","queue":"a b"}', 21, "queue"),
                                  ('{"type":"t","in":1,"at":1}', 25, "exclude"), ('{"type":"t\\n"}', 9, "control"),
                                  ('{"type":"t","priority":1.5}', 24, "whole number"),
                                  ('{"type":"t","priority":1\0}', 25, "NUL")):
            with self.subTest(bad=bad):
                out = self.run_nanoq("add", "--stdin", stdin="\n".join(good[:650] + [bad] + good[650:]), code=2)
                self.assertEqual(len(out.splitlines()), 500)
                self.assertIn("line 651, column %d: " % column, self.err)
                self.assertIn(says, self.err)
                self.assertIn("lines 1 to 500 were enqueued before", self.err)
        self.assertEqual(len(self.json("list", "--limit", "9999")), 500)

    def test_what_the_library_refuses_is_told_by_its_line(self):
        good = [json.dumps({"type": "t", "payload": i}) for i in range(700)]
        for bad, says in (({"queue": "q" * 50, "group": "g" * 60}, "too long"), ({"queue": "a//b", "group": "c"}, "group"),
                          ({"queue": "a/", "group": "c"}, "'/'")):
            with self.subTest(bad=bad):
                lines = [*good[:650], "", json.dumps({"type": "t", "payload": 1, **bad}), *good[650:]]
                out = self.run_nanoq("add", "--stdin", stdin="\n".join(lines), code=2)
                self.assertEqual(len(out.splitlines()), 500)
                self.assertRegex(self.err, "line 652: .*" + says)
                self.assertIn("lines 1 to 500 were enqueued before", self.err)
        self.assertEqual(len(self.json("list", "--limit", "9999")), 500)

    def test_an_endless_pipe_is_served_line_by_line(self):
        process = self.start("add", "--stdin", stdin=subprocess.PIPE)
        for i in range(3):
            process.stdin.write(b'{"type": "t", "payload": %d}\n' % i)
            process.stdin.flush()
            self.assertTrue(select.select([process.stdout], [], [], LIMIT)[0])
            self.assertEqual(int(process.stdout.readline()), i + 1)
        process.stdin.close()
        process.stdin = None  # else communicate would flush it
        self.assertEqual(process.wait(LIMIT), 0)


class Admin(Base):
    HOSTILE = 'x\x1b]0;owned\x07\u202e\u009b31m\ttab\\'

    def test_hostile_text_is_escaped(self):
        task = self.add("t", "-", "--raw", stdin=self.HOSTILE.encode() + b"\xff\n")
        self.run_nanoq("work", "--drain", "--", "sh", "-c", "cat >&2; exit 1")
        for args in (("list",), ("show", str(task))):
            out = self.run_nanoq(*args)
            for bad in (b"\x1b", b"\x07", "\u202e".encode(), "\u009b".encode(), b"\xff", b"\t"):
                self.assertNotIn(bad, out)
            self.assertIn(b"\\x1b]0;owned\\x07\\u{202e}", out)
        rows = self.run_nanoq("list", "--format", "tsv").decode().splitlines()
        self.assertEqual(len(rows), 2)
        self.assertEqual(len(rows[0].split("\t")), len(rows[1].split("\t")))
        self.assertIn("\\ttab\\\\", rows[1])
        raw = self.run_nanoq("show", str(task), "--format", "json")
        for bad in (b"\x1b", "\u202e".encode(), "\u009b".encode()):
            self.assertNotIn(bad, raw)
        shown = json.loads(raw.decode())
        self.assertEqual(shown["payload_encoding"], "base64")
        self.assertEqual(base64.b64decode(shown["payload"]), self.HOSTILE.encode() + b"\xff\n")
        self.assertEqual(shown["error"], "exit status 1: " + self.HOSTILE + "?")

    def test_list_filters_and_pages(self):
        ids = [self.add("t%d" % (i % 2), str(i), "--queue", "q%d" % (i % 3)) for i in range(12)]
        self.assertEqual([t["id"] for t in self.json("list")], ids)
        self.assertEqual([t["id"] for t in self.json("list", "--type", "t1", "--queue", "q0")], [ids[3], ids[9]])
        self.assertEqual([t["id"] for t in self.json("list", "--limit", "2", "--after", str(ids[4]))], ids[5:7])
        self.assertEqual(self.json("list", "--state", "dead"), [])

        def listed(*args):
            return [t["id"] for t in self.json("list", *args)]
        self.assertEqual(listed("--newest", "--limit", "3"), ids[:-4:-1])
        self.assertEqual(listed("--newest", "--limit", "3", "--after", str(ids[-3])), ids[-4:-7:-1])
        self.assertEqual(listed("--newest", "--limit", "3", "--before", str(ids[-4])), ids[:-4:-1])
        self.assertEqual(listed("--limit", "3", "--before", str(ids[6])), ids[3:6])
        self.assertEqual(listed("--queue", "q0,q1", "--queue", "q2", "--type", "t0", "--type", "t1"), ids)
        self.assertEqual(listed("--queue", "q0,q1", "--type", "t0"), [ids[i] for i in (0, 4, 6, 10)])
        self.run_nanoq("cancel", str(ids[3]))
        self.assertEqual(listed("--state", "dead,cancelled", "--state", "done"), [ids[3]])
        self.assertEqual(len(listed("--state", "cancelled,waiting")), 12)
        self.run_nanoq("list", "--newest", "--oldest", code=2)
        self.run_nanoq("list", "--before", "5", "--limit", "10001", code=2)
        self.run_nanoq("list", "--queue", "a,,b", code=2)
        long = self.add("long", json.dumps("ä" * 300, ensure_ascii=False))
        t = self.json("list", "--type", "long")[0]
        self.assertEqual((t["payload_truncated"], t["payload_encoding"], t["payload_size"]), (True, "utf-8", 602))
        self.assertEqual(self.show(long)["payload_truncated"], False)

    def test_list_finds_tasks(self):
        ids = [self.add("mail.send", '{"to":1}', "--queue", "mail//42", "--tag", "a", "--tag", "b"),
               self.add("mail.read", "100%_\\", "--raw", "--queue", "mail"), self.add("x", "5", "--queue", "main", "--tag", "a", "--max-retries", "0")]
        self.run_nanoq("work", "--drain", "--queue", "main", "--quiet", "--", "sh", "-c", "echo HTTP 502 >&2; exit 1", code=5)

        def listed(*args):
            return [t["id"] for t in self.json("list", *args)]
        for args, found in (
                (("--type", "mail.*"), ids[:2]), (("--type", "*"), ids), (("--type", "mail"), []),
                (("--queue", "ma*"), ids), (("--queue", "mail"), ids[:2]), (("--queue", "mail", "--group", "42"), ids[:1]),
                (("--tag", "a"), [ids[0], ids[2]]), (("--tag", "a", "--tag", "b"), ids[:1]),
                (("--text", "%_\\"), ids[1:2]), (("--text", "to"), ids[:1]), (("--text", "nq-tag"), [ids[0], ids[2]]),
                (("--error", "502"), ids[2:]), (("--error", "%"), []), (("--state", "dead", "--since", "1h", "--by", "finished"), ids[2:]),
                (("--until", "2020-01-01"), []), (("--since", "@1", "--newest"), ids[::-1]), (("--worker", "*"), []),
                (("--until", "0s", "--by", "run_at"), ids), (("--json", "--tag", "b"), ids[:1])):
            self.assertEqual(listed(*args), found, args)
        for bad, says in ((("--tag", ""), "tag"), (("--text", ""), "empty"), (("--since", "soon"), "--since"),
                          (("--by", "x", "--since", "1h"), "created, run_at, finished"), (("--by", "created"), "--since"),
                          (("--group", "g"), "--queue"), (("--look", "0"), "--look"), (("--worker", ""), "empty")):
            done = subprocess.run([NANOQ, "list", *bad], env=self.env, capture_output=True, timeout=LIMIT, check=False)
            self.assertEqual(done.returncode, 2, bad)
            self.assertIn(says, done.stderr.decode())

    def test_counts_stop_somewhere_and_say_so(self):
        lines = "".join('{"type": "t%d", "payload": %d}\n' % (i % 2, i) for i in range(10050)).encode()
        ids = self.run_nanoq("add", "--stdin", stdin=lines).split()
        self.add("x", "1", "--queue", "few", "--tag", "a")
        self.assertEqual(self.run_nanoq("count"), b"10000+\n")
        self.assertEqual(self.run_nanoq("count", "--exact"), b"10051\n")
        self.assertEqual(self.json("count"), {"count": 10000, "more": True, "bounded": False, "reached": None})
        self.assertEqual(self.json("count", "--tag", "a"), {"count": 1, "more": False, "bounded": False, "reached": None})
        self.assertEqual(self.run_nanoq("count", "--type", "t1"), b"5025\n")
        self.assertEqual(self.run_nanoq("count", "--state", "dead,done"), b"0\n")
        done = subprocess.run([NANOQ, "count", "--text", "5", "--look", "10", "--json"], env=self.env, capture_output=True,
                              timeout=LIMIT, check=True)
        told = json.loads(done.stdout)
        self.assertEqual((told["more"], told["bounded"], told["reached"]), (True, True, int(ids[-9])))
        self.assertIn("down to id %d" % told["reached"], done.stderr.decode())
        stats = {s["queue"]: (s["due"], s["capped"]) for s in self.json("stats")}
        self.assertEqual(stats, {"default": (10000, True), "few": (1, False)})
        self.assertIn(b" 10000+ ", self.run_nanoq("stats"))
        self.assertIn(b" 10000+ ", self.run_nanoq("queues"))
        stats = {s["queue"]: (s["due"], s["capped"]) for s in self.json("stats", "--exact")}
        self.assertEqual(stats, {"default": (10050, False), "few": (1, False)})
        self.run_nanoq("stats", "--exact", "--since", "1h", code=2)
        self.run_nanoq("count", "x", code=2)

    def test_list_says_when_it_did_not_look_at_all_tasks(self):
        lines = "".join('{"type": "t", "payload": "%d"}\n' % i for i in range(250)).encode()
        ids = [int(i) for i in self.run_nanoq("add", "--stdin", stdin=lines).split()]

        def listed(*args):
            p = subprocess.run([NANOQ, "list", "--format", "json", "--text", "249", "--look", "100", *args], env=self.env,
                               capture_output=True, timeout=LIMIT, check=True)
            return [t["id"] for t in json.loads(p.stdout)], p.stderr.decode()
        seen, told = listed()
        self.assertEqual(seen, [])
        self.assertIn("up to id %d. --after %d goes on there" % (ids[99], ids[99]), told)
        self.assertEqual(listed("--after", str(ids[199])), (ids[249:], ""))
        seen, told = listed("--newest")
        self.assertEqual(seen, ids[249:])
        self.assertIn("--after %d " % ids[150], told)

    def test_list_says_when_there_are_more_than_it_shows(self):
        def listed(*args):
            p = subprocess.run([NANOQ, "list", "--format", "json", *args], env=self.env, capture_output=True,
                               timeout=LIMIT, check=True)
            return [t["id"] for t in json.loads(p.stdout)], p.stderr.decode()
        lines = "".join('{"type": "t", "payload": %d}\n' % i for i in range(250)).encode()
        ids = [int(i) for i in self.run_nanoq("add", "--stdin", stdin=lines).split()]
        for args, order in ((), ids), (("--newest",), ids[::-1]):
            seen, told = listed(*args)
            self.assertEqual(seen, order[:100])
            self.assertIn("more than these 100 tasks: --after %d " % order[99], told)
            seen, told = listed(*args, "--after", str(seen[-1]))
            self.assertEqual(seen, order[100:200])
            seen, told = listed(*args, "--after", str(seen[-1]))
            self.assertEqual((seen, told), (order[200:], ""))
            seen, told = listed(*args, "--before", str(seen[0]))
            self.assertEqual(seen, order[100:200])
            self.assertIn("--before %d " % order[100], told)
            seen, told = listed(*args, "--before", str(seen[0]))
            self.assertEqual((seen, told), (order[:100], ""))
        self.assertEqual(listed("--limit", "100")[1], "")  # who says how many is not told
        self.assertEqual(listed("--limit", "1000"), (ids, ""))

    def test_steering(self):
        a, b = self.add("a"), self.add("b")
        self.run_nanoq("cancel", str(a), str(b))
        self.assertEqual(self.show(a)["state"], "cancelled")
        self.run_nanoq("cancel", str(a), code=1)
        self.run_nanoq("retry", str(a))
        self.assertEqual(self.show(a)["state"], "waiting")
        out = self.json_code(3, "delete", str(a), "999", str(b))
        self.assertEqual([r["result"] for r in out], ["deleted", "not found", "deleted"])
        self.run_nanoq("show", str(a), code=3)
        c = self.add("c", "1")
        self.run_nanoq("cancel", str(c))
        live = self.add("c", "1")
        self.assertNotEqual(c, live)
        self.run_nanoq("retry", str(c), code=4)
        self.run_nanoq("delete", str(live), "x", code=2)
        self.assertEqual(self.show(live)["state"], "waiting")

    def test_cancel_of_what_runs(self):
        task = self.add("a")
        worker = self.start("work", "--drain", "--", "sh", "-c", "echo on >>started; exec sleep 60", cwd=self.dir)
        self.wait(lambda: os.path.exists(self.path("started")), "the task to start")
        running = self.json("list", "--running")
        self.assertEqual([(t["id"], t["cancelling"], t["progress_at"]) for t in running], [(task, False, None)])
        self.assertIn(b"PROGRESS", self.run_nanoq("list", "--running"))
        start = time.monotonic()
        out = self.json_code(0, "cancel", str(task))
        self.assertIn(out[0]["result"], ("will be cancelled", "cancelled"))  # it may have ended by now
        self.assertEqual(worker.wait(LIMIT), 0)
        self.assertLess(time.monotonic() - start, 10)
        shown = self.show(task)
        self.assertEqual((shown["state"], shown["attempts"]), ("cancelled", 0))
        self.run_nanoq("cancel", str(task), code=1)
        self.assertEqual(self.lines("started"), ["on"])

    def json_code(self, code, *args):
        return json.loads(self.run_nanoq(*args, "--format", "json", code=code).decode())

    def test_stats(self):
        self.add("a")
        self.add("b", "--in", "1h", "--queue", "z")
        out = self.json("stats")
        self.assertEqual([(q["queue"], q["due"], q["delayed"]) for q in out], [("default", 1, 0), ("z", 0, 1)])
        self.assertIn(b"OLDEST DUE", self.run_nanoq("stats"))
        self.assertTrue(self.run_nanoq("stats", "--format", "tsv").startswith(b"queue\tdue\t"))

    def test_colour_only_on_a_terminal(self):
        self.run_nanoq("cancel", str(self.add("a")))
        for env, coloured in (({}, True), ({"NO_COLOR": "1"}, False)):
            master, slave = pty.openpty()
            env = {**self.env, "TERM": "xterm", **env}
            subprocess.run([NANOQ, "list"], stdout=slave, env=env, check=True, timeout=LIMIT)
            os.close(slave)
            self.assertEqual("\x1b[33m" in read_terminal(master), coloured)
        self.assertNotIn(b"\x1b", self.run_nanoq("list"))

    def test_a_full_disk_is_noticed(self):
        with open("/dev/full", "wb") as full:
            done = subprocess.run([NANOQ, "help"], stdout=full, stderr=subprocess.PIPE, timeout=LIMIT, env=self.env)
        self.assertEqual(done.returncode, 1)


class QueuesTests:
    """Settings of queues, on each store."""

    def queue(self, name):
        return next(row for row in self.json("queues") if row["queue"] == name)

    def test_a_pause_is_shown_and_ends(self):
        self.run_nanoq("add", "--queue", "mail", "t", "1")
        self.run_nanoq("pause", "mail", "--why", "deploy", "--wait=5s")
        row = self.queue("mail")
        self.assertEqual((row["paused"], row["paused_why"], row["waiting"]), (True, "deploy", 1))
        self.assertRegex(row["paused_at"], r"^20\d\d-")
        self.run_nanoq("work", "--drain", "--queue", "mail", "--", "cat")
        self.assertEqual(self.queue("mail")["waiting"], 1)
        self.run_nanoq("resume", "mail")
        self.assertEqual(self.run_nanoq("work", "--drain", "--queue", "mail", "--", "cat"), b"1")
        self.assertEqual(self.json("queues"), [])
        self.assertEqual(self.run_nanoq("queues"), b"no queues\n")

    def test_a_type_is_paused(self):
        self.run_nanoq("pause", "mail", "--type", "p\u00e4ge", "--why", "printer")
        self.run_nanoq("add", "--queue", "mail", "--group", "42", "p\u00e4ge", "1")
        self.run_nanoq("add", "--queue", "mail", "t", "2")
        self.assertEqual(self.run_nanoq("work", "--drain", "--queue", "mail", "--", "cat"), b"2")
        [row] = [row for row in self.json("queues") if row["paused"]]
        self.assertEqual((row["type"], row["paused_why"]), ("p\u00e4ge", "printer"))
        self.assertRegex(row["queue"], "^mail//:\\.h-[a-z2-7]{26}$")
        [task] = self.json("list", "--queue", "mail")
        self.assertEqual((task["queue"], task["group"]), ("mail", "42"))
        self.run_nanoq("resume", "mail", "--type", "p\u00e4ge", "--wait=5s")
        self.assertEqual(self.run_nanoq("work", "--drain", "--queue", "mail", "--", "sh", "-c",
                                        "cat; echo $NANOQ_GROUP"), b"142\n")
        self.run_nanoq("pause", "mail", "--type", "t", "--group", "42", code=2)

    def test_a_pause_waits_for_what_runs(self):
        self.run_nanoq("add", "t", "1")
        worker = self.start("work", "--", "sh", "-c", "echo began; read x < gate", cwd=self.dir)
        os.mkfifo(self.dir + "/gate")
        self.assertEqual(worker.stdout.readline(), b"began\n")
        # On a busy machine the worker may not have heard of it by then.
        self.wait(lambda: self.run_nanoq("pause", "default", "--wait=200ms", code=7) == b"" and "still runs" in self.err, "it")
        self.assertEqual([w["queues"] for w in self.json("workers")], ["default"])
        self.assertEqual((self.queue("default")["workers"], self.queue("default")["running"]), (1, 1))
        with open(self.dir + "/gate", "w", encoding="ascii") as gate:
            gate.write("x\n")
        self.run_nanoq("pause", "default", "--wait")
        self.assertEqual(self.run_nanoq("stats"), b"no tasks\n")

    def test_limits_are_set_and_taken_away(self):
        self.run_nanoq("limit", "mail", "--running", "5")
        self.run_nanoq("limit", "mail", "--each", "--running", "1")
        self.run_nanoq("limit", "mail", "--group", "42", "--running", "3", "--weight", "2")
        self.assertEqual([(q, self.queue(q)["limit"], self.queue(q)["weight"]) for q in ("mail", "mail//*", "mail//42")],
                         [("mail", 5, None), ("mail//*", 1, None), ("mail//42", 3, 2)])
        self.run_nanoq("limit", "mail", "--off")
        self.run_nanoq("limit", "mail", "--each", "--off")
        self.run_nanoq("limit", "mail", "--group", "42", "--off")
        self.assertEqual(self.json("queues"), [])

    def test_a_group_is_listed_by_its_text(self):
        ids = [self.run_nanoq("add", "--queue", queue, "--group", group, "--no-unique", kind).decode().strip()
               for queue, group, kind in (("mail", "Smith & sons", "a"), ("mail", "42", "a"), ("post", "Smith & sons", "a"),
                                          ("mail", "Smith & sons", "pdf"))]
        listed = lambda *args: [str(t["id"]) for t in self.json("list", *args)]
        self.assertEqual(listed("--queue", "mail", "--group", "Smith & sons"), [ids[0], ids[3]])
        self.run_nanoq("pause", "mail", "--type", "pdf")
        self.run_nanoq("work", "--queue", "mail", "--drain", "--quiet", "--", "true")  # sets it apart
        self.assertEqual(listed("--queue", "mail", "--group", "Smith & sons"), [ids[3]])
        self.assertEqual(listed("--queue", "mail,post", "--group", "Smith & sons"), [ids[2], ids[3]])
        self.assertEqual(listed("--queue", "mail", "--group", "42"), [])
        self.run_nanoq("list", "--group", "42", code=2)
        self.run_nanoq("list", "--queue", "mail//1", "--group", "42", code=2)

    def test_what_is_left_of_a_rate(self):
        self.run_nanoq("limit", "mail", "--rate", "100/1h30m", "--burst", "7")
        self.run_nanoq("limit", "mail", "--each", "--rate", "2/s")
        row = self.queue("mail")
        self.assertEqual([row[k] for k in ("rate_starts", "rate_time", "burst", "rate_left")], [100, 5400, 7, 7])
        self.assertEqual(self.queue("mail//*")["rate_left"], None)
        for _ in range(2):
            self.run_nanoq("add", "--queue", "mail", "--no-unique", "t")
        self.run_nanoq("work", "--queue", "mail", "--drain", "--quiet", "--", "true")
        self.assertEqual(self.queue("mail")["rate_left"], 5)
        self.assertIn(b"100/90m00s, 5 left", self.run_nanoq("queues"))
        for rate in ("100", "/m", "x/m", "0/m", "5/x", "5/", "2147483648/s", "5/0s", "-1/s", "5/.5s", "5/ s"):
            self.run_nanoq("limit", "mail", "--rate", rate, code=2)
            self.assertIn("--rate", self.err)
        self.run_nanoq("limit", "mail", "--burst", "2", code=2)

    def test_many_at_once(self):
        for i in range(3):
            self.run_nanoq("add", "--queue", "mail", "t", str(i))
        self.run_nanoq("cancel", "--queue", "mail", "--dry-run")
        self.assertEqual(len(self.json("list", "--state", "waiting")), 3)
        self.assertEqual(self.json("cancel", "--queue", "mail", "--limit", "2")[0]["done"], 2)
        self.assertEqual(self.json("retry", "--state", "cancelled", "--queue", "ma*")[0]["done"], 2)
        self.assertEqual(self.json("move", "--from", "mail", "--to", "slow")[0]["done"], 3)
        self.assertEqual(self.json("priority", "7", "--queue", "slow")[0]["done"], 3)
        self.assertEqual({t["priority"] for t in self.json("list", "--queue", "slow")}, {7})
        for args in (["delete"], ["cancel", "--state", "waiting,running,done,dead,cancelled"], ["delete", "--state", "running"],
                     ["retry", "--queue", "slow", "1"], ["move", "--from", "slow"], ["priority", "--queue", "slow"],
                     ["priority", "101", "--queue", "slow"], ["retry", "--all", "--rate", "0/s"], ["retry", "--all", "--limit", "0"]):
            self.run_nanoq(*args, code=2)
        self.assertEqual(self.json("delete", "--all", "--state", "waiting")[0]["done"], 3)

    def test_how_long_tasks_are_kept(self):
        for given, kept in (("7d", 604800), ("none", 0), ("0", 0), ("forever", "forever")):
            self.run_nanoq("limit", "mail", "--keep-done", given, "--keep-dead", "1h")
            self.assertEqual((self.queue("mail")["keep_done"], self.queue("mail")["keep_dead"]), (kept, 3600))
        self.run_nanoq("limit", "mail", "--keep-done", "-1", code=2)
        self.assertIn("--keep-done", self.err)
        self.run_nanoq("limit", "mail", "--running", "1")
        self.assertIsNone(self.queue("mail")["keep_done"])

    def test_what_is_held_and_halted(self):
        self.run_nanoq("limit", "bank", "--each", "--ordered=halt")
        task = self.run_nanoq("add", "--queue", "bank", "--group", "7", "t").decode().strip()
        other = self.run_nanoq("add", "--queue", "bank", "--group", "7", "u").decode().strip()
        self.run_nanoq("work", "--queue", "bank", "--drain", "--quiet", "--", "sh", "-c", "exit 65", code=5)
        self.assertEqual(self.queue("bank//7")["halted_by"], int(task))
        self.assertIn(b"halted by " + task.encode(), self.run_nanoq("queues"))
        self.assertEqual([(r["reason"], r["n"]) for r in self.json("why", other)][0], ("halted", int(task)))
        self.run_nanoq("delete", task)
        self.run_nanoq("work", "--queue", "bank", "--drain", "--quiet", "--", "true")
        self.assertEqual([q["queue"] for q in self.json("queues")], ["bank//*"])

    def test_order_is_of_groups(self):
        for queue, args in (("bank//*", ["bank", "--each", "--ordered"]), ("bank//7", ["bank//7", "--ordered=strict"]),
                            ("bank//:pdf", ["bank", "--type", "pdf", "--ordered", "--running", "1"])):
            self.run_nanoq("limit", *args)
            self.assertEqual(self.queue(queue)["ordered"], "strict")
        self.run_nanoq("limit", "bank", "--each", "--ordered=halt")
        self.assertEqual(self.queue("bank//*")["ordered"], "halt")
        for args in (["--ordered"], ["--each", "--ordered=x"], ["--each", "--ordered", "--running", "2"],
                     ["--ordered", "--off"]):
            self.run_nanoq("limit", "bank", *args, code=2)
            self.assertIn("--", self.err)

    def test_wrong_use_says_what_is_allowed(self):
        for args in (["limit", "mail"], ["limit", "mail", "--off", "--running", "1"], ["limit", "--running", "1"],
                     ["limit", "mail", "--running", "0"], ["limit", "mail", "--weight", "1001"],
                     ["limit", "mail", "--running", "x"], ["limit", "a b", "--running", "1"], ["pause"], ["pause", "a", "b"], ["pause", "a", "--why", "\x1b[0m"],
                     ["pause", "a", "--wait=x"], ["pause", "a", "--group", "x\ty"], ["resume"], ["queues", "x"],
                     ["workers", "x"], ["why"], ["why", "x"], ["why", "1", "2"], ["why", "0", "--print-sql"]):
            self.run_nanoq(*args, code=2)
            self.assertTrue(self.err.startswith("nanoq"), self.err)
            self.assertNotIn("\x1b", self.err)

    def test_why_a_task_does_not_run(self):
        task = self.run_nanoq("add", "--queue", "mail", "--in", "1h", "t").decode().strip()
        self.run_nanoq("pause", "mail", "--why", "deploy")
        reasons = self.json("why", task)
        self.assertEqual([r["reason"] for r in reasons], ["later", "paused", "no-worker"])
        self.assertEqual((reasons[1]["name"], reasons[1]["note"]), ("mail", "deploy"))
        self.assertRegex(reasons[0]["at"], r"^20\d\d-")
        self.assertIn("SELECT reason", self.run_nanoq("why", task, "--print-sql").decode())
        self.run_nanoq("why", "77", code=3)

    def test_doctor_tells_by_its_exit_code(self):
        machine = ("--skip", "3,5,8,12")  # what this machine's own database may be blamed for
        self.run_nanoq("doctor", *machine)
        self.run_nanoq("add", "--queue", "mail", "--in", "1h", "t")
        self.run_nanoq("doctor", *machine, code=1)
        task = self.run_nanoq("add", "--queue", "mail", "t2").decode().strip()
        out = self.run_nanoq("doctor", *machine, code=2).decode()
        self.assertIn("served by no live worker of 0: mail", out)
        self.assertIn("What to do:\n16  start a worker", out)
        self.run_nanoq("doctor", "--skip", "3,5,8,12,16")
        self.run_nanoq("cancel", task)
        checks = json.loads(self.run_nanoq("doctor", "--json", *machine, code=1))
        self.assertEqual([c["check"] for c in checks], [n for n in range(1, 25) if n not in (3, 5, 8, 12)])
        self.assertEqual([c["name"] for c in checks if c["level"] == "warning"], ["served"])
        self.run_nanoq("doctor", "--db", "sqlite:" + self.path("none.db"), code=2)  # 1 is for warnings
        self.assertIn("no such file", self.err)
        for skip in ("3,5,8,12", "3,5,8,12,16"):
            with open("/dev/full", "wb") as full:
                done = subprocess.run([NANOQ, "doctor", "--skip", skip], stdout=full, stderr=subprocess.PIPE,
                                      timeout=LIMIT, env=self.env)
            self.assertEqual(done.returncode, 2, done.stderr)
        for wrong in ("0", "25", "x", "1,", ""):
            self.run_nanoq("doctor", "--skip", wrong, code=2)
            self.assertIn("--skip takes numbers of checks", self.err)

    def test_hostile_text_is_escaped_and_old_workers_are_named(self):
        self.run_nanoq("pause", "mail")
        self.sql("UPDATE nanoq_queues SET paused_why = %s" % ("'a' || char(27) || '[31m'" if self.SQLITE else
                                                             "CONCAT('a', CHAR(27), '[31m')"))
        now = "strftime('%s', 'now') * 1000000" if self.SQLITE else "UTC_TIMESTAMP(6)"
        self.sql("INSERT INTO nanoq_workers (name, queues, started_at, beat_at) VALUES (%s, 'mail,x', %s, %s)" %
                 ("'w' || char(27) || '[2J'" if self.SQLITE else "CONCAT('w', CHAR(27), '[2J')", now, now))
        task = self.run_nanoq("add", "--queue", "mail", "t").decode().strip()
        for command in (["queues"], ["workers"], ["why", task]):
            self.assertNotIn(b"\x1b", self.run_nanoq(*command))
            self.assertNotIn(b"\x1b", self.run_nanoq(*command, "--json"))
        self.assertIn(b"a\\x1b[31m", self.run_nanoq("why", task))
        self.assertEqual(self.queue("mail")["workers"], 1)
        self.run_nanoq("pause", "mail")
        self.assertIn("1 worker of an older version", self.err)


class QueuesSqlite(QueuesTests, Base):
    SQLITE = True

    def setUp(self):
        super().setUp()
        self.run_nanoq("migrate")

    def sql(self, text):
        with sqlite3.connect(self.dir + "/state/nanoq/nanoq.db") as db:
            db.execute(text)
        db.close()


@unittest.skipUnless(MYSQL, "NANOQ_TEST_MYSQL is not set")
class QueuesMysql(QueuesTests, MysqlBase):
    SQLITE = False

    def setUp(self):
        super().setUp()
        self.run_nanoq("migrate")

    def sql(self, text):
        self.client("USE %s; %s" % (self.database, text))


class CronTests:
    """Run on each store."""

    def names(self):
        return [(s["name"], s["state"]) for s in self.json("cron", "list")]

    def test_a_schedule_from_its_beginning_to_its_end(self):
        self.run_nanoq("cron", "add", "nightly", "30 2 * * *", "report", '{"n":1}', "--zone", "Europe/Berlin", "--misfire", "all",
                       "--overlap", "queue", "--jitter", "5s", "--queue", "slow", "-H", "lang=de", "--end", "2099-01-01")
        one = self.json("cron", "show", "nightly")
        self.assertEqual((one["spec"], one["zone"], one["misfire"], one["overlap"], one["jitter"], one["queue"], one["headers"]),
                         ("30 2 * * *", "Europe/Berlin", "all", "queue", 5, "slow", {"lang": "de"}))
        self.assertEqual((one["payload"], one["state"], one["last_at"], one["end"]),
                         ('{"n":1}', "active", None, "2099-01-01T00:00:00.000000Z"))
        task = int(self.run_nanoq("cron", "run", "nightly"))
        shown = self.show(task)
        self.assertEqual((shown["schedule"], shown["type"], shown["headers"]), ("nightly", "report", {"lang": "de"}))
        self.assertIsNotNone(shown["due_at"])
        self.run_nanoq("cron", "run", "nightly", code=4)
        self.assertIn("task %d of schedule 'nightly' has not ended" % task, self.err)
        self.assertEqual(self.json("cron", "show", "nightly", "--firings", "9")[0]["task_id"], task)
        self.run_nanoq("cron", "pause", "nightly", "--why", "deploy")
        self.assertEqual(self.json("cron", "show", "nightly")["paused_why"], "deploy")
        self.run_nanoq("cron", "resume", "nightly")
        self.assertEqual(self.names(), [("nightly", "active")])
        self.run_nanoq("cron", "remove", "nightly", "other", code=3)
        self.assertEqual(self.names(), [])

    def test_a_worker_fires_what_is_due(self):
        self.run_nanoq("cron", "add", "often", "@every 200ms", "tick", "--overlap", "allow")
        self.start("work", "--", "sh", "-c", 'echo "$NANOQ_SCHEDULE $NANOQ_DUE_AT" >> ' + self.path("ran"))
        self.wait(lambda: len(self.lines("ran")) >= 8, "four times")
        words = self.lines("ran")
        self.assertEqual(set(words[::2]), {"often"})
        self.assertEqual(len(set(words[1::2])), len(words[1::2]))

    def test_a_deploy_declares_its_schedules(self):
        lines = '{"name": "a", "spec": "@daily", "type": "t", "payload": {"x": [1, 2]}}\n' \
                '{"name": "b", "spec": "@hourly", "type": "t", "start": "2030-01-01", "misfire": "skip"}\n'
        self.run_nanoq("cron", "apply", "--source", "app", "-", stdin=lines)
        self.assertEqual([n for n, _ in self.names()], ["a", "b"])
        self.assertEqual(self.json("cron", "show", "a")["payload"], '{"x": [1, 2]}')
        for bad, word in (('{"name": "c", "spec": "@daily"}', 'column 1: the member "type" is missing'),
                          ('{"spec": "@daily", "type": "t"}', 'the member "name" is missing'),
                          ('{"name": "c", "spec": "@daily", "type": "t", "overlap": 1}', "overlap: must be skip, allow or queue"),
                          ('{"name": "c", "spec": "@daily", "type": "t", "zon": "UTC"}', 'unknown member "zon"'),
                          ('{"name": "c", "spec": "@dayly", "type": "t"}', "@dayly"),
                          ('{"name": "c", "spec": "@daily", "type": "t", "in": 5}', "its time is the schedule's"),
                          ("nothing", "line 1, column 7: invalid token")):
            self.run_nanoq("cron", "apply", "--source", "app", "-", stdin=bad + "\n", code=2)
            self.assertIn(word, self.err)
        self.assertEqual([n for n, _ in self.names()], ["a", "b"])
        self.run_nanoq("cron", "apply", "--source", "app", "-", stdin="")
        self.assertEqual(self.names(), [])

    def sleeps(self, process):
        with open(f"/proc/{process.pid}/stat", encoding="utf-8") as f:
            return f.read().rsplit(")", 1)[1].split()[0] == "S"

    def test_a_stdin_that_the_parent_left_non_blocking(self):
        for args, text in ((("add", "t", "-"), b"[1]"), (("cron", "import", "-"), b"* * * * * x\n"),
                           (("cron", "apply", "--source", "s", "-"), b'{"name": "a", "spec": "@daily", "type": "t"}\n')):
            mine, theirs = os.pipe()
            os.set_blocking(mine, False)
            p = self.start(*args, stdin=mine)
            os.close(mine)
            os.write(theirs, text[:2])
            self.wait(lambda: fcntl.ioctl(theirs, termios.FIONREAD, b"1234") == b"\0\0\0\0" and self.sleeps(p) or p.poll() is not None,
                      "it to wait for more")
            os.write(theirs, text[2:])
            os.close(theirs)
            out, err = p.communicate(timeout=LIMIT)
            self.assertEqual(p.returncode, 0, (args, out, err))

    def test_crontabs_are_read(self):
        with open(self.path("tab"), "w", encoding="utf-8") as f:
            f.write("# a crontab\nMAILTO=me\nCRON_TZ = 'Europe/Berlin'\n*/5 * * * * echo \\% hi\n@daily x\n@reboot x\n"
                    "1 2 3 * x\n0 0 * * * mail%text\n0 0 * * *\n")
        out = [json.loads(line) for line in self.run_nanoq("cron", "import", self.path("tab"), code=1).decode().splitlines()]
        self.assertEqual([(o["name"], o["spec"], o["payload_text"]) for o in out],
                         [("tab:4", "*/5 * * * *", "echo % hi"), ("tab:5", "@daily", "x")])
        self.assertEqual({o["zone"] for o in out}, {"Europe/Berlin"})
        for line in (2, 6, 7, 8, 9):
            self.assertIn("line %d: not taken over" % line, self.err)
        self.assertIn("2 taken over, 5 not", self.err)
        self.assertEqual(self.run_nanoq("cron", "import", "-", stdin=b"# b\xfcro\n5 4 * * * /home/j\xf6rg/backup.sh\n", code=1), b"")
        self.assertIn("no UTF-8", self.err)
        out = self.run_nanoq("cron", "import", "--system", "-", stdin="17 * * * * root run-parts /etc/cron.hourly\n")
        self.assertEqual(json.loads(out)["payload_text"], "run-parts /etc/cron.hourly")

    def test_what_is_wrong_is_said(self):
        for args, word in ((("add", "a", "@daily"), "needs a name, a spec in quotes and a task type"),
                           (("add", "a b", "@daily", "t"), "schedule name 'a b'"),
                           (("add", "a", "60 * * * *", "t"), "the minute is '60'"),
                           (("add", "a", "@daily", "t", "--misfire", "never"), "--misfire: must be once, skip or all"),
                           (("add", "a", "@daily", "t", "--zone", "Europe/Nowhere"), "Europe/Nowhere"),
                           (("add", "a", "@daily", "t", "{"), "not valid JSON"),
                           (("apply", "-"), "needs --source"), (("pause",), "needs the name of a schedule"),
                           (("show", "a", "--firings", "0"), "--firings")):
            self.run_nanoq("cron", *args, code=2)
            self.assertIn(word, self.err)
        self.run_nanoq("cron", "show", "a", code=3)


class CronSqlite(CronTests, Base):
    def setUp(self):
        super().setUp()
        self.run_nanoq("migrate")


@unittest.skipUnless(MYSQL, "NANOQ_TEST_MYSQL is not set")
class CronMysql(CronTests, MysqlBase):
    def setUp(self):
        super().setUp()
        self.run_nanoq("migrate")


class WorkTests:
    """Run on each store."""

    def script(self, text):
        return ("--", "sh", "-c", text)

    def work(self, *args, **kwargs):
        return self.run_nanoq("work", "--drain", *args, **kwargs)

    def test_payload_environment_and_done(self):
        task = self.add("email", '{"to": 1}', "--queue", "q", "--max-retries", "3")
        out = self.work("--queue", "q", *self.script(
            'cat; echo " $NANOQ_ID $NANOQ_TYPE $NANOQ_QUEUE $NANOQ_ATTEMPT $NANOQ_MAX_RETRIES $NANOQ_DEADLINE"'),
            env={"NANOQ_ID": "old"}).decode()
        match = re.fullmatch(r'\{"to": 1\} %d email q 1 3 (\d+\.\d{6})\n' % task, out)
        self.assertTrue(match, out)
        self.assertAlmostEqual(float(match.group(1)), time.time() + 60, delta=20)
        self.run_nanoq("show", str(task), code=3)

    def test_exit_statuses(self):
        codes = {"retry": "exit 75", "discard": "echo bad >&2; exit 65", "other": "echo oops >&2; exit 3",
                 "signal": "kill -SEGV $$"}
        ids = {name: self.add(name) for name in codes}
        cases = "case $NANOQ_TYPE in " + " ".join("%s) %s;;" % c for c in codes.items()) + " esac"
        self.work(*self.script(cases), code=5)
        self.assertIn("oops", self.err)
        for name, state, error in (("retry", "waiting", "exit status 75"), ("discard", "dead", "exit status 65: bad"),
                                   ("other", "waiting", "exit status 3: oops"),
                                   ("signal", "waiting", "killed by signal 11 (SIGSEGV)")):
            t = self.show(ids[name])
            self.assertEqual((t["state"], re.sub(" after .* MB$", "", t["error"]), t["attempts"]), (state, error, 1))

    def test_last_of_stderr(self):
        task = self.add("t")
        self.work(*self.script("i=0; while [ $i -lt 3000 ]; do echo line$i >&2; i=$((i+1)); done; printf '\\377x' >&2; exit 1"))
        error = self.show(task)["error"]
        self.assertTrue(error.startswith("exit status 1: "), error[:40])
        self.assertTrue(error.endswith("line2999\n?x"), error[-40:])
        self.assertTrue(4000 < len(error) <= 4096, len(error))

    def test_big_payload_read_and_not_read(self):
        big = b"x" * (1 << 20)
        self.add("read", "-", "--raw", stdin=big)
        self.add("ignore", "-", "--raw", stdin=big)
        out = self.work(*self.script('[ $NANOQ_TYPE = read ] && wc -c || true'))
        self.assertEqual(int(out), len(big))
        self.assertEqual(self.json("list"), [])

    def test_timeout_reaches_the_process_group(self):
        task = self.add("t", "--timeout", "1s")
        begin = time.monotonic()
        self.work("--grace", "0.3s", *self.script(
            "trap '' TERM; (trap '' TERM; echo $$ > %s; sleep 50; echo alive > %s) & wait; sleep 50"
            % (self.path("pid"), self.path("alive"))))
        self.assertLess(time.monotonic() - begin, 20)
        t = self.show(task)
        self.assertEqual((t["state"], t["error"]), ("waiting", "timed out after 1 s and had to be killed"))
        self.assertFalse(self.group_lives(self.lines("pid")[0]))
        self.assertEqual(self.lines("alive"), [])

    def group_lives(self, pid):
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                try:
                    with open("/proc/%s/stat" % entry, encoding="latin-1") as f:
                        fields = f.read().rpartition(")")[2].split()
                except (FileNotFoundError, ProcessLookupError):
                    continue
                if fields[2] == pid and fields[0] != "Z":
                    return True
        return False

    def test_a_grandchild_that_keeps_stderr_does_not_hang_it(self):
        self.add("t")
        begin = time.monotonic()
        process = self.start("work", "--drain", *self.script("sleep 30 >&1 & echo $! > %s; exit 0" % self.path("pid")))
        self.assertEqual(process.wait(LIMIT), 0)
        self.assertLess(time.monotonic() - begin, 20)
        self.assertRaises(ProcessLookupError, os.kill, int(self.lines("pid")[0]), 0)

    def test_only_the_types_asked_for(self):
        a, b = self.add("a"), self.add("b")
        self.work("--type", "a", *self.script("true"))
        self.run_nanoq("show", str(a), code=3)
        self.assertEqual((self.show(b)["state"], self.show(b)["attempts"]), ("waiting", 0))

    def test_drain_all_waits_for_delayed_tasks(self):
        self.add("t", "--in", "1s")
        self.work(*self.script("echo ran"))
        self.assertEqual(len(self.json("list")), 1)
        self.assertEqual(self.run_nanoq("work", "--drain=all", *self.script("echo ran")), b"ran\n")
        self.assertEqual(self.json("list"), [])

    def test_keep_done(self):
        task = self.add("t")
        self.work("--keep-done", "forever", *self.script("true"))
        self.assertEqual(self.show(task)["state"], "done")

    def test_sigterm_lets_running_tasks_end(self):
        a = self.add("t", "1")
        process = self.start("work", "-j", "1", *self.script(
            "echo x >> %s; sleep 0.5; echo end >> %s" % (self.path("begun"), self.path("done"))))
        self.wait(lambda: self.lines("begun"), "the task to start")
        b = self.add("t", "2")
        process.send_signal(signal.SIGTERM)
        self.assertEqual(process.wait(LIMIT), 0)
        self.assertEqual(self.lines("done"), ["end"])
        self.run_nanoq("show", str(a), code=3)
        t = self.show(b)
        self.assertEqual((t["state"], t["attempts"]), ("waiting", 0))

    def test_second_sigterm_gives_the_task_back(self):
        task = self.add("t")
        process = self.start("work", "--grace", "1s", *self.script("echo x >> %s; sleep 50" % self.path("begun")))
        self.wait(lambda: self.lines("begun"), "the task to start")
        process.send_signal(signal.SIGTERM)
        select.select([], [], [], 0.2)
        self.assertIsNone(process.poll())
        process.send_signal(signal.SIGTERM)
        self.assertEqual(process.wait(LIMIT), 0)
        t = self.show(task)
        self.assertEqual((t["state"], t["attempts"], t["crashes"]), ("waiting", 0, 0))

    def test_kill_9_loses_nothing_and_the_task_runs_again(self):
        task = self.add("t")
        first = self.start("work", *self.script("echo $$ >> %s; exec sleep 50" % self.path("first")))
        self.wait(lambda: self.lines("first"), "the task to start")
        first.kill()
        first.wait()
        second = self.start("work", "--keep-done", "forever", *self.script("echo $NANOQ_ATTEMPT"))
        self.assertEqual(second.stdout.readline(), b"2\n")
        second.send_signal(signal.SIGTERM)
        self.assertEqual(second.wait(LIMIT), 0)
        t = self.show(task)
        self.assertEqual((t["state"], t["crashes"], t["attempts"]), ("done", 1, 1))
        pid = int(self.lines("first")[0])
        self.wait(lambda: not os.path.exists("/proc/%d" % pid), "the command of the dead worker to die")

    def test_two_shells_and_a_worker(self):
        loop = 'for i in $(seq 100); do "$0" add t "\\"$1$i\\"" || exit 1; done'
        shells = [subprocess.Popen(["sh", "-c", loop, NANOQ, name], env=self.env, stdout=subprocess.PIPE)
                  for name in ("a", "b")]
        self.started += shells
        worker = self.start("work", "-j", "2", "--quiet", *self.script('echo "$(cat)" >> ' + self.path("out")))
        for shell in shells:
            out, _ = shell.communicate(timeout=LIMIT)
            self.assertEqual(shell.returncode, 0)
            self.assertEqual(len(set(out.split())), 100)
        self.wait(lambda: len(self.lines("out")) >= 200, "200 tasks")
        worker.send_signal(signal.SIGTERM)
        self.assertEqual(worker.wait(LIMIT), 0)
        self.assertEqual(sorted(self.lines("out")), sorted('"%s%d"' % (s, i) for s in "ab" for i in range(1, 101)))
        self.assertEqual(self.json("list"), [])

    def test_no_descriptor_of_ours_reaches_the_command(self):
        self.add("t")
        out = self.work(*self.script("ls -l /proc/self/fd")).decode()
        self.assertNotRegex(out, "nanoq|socket|anon_inode")

    def test_a_script_without_a_first_line_runs(self):
        with open(self.path("script"), "w", encoding="utf-8") as f:
            f.write("echo $1 $2\n")
        os.chmod(self.path("script"), 0o755)
        self.add("t")
        self.assertEqual(self.work("--", self.path("script"), "a b", "c"), b"a b c\n")


class WorkSqlite(WorkTests, Base):
    pass


class WorkMysql(WorkTests, MysqlBase):
    def setUp(self):
        super().setUp()
        self.run_nanoq("migrate")


class Mysql(MysqlBase):
    def test_not_migrated_and_plain_sql(self):
        self.run_nanoq("add", "a", code=1)
        self.assertIn("run: nanoq migrate", self.err)
        self.assertIn(b"CREATE TABLE", self.run_nanoq("migrate", "--print"))
        self.run_nanoq("migrate")
        self.client("INSERT INTO %s.nanoq_tasks (type, payload) VALUES ('email', '{\"to\":1}')" % self.database)
        task = int(self.run_nanoq("add", "email", '{"to":1}', code=4))
        self.assertEqual(self.show(task)["timeout"], 60)
        self.run_nanoq("list", "--db", MYSQL.rstrip("/") + "/nanoq_absent", code=1)
        self.assertIn("nanoq_absent", self.err)

    def test_many(self):
        self.run_nanoq("migrate")
        text = "".join('{"type": "t", "payload": %d}\n' % (i % 1000) for i in range(1500))
        out = self.run_nanoq("add", "--stdin", stdin=text, code=4).split()
        self.assertEqual((len(out), len(set(out))), (1500, 1000))
        self.assertEqual(out[:500], out[1000:])

class BenchTests:
    """Of a database given by sql(), which answers rows, and tables()."""

    def bench_tables(self):
        return [t for t in self.tables() if t.startswith("nanoq_bench_")]

    def start_bench(self):
        process = self.start("bench", "--seconds", "20", "--db", self.database_url())
        self.wait(lambda: len(self.bench_tables()) >= 5, "the tables to be there")
        self.wait(lambda: process.poll() is not None or self.joined(), "a worker")
        return process

    def joined(self):
        # A later step of the migration gives this table its name: the first tables are there before.
        tables = [t for t in self.bench_tables() if t.endswith("_workers")]
        return bool(tables) and int(self.sql("SELECT COUNT(*) FROM " + tables[0])[0][0]) > 0

    def test_figures_and_nothing_left(self):
        before = self.tables()
        out = self.run_nanoq("bench", "--seconds", "0.2", "--db", self.database_url(), "--format", "json")
        rows = {r["name"]: r for r in json.loads(out)}
        self.assertEqual(list(rows), ["enqueue_1", "enqueue_8", "enqueue_100", "drain", "pick_up_p50", "pick_up_p99"])
        for row in list(rows.values())[:4]:
            self.assertGreater(row["figure"], 0, row)
            self.assertEqual(row["unit"], "tasks/s")
        self.assertLessEqual(rows["pick_up_p50"]["figure"], rows["pick_up_p99"]["figure"])
        self.assertEqual(self.tables(), before)
        out = self.run_nanoq("bench", "--seconds", "0.2", "--tasks", "10", "--payload", "0", "--db", self.database_url())
        self.assertRegex(out.decode(), r"(?m)^drain, .* \d+  tasks/s$")
        self.assertEqual((self.err, self.tables()), ("", before))

    def test_stopped_it_leaves_nothing(self):
        for number in (signal.SIGINT, signal.SIGTERM):
            before = self.tables()
            process = self.start_bench()
            process.send_signal(number)
            out, err = process.communicate(timeout=LIMIT)
            self.assertEqual((process.returncode, out, err), (1, b"", b"nanoq bench: stopped\n"))
            self.assertEqual(self.tables(), before)

    def test_failed_it_leaves_nothing(self):
        before = self.tables()
        process = self.start_bench()
        self.sql("DROP TABLE " + next(t for t in self.bench_tables() if t.endswith("_tasks")))
        out, err = process.communicate(timeout=LIMIT)
        self.assertEqual((process.returncode, out), (1, b""))
        self.assertIn(b"nanoq bench: ", err)
        self.assertEqual(self.tables(), before)


class BenchSqlite(BenchTests, Base):
    def setUp(self):
        super().setUp()
        self.run_nanoq("migrate", "--db", self.database_url())

    def database_url(self):
        return "sqlite:" + self.path("bench.db")

    def sql(self, text):
        db = sqlite3.connect(self.path("bench.db"), timeout=LIMIT)
        try:
            with db:
                return db.execute(text).fetchall()
        finally:
            db.close()

    def tables(self):
        return sorted(r[0] for r in self.sql("SELECT name FROM sqlite_master"))

    def test_a_disk_slower_than_the_time_there_is_has_figures(self):
        module = os.path.join(os.path.dirname(NANOQ), "tests/fault/slow_disk.so")
        if not os.path.exists(module):
            self.skipTest("there is no " + module)
        self.env.update(LD_PRELOAD=module, FAULT_SYNC_MS="30")
        out = self.run_nanoq("bench", "--seconds", "0.01", "--db", self.database_url(), "--format", "json")
        for row in json.loads(out)[:4]:
            self.assertGreater(row["figure"], 0, row)


class BenchMysql(BenchTests, MysqlBase):
    def database_url(self):
        return self.env["NANOQ_DB"]

    def sql(self, text):
        out = self.client("USE %s; %s" % (self.database, text)).stdout
        return [line.split("\t") for line in out.decode().splitlines()]

    def tables(self):
        return sorted(r[0] for r in self.sql("SHOW TABLES"))


if __name__ == "__main__":
    if not os.access(NANOQ, os.X_OK):
        sys.exit("NANOQ: no such program: " + NANOQ)
    unittest.main()
