#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# examples/demo: its accounts, its picture, and that it leaves nothing behind, however it ends.
import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import termios
import unittest

from test_cli import LIMIT, Base, MysqlBase, read_terminal

DEMO = os.path.abspath(os.environ.get("NANOQ_DEMO", "build/examples/demo"))


class DemoBase(Base):
    def demo(self, *args, **kwargs):
        process = subprocess.Popen([DEMO, *args], env=self.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **kwargs)
        self.started.append(process)
        return process

    def run_demo(self, *args):
        process = self.demo(*args)
        out, err = process.communicate(timeout=LIMIT)
        self.assertEqual(process.returncode, 0, (out, err))
        return out

    def leaves_nothing(self):
        self.assertEqual([n for n in os.listdir(self.dir) if n.startswith("nanoq-demo")], [])

    def adds_up_in_the_users_database(self):
        self.run_nanoq("migrate")
        self.assertIn(b"it adds up", self.run_demo("--fast", "--db", self.env["NANOQ_DB"]))
        self.assertEqual(self.json("list"), [])

    def leaves_no_task_when_nobody_reads(self):
        self.run_nanoq("migrate")
        process = self.demo("--fast", "--db", self.env["NANOQ_DB"])
        process.stdout.readline()
        process.stdout.close()
        self.assertEqual(process.wait(LIMIT), 1)
        self.assertEqual(self.json("list"), [])


class Demo(DemoBase):
    def setUp(self):
        super().setUp()
        self.env["NANOQ_DB"] = "sqlite:" + self.path("q.db")

    def test_it_adds_up_and_cleans_up(self):
        self.assertIn(b"it adds up", self.run_demo("--fast"))
        self.leaves_nothing()

    def test_it_adds_up_in_the_users_database(self):
        self.adds_up_in_the_users_database()

    def test_interrupted_it_cleans_up(self):
        process = self.demo()
        process.stdout.readline()
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        self.assertEqual(process.wait(LIMIT), 1)
        self.leaves_nothing()

    def test_when_nobody_reads_it_cleans_up(self):
        process = self.demo()
        process.stdout.readline()
        process.stdout.close()
        self.assertEqual(process.wait(LIMIT), 1)
        self.leaves_nothing()

    def test_when_nobody_reads_no_task_stays(self):
        self.leaves_no_task_when_nobody_reads()

    def test_wrong_use(self):
        process = self.demo("--fats")
        self.assertIn(b"usage: demo", process.communicate(timeout=LIMIT)[1])
        self.assertEqual(process.returncode, 2)

    def test_the_password_is_not_in_argv(self):
        self.run_nanoq("migrate")
        process = self.demo("--db", self.env["NANOQ_DB"])
        process.stdout.readline()
        with open("/proc/%d/cmdline" % process.pid, "rb") as f:
            self.assertNotIn(b"q.db", f.read())
        process.send_signal(signal.SIGINT)
        process.wait(LIMIT)

    def on_terminal(self, columns):
        """What it writes to a terminal of so many columns."""
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        process = subprocess.Popen([DEMO, "--fast"], env=self.env, stdout=theirs, stderr=theirs)
        self.started.append(process)
        os.close(theirs)
        out = read_terminal(ours)
        self.assertEqual(process.wait(LIMIT), 0, out)
        return out

    def test_nothing_wraps_at_60_columns(self):
        self.env["TERM"] = "xterm"
        out = self.on_terminal(60)
        lines = [re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", line) for line in out.split("\r\n")]
        path = [line for line in lines if line.startswith("database: ")]
        self.assertEqual([line for line in lines if len(line) > 60 and line not in path], [])
        self.assertIn("  TYPE       ASKED", out)

    def test_no_color_turns_off_colours_only(self):
        self.env.update(TERM="xterm", NO_COLOR="1")
        out = self.on_terminal(100)
        self.assertIn("\x1b[8A", out)  # the picture is drawn again over itself
        self.assertNotRegex(out, r"\x1b\[[0-9;]*m")


class DemoOnMysql(DemoBase, MysqlBase):
    def test_it_adds_up_in_the_users_database(self):
        self.adds_up_in_the_users_database()

    def test_when_nobody_reads_no_task_stays(self):
        self.leaves_no_task_when_nobody_reads()


if __name__ == "__main__":
    unittest.main()
