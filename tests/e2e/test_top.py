#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# nanoq top in a terminal (tmux): each key, sizes, hostile text, signals, and the terminal afterwards.
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import unittest

from test_cli import NANOQ, Base, MysqlBase

HOSTILE = "\x1b[31mRED\x1b]0;title\x07\n\u202eevil \u6f22\u5b57"


class TopTests:
    def setUp(self):
        if not shutil.which("tmux"):
            self.skipTest("tmux is not installed")
        super().setUp()
        if b"without ncurses" in subprocess.run([NANOQ, "top", "--db", "sqlite::memory:"], capture_output=True, check=False).stderr:
            self.skipTest("built without ncurses")
        self.env.setdefault("NANOQ_DB", "sqlite:" + self.path("top.db"))
        self.run_nanoq("migrate")
        # A server of its own, which is ended with its own command: before its socket goes with the directory.
        self.socket = self.path("tmux")
        # It ends behind its last session otherwise, and a new one can meet it while it does.
        self.tmux("start-server", ";", "set-option", "-s", "exit-empty", "off")

    def tearDown(self):
        subprocess.run(["tmux", "-S", self.socket, "kill-server"], capture_output=True, check=False)
        super().tearDown()

    def tmux(self, *args):
        env = {**self.env, "LC_ALL": "C.UTF-8", "TERM": "xterm-256color"}
        return subprocess.run(["tmux", "-S", self.socket, "-f", "/dev/null", *args], env=env, check=True,
                              capture_output=True).stdout.decode()

    def screen(self):
        return self.tmux("capture-pane", "-p", "-t", "t")

    def sees(self, *texts, absent=()):
        self.wait(lambda: (lambda s: all(t in s for t in texts) and not any(t in s for t in absent))(self.screen()),
                  "%r without %r in\n%s" % (texts, absent, self.screen()))
        return self.screen()

    def keys(self, *keys):
        for key in keys:
            self.tmux("send-keys", "-t", "t", key)

    def top(self, width=80, height=24):
        """In a shell, so that what it leaves behind can be seen."""
        self.tmux("new-session", "-d", "-s", "t", "-x", str(width), "-y", str(height), "sh")
        self.tmux("send-keys", "-t", "t", "PS1='$ '; cd '%s'; stty -g > before; clear; '%s' top; echo ended $?" %
                  (self.dir, NANOQ), "Enter")
        return self.sees("nanoq top", "queues ", absent=("reading",))

    def same_terminal(self):
        # A name of its own each time: what was echoed before may still stand there.
        self.stored = getattr(self, "stored", 0) + 1
        self.keys("stty -g > after; echo stored $((%d + 0))." % self.stored, "Enter")
        self.sees("\nstored %d." % self.stored)
        with open(self.path("before"), encoding="ascii") as a, open(self.path("after"), encoding="ascii") as b:
            self.assertEqual(a.read(), b.read())
        self.assertEqual(self.tmux("display-message", "-p", "-t", "t", "#{alternate_on} #{cursor_flag} #{keypad_cursor_flag}").split(),
                         ["0", "1", "0"])

    def pid(self):
        out = subprocess.run(["ps", "-eo", "pid=,args="], capture_output=True, check=True).stdout.decode()
        mine = [line.split()[0] for line in out.splitlines() if line.split(None, 1)[1].strip() == NANOQ + " top"]
        own = [pid for pid in mine if os.path.realpath("/proc/%s/cwd" % pid) == os.path.realpath(self.dir)]
        self.assertEqual(len(own), 1, out)
        return int(own[0])

    def busy(self):
        """Two tasks that run until they are cancelled, one that is dead, three that wait in a queue of their own."""
        for i in range(2):
            self.add("--queue", "slow", "sleeper", str(i))
        for i in range(3):
            self.add("--queue", "mail", "send", str(i))
        dead = self.add("--queue", "broken", "--max-retries", "0", "fails", "1")
        self.worker = self.start("work", "-j", "3", "-q", "slow", "-q", "broken", "--", "sh", "-c",
                                 "[ $NANOQ_TYPE = sleeper ] && exec sleep 1000; printf 'bad \\033[31mthing' >&2; exit 65")
        self.wait(lambda: self.show(dead)["state"] == "dead" and
                  len(self.json("list", "--state", "running")) == 2, "them")
        return dead

    def test_keys(self):
        dead = self.busy()
        running = sorted(t["id"] for t in self.json("list", "--state", "running"))
        self.top()
        self.sees("queues 3", "running 2", "workers 1", "dead 1", "sleeper", "\\x1b[31mthing", "RUN/MAX", "?help")
        # The queue with the most that is due comes first, and is paused and resumed.
        self.keys("p")
        self.sees("pause queue mail? y/n")
        self.keys("n")
        self.sees("?help", absent=("y/n",))
        self.assertFalse(any(q["paused"] for q in self.json("queues")))
        self.keys("p", "y")
        self.sees("queue mail: paused", "paused  ")
        self.assertEqual([q["queue"] for q in self.json("queues") if q["paused"]], ["mail"])
        self.keys("p")
        self.sees("resume queue mail? y/n")
        self.keys("y")
        self.sees("queue mail: resumed")
        # Sorting: by each column in turn, and the other way round.
        self.sees("*DUE")
        self.keys("s")
        self.sees("*DELAYED")
        self.keys("S", "1")
        # Running tasks: why, cancel.
        self.keys("Tab")
        self.sees("*running 2")
        self.keys("w")
        self.sees("running: on ", "any key")
        self.keys("x")
        self.sees("*running 2")
        self.keys("r")
        self.sees("r is for a dead task")
        self.keys("Down", "c")
        self.sees("cancel task %d? y/n" % running[0])
        self.keys("y")
        self.sees("running 1", "task %d: cancelled" % running[0])
        self.wait(lambda: self.show(running[0])["state"] == "cancelled", "its end")
        # Dead ones: retry.
        self.keys("4")
        self.sees("*dead 1")
        self.keys("w")
        self.sees("dead: ", "any key")
        self.keys("q", "r")
        self.sees("retry task %d? y/n" % dead)
        self.keys("y")
        self.sees("task %d: waits to be run again" % dead)
        # The filter, in all panels.
        self.keys("1", "/", "m", "a", "x", "BSpace", "i", "Enter")
        self.sees("queues 1/3", "running 0/1", "filter: mai")
        self.keys("c")
        self.sees("c is for a running task")
        self.keys("Escape")
        self.sees("queues 3", absent=("filter:",))
        # Nothing of the one before comes back behind what is typed.
        self.keys("/", "m", "a", "i", "Escape")
        self.sees("queues 3", absent=("filter:",))
        self.keys("/", "s", "l", "Enter")
        self.sees("queues 1/3", "filter: sl", absent=("filter: sli",))
        self.keys("Escape")
        self.sees("queues 3", absent=("filter:",))
        self.keys("?")
        self.sees("filter the rows", "any key")
        self.keys("Escape", "q")
        self.sees("ended 0", absent=("queues 3",))
        self.same_terminal()

    def test_sizes(self):
        self.busy()
        for i in range(30):
            self.add("--queue", "q%02d" % i, "a", str(i))
        screen = self.top(40, 24)
        for line in screen.splitlines():
            self.assertLessEqual(len(line), 40)
        self.sees("queues 33", "DUE", "RUN/MAX", "running 2", "dead 1", absent=("WAIT99",))
        self.keys("End")
        self.sees("slow")
        self.tmux("resize-window", "-t", "t", "-x", "150", "-y", "40")
        self.sees("WAIT99", "OLDEST")
        self.tmux("resize-window", "-t", "t", "-x", "40", "-y", "8")
        self.sees("queues 33", absent=("workers 1 ",))
        self.tmux("resize-window", "-t", "t", "-x", "12", "-y", "2")
        self.keys("Tab", "?", "x")
        self.tmux("resize-window", "-t", "t", "-x", "80", "-y", "24")
        self.sees("queues 33", "*running 2")
        self.keys("q")
        self.sees("ended 0")
        self.same_terminal()

    def hostile(self):
        database = sqlite3.connect(self.path("top.db"))
        database.execute("PRAGMA ignore_check_constraints = 1")
        database.execute("UPDATE nanoq_tasks SET type = ? || id", (HOSTILE,))
        database.execute("UPDATE nanoq_finished SET type = ?, error = ?", (HOSTILE, HOSTILE))
        database.execute("UPDATE nanoq_workers SET name = ?, queues = ?", (HOSTILE, HOSTILE))
        database.commit()
        database.close()

    def test_hostile_text(self):
        self.busy()
        if "sqlite" not in self.env["NANOQ_DB"]:
            self.skipTest("a server refuses such rows")
        self.hostile()
        self.top(120, 30)
        self.sees("\\x1b[31mRED\\x1b]0;title\\x07\\n\\u{202e}evil")
        self.assertNotIn("\u202e", self.screen())
        self.assertNotEqual(self.tmux("display-message", "-p", "-t", "t", "#{pane_title}").strip(), "title")
        self.keys("q")
        self.sees("ended 0")

    def test_dead_workers_are_no_workers(self):
        if "sqlite" not in self.env["NANOQ_DB"]:
            self.skipTest("its row is written into a file")
        with sqlite3.connect(self.path("top.db")) as database:
            database.execute("INSERT INTO nanoq_workers (name, beat, started_at, beat_at, queues, concurrency) "
                             "VALUES ('h', 1, 1, 1, 'default', 4)")
        self.top()
        self.sees("0 workers", "workers 1 ")
        self.keys("q")
        self.sees("ended 0")

    def test_signals_leave_the_terminal_as_it_was(self):
        self.add("a", "1")
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGSEGV, signal.SIGABRT):
            self.top()
            os.kill(self.pid(), number)
            self.sees("ended %d" % (128 + number), absent=("queues 1",))
            self.same_terminal()
            self.tmux("kill-session", "-t", "t")
        self.top()
        self.keys("C-c") # a shell drops the rest of its line with it
        self.sees("$", absent=("queues 1",))
        self.same_terminal()

    def test_suspended(self):
        self.add("a", "1")
        self.top()
        pid = self.pid()
        self.keys("C-z")
        self.sees("Stopped", absent=("queues 1",))
        with open("/proc/%d/status" % pid, encoding="ascii") as f:
            self.assertIn("T (stopped)", f.read())
        self.same_terminal()
        self.add("b", "1", "--queue", "other")
        self.keys("fg", "Enter")
        self.sees("queues 2", "other")
        self.keys("q")
        # An older prompt stands there too; what is typed before top is gone would be a line that never ends.
        self.wait(lambda: self.screen().rstrip().endswith("\n$"), "the prompt in\n" + self.screen())
        self.same_terminal()

    def test_a_database_that_goes_away(self):
        if "sqlite" not in self.env["NANOQ_DB"]:
            self.skipTest("here it is a file that can be moved")
        self.add("a", "1")
        self.top()
        database = sqlite3.connect(self.path("top.db"))
        database.execute("ALTER TABLE nanoq_finished RENAME TO elsewhere")
        database.commit()
        self.sees("no answer of the database for", "queues 1")
        database.execute("ALTER TABLE elsewhere RENAME TO nanoq_finished")
        database.commit()
        database.close()
        self.sees("?help", absent=("no answer",))
        self.keys("q")
        self.sees("ended 0")

    def test_one_order_at_a_time(self):
        if "sqlite" not in self.env["NANOQ_DB"]:
            self.skipTest("here it is a file that can be locked")
        for i in range(2):
            self.add("--queue", "q%d" % i, "a", str(i))
        self.top()
        database = sqlite3.connect(self.path("top.db"))
        database.execute("BEGIN IMMEDIATE")
        self.keys("p", "y", "Down", "p")
        self.sees("pause queue q1? y/n")
        self.keys("y")
        self.sees("not done: still busy with queue q0")
        database.rollback()
        database.close()
        self.sees("queue q0: paused")
        self.assertEqual([q["queue"] for q in self.json("queues") if q["paused"]], ["q0"])
        self.keys("p", "y")
        self.sees("queue q1: paused")
        self.keys("q")
        self.sees("ended 0")

    def test_without_a_terminal(self):
        done = subprocess.run([NANOQ, "top"], env=self.env, capture_output=True, stdin=subprocess.DEVNULL, check=False)
        self.assertEqual(done.returncode, 2)
        self.assertIn(b"stats --watch", done.stderr)
        self.tmux("new-session", "-d", "-s", "t", "-x", "80", "-y", "24", "sh")
        self.keys("TERM=nosuchterminal '%s' top; echo ended $?" % NANOQ, "Enter")
        self.sees("is not known here", "\nended 2")


class TopSqlite(TopTests, Base):
    pass


class TopMysql(TopTests, MysqlBase):
    pass


if __name__ == "__main__":
    unittest.main()
