#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# What is remembered of tasks, from outside: nanoq attempts, results of commands and streams, nanoq wait.
import json
import os
import shutil
import sqlite3
import sys
import unittest

from test_cli import LIMIT, MYSQL, Base, MysqlBase

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "fault"))
import database  # noqa: E402


class AttemptsTests:
    def work(self, script, code=0, *options):
        return self.run_nanoq("work", "--drain", "--quiet", *options, "--", "sh", "-c", script, code=code)

    def test_failed_attempts_are_listed_newest_first(self):
        task = str(self.add("--max-retries", "1", "t"))
        self.assertEqual(self.json("attempts", task), [])
        self.assertIn(b"no failed attempts", self.run_nanoq("attempts", task))
        self.work("echo 'no \x1b[31mroute' >&2; exit 1")
        self.run_nanoq("retry", task)
        self.work("kill -9 $$", code=5)
        newest, first = self.json("attempts", task)
        self.assertEqual((newest["attempt"], newest["outcome"]), (2, "dead"))
        self.assertIn("killed by signal 9", newest["error"])
        self.assertEqual((first["attempt"], first["outcome"], first["generation"]), (1, "failed", 1))
        self.assertIn("no \x1b[31mroute", first["error"])
        self.assertLess(first["started_at"], first["ended_at"])
        self.assertRegex(first["worker"], r":\d+$")
        for command in (["attempts", task], ["show", task]):
            out = self.run_nanoq(*command)
            self.assertNotIn(b"\x1b", out)
            self.assertIn(b"no \\x1b[31mroute", out)
            self.assertIn(b"ATTEMPT  OUTCOME", out)
        self.assertNotIn(b"ATTEMPT", self.run_nanoq("show", task, "--payload"))
        shown = self.json("show", task)
        self.assertEqual((shown["attempts"], shown["failures"]), (2, [newest, first]))
        self.assertEqual(self.json("show", str(self.add("u")))["failures"], [])
        self.assertNotIn(b"route", self.run_nanoq("show", "--payload", "--format", "json", task))

    def test_wrong_usage(self):
        self.run_nanoq("attempts", "99", code=3)
        for args in (["attempts"], ["attempts", "x"], ["attempts", "1", "2"], ["attempts", "1", "--jsno"]):
            self.run_nanoq(*args, code=2)


class ResultsTests:
    def test_what_a_command_writes_is_the_result(self):
        plain, binary, kept, failed, long = (
            str(self.add(*args)) for args in (["plain"], ["binary"], ["--keep", "1h", "kept"], ["failed"], ["long"]))
        script = ('case $NANOQ_TYPE in plain) echo "[1, 2.50]";; binary) printf "\\377\\001";; failed) echo no; exit 65;; '
                  'long) head -c 1100000 /dev/zero;; esac')
        self.work(script, 5, "--result")
        shown = self.show(plain)
        self.assertEqual((shown["state"], shown["result"], shown["result_encoding"]), ("done", "[1, 2.50]\n", "utf-8"))
        self.assertRegex(shown["keep_until"], r"^20\d\d-")
        self.assertEqual((self.show(binary)["result"], self.show(binary)["result_encoding"]), ("/wE=", "base64"))
        self.assertEqual((self.show(kept)["state"], self.show(kept)["result"]), ("done", ""))
        self.assertEqual((self.show(failed)["state"], self.show(failed)["result"]), ("dead", None))
        self.assertIn("its result is too long: more than 1048576 bytes", self.show(long)["error"])
        self.run_nanoq("work", "--result", "--stream", "--", "true", code=2)
        self.run_nanoq("add", "--keep", "x", "t", code=2)

    def test_a_stream_leaves_json_as_it_is_written(self):
        results = ['{"b": 1.50, "a": [true, {"x": "}\\""}]}', '"text"', "null", " [ 1 ,2] ", "12e3",
                   # what JSON has, and not every parser
                   '{"hash": 18446744073709551615}', "1e400", "-123456789012345678901234567890", '{"a": 1, "a": 2}', '"\\udcff \\ud83d\\ude00 \\\\ud83d"']
        tasks = [str(self.add("--no-unique", "t")) for _ in results]
        with open(self.path("child.py"), "w", encoding="utf-8") as f:
            f.write("import json, sys\nresults = %r\nfor line in sys.stdin:\n    me = json.loads(line)['id']\n"
                    "    print('{\"result\" :%%s, \"done\": %%d}' %% (results[me - 1], me), flush=True)\n" % results)
        self.run_nanoq("work", "--drain", "--quiet", "-j1", "--stream", "--", "python3", self.path("child.py"))
        self.assertEqual([self.show(task)["result"] for task in tasks], [r.strip() for r in results])

    def test_lines_say_how_long(self):
        self.run_nanoq("add", "--stdin", stdin='{"type": "t", "keep": "1h"}\n')
        self.work("true")
        self.assertEqual(self.show(1)["state"], "done")
        self.run_nanoq("add", "--stdin", stdin='{"type": "t", "keep": []}\n', code=2)
        self.run_nanoq("add", "--stdin", stdin='{"type": "t", "keep": "forever"}\n{"type": "u", "keep": 0}\n')
        self.work("true")
        self.assertEqual(self.show(2)["state"], "done")
        self.run_nanoq("add", "--stdin", stdin='{"type": "t", "keep": "for ever"}\n', code=2)


