#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# Logs of tasks from outside: what commands and streams write, and nanoq logs.
import json
import subprocess
import unittest

from test_cli import MYSQL, NANOQ, Base, MysqlBase


class LogsTests:
    def work(self, *args, code=0):
        return self.run_nanoq("work", "--drain", "--quiet", *args, code=code)

    def lines(self, task):
        return [(line["level"], line["text"]) for line in self.json("logs", task)]

    def test_stderr_of_a_command_is_kept_where_that_is_asked_for(self):
        first, second = (str(self.add("--keep", "1h", "t", "--no-unique")) for _ in range(2))
        script = "echo one >&2; printf 'two\\033[31m\\r\\n\\n' >&2; printf 'no end' >&2"
        self.work("--keep-logs", "--", "sh", "-c", script)
        self.assertEqual(self.lines(first),
                         [("info", "one"), ("info", "two\x1b[31m"), ("info", ""), ("info", "no end")])
        out = self.run_nanoq("logs", second)
        self.assertNotIn(b"\x1b", out)
        self.assertIn(b"two\\x1b[31m", out)
        self.assertEqual(len(out.splitlines()), 4)
        self.run_nanoq("retry", second)
        self.work("--keep-logs", "--", "sh", "-c", "printf 'a\\000b\\n' >&2")
        self.assertEqual(self.lines(second)[-1], ("info", "a\0b"))
        third = str(self.add("--keep", "1h", "t", "--no-unique"))
        self.work("--", "sh", "-c", script)
        self.assertEqual(self.lines(third), [])
        self.assertEqual(self.run_nanoq("logs", third), b"")

    def test_each_attempt_has_lines(self):
        task = str(self.add("--max-retries", "1", "t"))
        fails = ["--keep-logs", "--", "sh", "-c", "echo attempt $NANOQ_ATTEMPT >&2; exit 65"]
        self.work(*fails, code=5)
        self.run_nanoq("retry", task)
        self.work(*fails, code=5)
        rows = self.json("logs", task)
        self.assertEqual([(r["generation"], r["seq"], r["text"]) for r in rows],
                         [(1, 1, "attempt 1"), (2, 1, "attempt 1")])  # a retry by hand begins anew

    def texts(self, *args):
        return [line["text"] for line in self.json("logs", *args)]

    def test_the_lines_of_one_attempt(self):
        task = str(self.add("--max-retries", "5", "t"))
        script = "echo run $1 of attempt $NANOQ_ATTEMPT >&2; exit $2"
        for run, code in enumerate((1, 1, 65, 1), 1):  # dead after three, and begun anew by hand
            self.work("--keep-logs", "--", "sh", "-c", script, "sh", str(run), str(code), code=5 if code == 65 else 0)
            self.run_nanoq("retry", task)
        self.assertEqual(len(self.texts(task)), 4)
        for number, run in ((1, 4), (2, 2), (3, 3)):
            self.assertEqual(self.texts(task, "--attempt", str(number)), [f"run {run} of attempt {number}"])
        self.run_nanoq("logs", task, "--attempt", "9", code=3)
        self.assertIn("no attempt 9", self.err)
        self.run_nanoq("logs", task, "--attempt", "0", code=2)
        self.run_nanoq("logs", task, "--attempt", "1", "--follow", code=2)
        self.run_nanoq("logs", task, "--follow", "--format", "tsv", code=2)

    def test_a_snoozed_attempt_has_several_runs(self):
        task = str(self.add("--keep", "1h", "t"))
        child = ("import json, sys\n"
                 "for line in sys.stdin:\n"
                 "    print(json.dumps({'log': sys.argv[1]}), flush=True)\n"
                 "    print(json.dumps({sys.argv[1]: json.loads(line)['id']}), flush=True)\n")
        for verdict in ("snooze", "retry", "snooze", "done"):
            self.work("--stream", "--keep-logs", "--", "python3", "-c", child, verdict)
            if verdict != "done":
                self.run_nanoq("retry", task)
        self.assertEqual(self.texts(task, "--attempt", "1"), ["snooze", "retry"])
        self.assertEqual(self.texts(task, "--attempt", "2"), ["snooze", "done"])

    def test_only_what_is_new_enough(self):
        task = str(self.add("--keep", "1h", "t"))
        self.work("--keep-logs", "--", "sh", "-c", "echo one >&2; sleep 0.5; echo two >&2")
        at = {line["text"]: line["at"] for line in self.json("logs", task)}
        self.assertEqual(self.texts(task, "--since", at["two"]), ["two"])
        self.assertEqual(self.texts(task, "--since", "1h"), ["one", "two"])
        self.assertEqual(self.texts(task, "--since", "2999-01-01"), [])
        self.run_nanoq("logs", task, "--since", "yesterday", code=2)

    def test_show_says_that_there_are_lines(self):
        task, other = str(self.add("--keep", "1h", "t")), str(self.add("--in", "1h", "later"))
        self.work("--keep-logs", "--", "sh", "-c", "echo one >&2; echo two >&2")
        self.assertIn(f"\n2 lines of its log: nanoq logs {task}\n".encode(), self.run_nanoq("show", task))
        self.assertEqual(self.json("show", task)["log_lines"], 2)
        self.assertNotIn(b"its log", self.run_nanoq("show", other))
        self.assertEqual(self.json("show", other)["log_lines"], 0)
        self.assertNotIn(b"log", self.run_nanoq("show", "--payload", task))

    def test_a_stream_logs_by_its_protocol_and_its_stderr(self):
        task = str(self.add("--keep", "1h", "t"))
        child = ("import json, sys\n"
                 "for line in sys.stdin:\n"
                 "    sys.stderr.write('to stderr\\n'); sys.stderr.flush()\n"
                 "    print(json.dumps({'log': 'a \\u20ac', 'level': 'warn'}), flush=True)\n"
                 "    print(json.dumps({'done': json.loads(line)['id']}), flush=True)\n")
        self.work("--stream", "--keep-logs", "--", "python3", "-c", child)
        self.assertEqual(sorted(self.lines(task)), [("info", "to stderr"), ("warning", "a \u20ac")])

    def test_following_ends_with_the_task(self):
        task = str(self.add("--keep", "1h", "t"))
        follow = subprocess.Popen([NANOQ, "logs", task, "--follow", "--json"], env=self.env, stdout=subprocess.PIPE,
                                  text=True)
        self.work("--keep-logs", "--", "sh", "-c", "echo one >&2; sleep 1.5; echo two >&2")
        out, _ = follow.communicate(timeout=30)
        self.assertEqual(follow.returncode, 0)
        self.assertEqual([json.loads(line)["text"] for line in out.splitlines()], ["one", "two"])

    def test_wrong_usage(self):
        self.run_nanoq("logs", "99", code=3)
        for args in (["logs"], ["logs", "x"], ["logs", "1", "2"], ["logs", "1", "--folow"]):
            self.run_nanoq(*args, code=2)


class LogsSqlite(LogsTests, Base):
    def setUp(self):
        super().setUp()
        self.run_nanoq("migrate")


@unittest.skipUnless(MYSQL, "NANOQ_TEST_MYSQL is not set")
class LogsMysql(LogsTests, MysqlBase):
    def setUp(self):
        super().setUp()
        self.run_nanoq("migrate")


if __name__ == "__main__":
    unittest.main()
