#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# What is remembered of tasks, from outside: nanoq attempts.
import unittest

from test_cli import MYSQL, Base, MysqlBase


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
        self.assertEqual(self.show(task)["attempts"], 2)

    def test_wrong_usage(self):
        self.run_nanoq("attempts", "99", code=3)
        for args in (["attempts"], ["attempts", "x"], ["attempts", "1", "2"], ["attempts", "1", "--jsno"]):
            self.run_nanoq(*args, code=2)


class ResultsSqlite(AttemptsTests, Base):
    def setUp(self):
        super().setUp()
        self.run_nanoq("migrate")


@unittest.skipUnless(MYSQL, "NANOQ_TEST_MYSQL is not set")
class ResultsMysql(AttemptsTests, MysqlBase):
    def setUp(self):
        super().setUp()
        self.run_nanoq("migrate")


if __name__ == "__main__":
    unittest.main()