class WaitTests:
    def test_wait_ends_with_the_tasks_and_says_how(self):
        good, bad = str(self.add("--keep", "1h", "good")), str(self.add("bad"))
        gone, later = str(self.add("gone")), str(self.add("--in", "1h", "later"))
        self.assertEqual(self.run_nanoq("wait", good, "--timeout", "0", "--json", code=7), b"")
        waiting = self.start("wait", good, bad, "--json")
        self.work('case $NANOQ_TYPE in good) printf "\\033[31m";; bad) exit 65;; esac', 5, "--result", "--type", "good",
                  "--type", "bad")
        out, _ = waiting.communicate(timeout=60)
        self.assertEqual(waiting.returncode, 6)
        ended = {str(task["id"]): task for task in json.loads(out)}
        self.assertEqual((ended[good]["state"], ended[good]["result"]), ("done", "\x1b[31m"))
        self.assertEqual((ended[bad]["state"], ended[bad]["result"]), ("dead", None))
        self.work("true")
        self.run_nanoq("wait", gone, code=3)
        self.run_nanoq("wait", good, gone, code=3)
        self.run_nanoq("wait", bad, gone, code=6)
        self.assertNotIn(b"\x1b", self.run_nanoq("wait", "--any", later, good))
        self.assertEqual(self.run_nanoq("wait", "--raw", good), b"\x1b[31m")
        self.run_nanoq("wait", "--timeout", "50ms", later, good, code=7)
        for args in ([], ["x"], ["--timeout", "x", "1"], ["0"]):
            self.run_nanoq("wait", *args, code=2)


# Writes a line, one more when it may, and ends when it may.
LOGGER = ("echo one >&2; while [ ! -e go ]; do sleep 0.05; done; echo two >&2; touch said; "
          "while [ ! -e end ]; do sleep 0.05; done; echo three >&2; printf there")


class AwayTests(Base):
    """nanoq wait while the database is not to be had."""

    def waiting(self, *args):
        return self.start("wait", "--raw", *args)

    def ended(self, process, code, out=b""):
        got, err = process.communicate(timeout=LIMIT)
        self.assertEqual((process.returncode, got), (code, out), err)

    def write(self, name, text):
        with open(self.path(name), "w", encoding="utf-8") as f:
            f.write(text)

    @unittest.skipUnless(shutil.which("mariadbd"), "there is no mariadbd")
    def test_a_server_that_is_stopped_and_started(self):
        server = database.MariaDB(self.dir)
        self.addCleanup(server.stop)
        server.fresh()
        self.env["NANOQ_DB"] = server.url()
        self.run_nanoq("migrate")
        task, later = str(self.add("--keep", "1h", "t")), str(self.add("--in", "1h", "later"))
        self.start("work", "--drain", "--quiet", "--result", "--keep-logs", "--", "sh", "-c", LOGGER, cwd=self.dir)
        self.wait(lambda: self.json("logs", task), "the first line")
        last = server.sql("SELECT MAX(id) FROM information_schema.processlist")[0][0]
        both, short = self.waiting("--any", task, later), self.waiting("--timeout", "3s", later)
        # One that is just connected has not begun, and would say so. Between its looks it is quiet for longer than while it begins.
        quiet = ("SELECT COUNT(DISTINCT id) FROM information_schema.processlist WHERE db = DATABASE() AND command = 'Sleep' AND "
                 f"time_ms >= 100 AND id > {last}")
        self.wait(lambda: int(server.sql(quiet)[0][0]) >= 2, "both to wait")
        server.stop()
        self.write("go", "")
        self.wait(lambda: os.path.exists(self.path("said")), "a line while the server is away")
        self.ended(short, 7)
        self.ended(self.waiting("--timeout", "100ms", later), 69)  # it cannot begin
        self.assertIsNone(both.poll())
        server.start()
        self.write("end", "")
        self.ended(both, 0, b"there")
        self.wait(lambda: len(self.json("logs", task)) == 3, "the last line")
        self.assertEqual([line["text"] for line in self.json("logs", task)], ["one", "two", "three"])

    def test_a_file_that_another_one_has_locked(self):
        self.env["NANOQ_DB"] = "sqlite:" + self.path("tasks.db")
        self.run_nanoq("migrate")
        task = str(self.add("--keep", "1h", "t"))
        other = sqlite3.connect(self.path("tasks.db"), isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        waiting = self.waiting(task)
        self.ended(self.waiting("--timeout", "200ms", task), 7)
        worker = self.start("work", "--drain", "--quiet", "--result", "--", "printf", "there")
        self.ended(self.waiting("--timeout", "2s", task), 7)
        self.assertIsNone(waiting.poll())
        other.execute("ROLLBACK")
        self.ended(waiting, 0, b"there")
        self.ended(worker, 0)
        other.execute("BEGIN IMMEDIATE")
        self.ended(self.waiting(task), 0, b"there")
        other.close()


class ResultsSqlite(AttemptsTests, ResultsTests, WaitTests, Base):
    def setUp(self):
        super().setUp()
        self.run_nanoq("migrate")


@unittest.skipUnless(MYSQL, "NANOQ_TEST_MYSQL is not set")
class ResultsMysql(AttemptsTests, ResultsTests, WaitTests, MysqlBase):
    def setUp(self):
        super().setUp()
        self.run_nanoq("migrate")


if __name__ == "__main__":
    unittest.main()
