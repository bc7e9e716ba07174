# SPDX-License-Identifier: MIT
"""Dead letters while workers and the server are killed: each death leaves one copy, and nothing else does."""
import collections
import re
import signal
import time

import order
from rig import SLOW, Run

LETTERS_FROM = 1_000_000_000
LONG_AGO = 1_000_000_000_000_000  # of the year 2001


class Tasks:
    """Plain SQL adds them. Most die, each in a way of its own: discarded, out of attempts, killers of their worker, expired."""

    def __init__(self, run):
        self.run, self.n = run, 0

    def add(self, count):
        rows = []
        for _ in range(count):
            self.n += 1
            dice, key = self.run.random.random(), f"l{self.n}"
            mode = "k" if dice < 0.004 else "x" if dice < 0.4 else "r" if dice < 0.7 else "d"
            headers = "NULL"
            if self.run.random.random() < 0.1:
                headers = f"'lang: de\nnq-expires: {LONG_AGO}\n'"
                self.run.note("EXPIRES", f"id={self.n}")
            queue = "default" + ("" if self.run.random.random() < 0.5 else f"//{self.n % 7}")
            payload = f"{key} {mode} {self.run.random.randrange(10)} 20 0\n".encode().hex()
            rows.append(f"({self.n},'{queue}','fault',x'{payload}',{self.run.random.randrange(2)},{headers})")
            self.run.note("INVOKE", f"key={key} op=own delay=0")
        self.run.db.sql(f"INSERT INTO nanoq_tasks (id, queue, type, payload, max_retries, headers) VALUES {','.join(rows)}")
        for i in range(self.n - count + 1, self.n + 1):
            self.run.note("OK", f"key=l{i} id={i} code=0")


def judge(deaths, letters):
    """deaths: the tasks that died, once for each time; letters: (whose, payload) of each. (Missing, too many, of other bytes.)"""
    died, left = collections.Counter(deaths), collections.Counter(whose for whose, _ in letters)
    wrong = sum(not payload.startswith(f"l{whose} ".encode()) for whose, payload in letters)
    return sum((died - left).values()), sum((left - died).values()), wrong


def read(db):
    """The letters that lie there."""
    rows = db.sql("SELECT HEX(headers), HEX(payload) FROM nanoq_tasks WHERE queue = 'letters'")
    found = [(re.match(rb"nq-dead: (\d+)\n", bytes.fromhex(headers)), bytes.fromhex(payload)) for headers, payload in rows]
    return [(int(match[1]) if match else 0, payload) for match, payload in found]


def harm(run, workers, seconds, tasks, server_every):
    until, server = time.monotonic() + seconds, time.monotonic() + server_every
    while time.monotonic() < until:
        time.sleep(0.1 + 0.3 * run.random.random())
        i = run.random.randrange(len(workers))
        if workers[i].poll() is None:
            run.signal(workers[i], signal.SIGKILL)
        if server_every and run.db.mysql and time.monotonic() > server:
            run.db.kill()
            run.note("SERVERKILL")
            time.sleep(run.random.choice([0, 0.5]))
            run.db.start()
            server = time.monotonic() + server_every
        for k, worker in enumerate(workers):
            if worker.poll() is not None:
                workers[k] = order.start(run, k)
        if int(run.db.sql("SELECT COUNT(*) FROM nanoq_tasks WHERE queue <> 'letters' AND state = 0")[0][0]) < 300:
            tasks.add(300)
        dead = [task for (task,) in run.db.sql("SELECT id FROM nanoq_finished WHERE state = 3 ORDER BY id DESC LIMIT 50")]
        run.start("steer", retry=",".join(str(task) for task in run.random.sample(dead, min(3, len(dead))))).wait(60)


def letters(db, figures, seed, seconds=40, server_every=6, nodes=None):
    """4 workers x 10 handlers, kill -9 of them and (server_every: seconds, 0 never) of the server; some of the dead are retried,
    and die again."""
    with Run("dead letters", db, figures, seed, lease_ms=3000, max_crashes=1) as run:
        run.nodes = nodes or run.nodes
        run.note("EXCUSE", "the server is away: locks and beats are")
        db.sql("INSERT INTO nanoq_queues (name, dead_to) VALUES ('default', 'letters')")
        # the ids that the database gives, to the letters, are above those that are said
        db.sql(f"INSERT INTO nanoq_tasks (id, type, payload) VALUES ({LETTERS_FROM}, 'none', ''); "
               f"DELETE FROM nanoq_tasks WHERE id = {LETTERS_FROM}")
        tasks = Tasks(run)
        tasks.add(300)
        workers = [order.start(run, k) for k in range(4)]
        harm(run, workers, seconds, tasks, server_every)
        left = order.settle(run, "queue <> 'letters'", workers)
        least = seconds // (10 if SLOW else 2)
        check = run.check(max_crashes=1, drained=False,
                          expect={"KILL": least, "dead": 10 * least, "crashes": least, "expired": least, "STEERED": least,
                                  "SERVERKILL": seconds // (2 * server_every) if server_every and db.mysql else 0})
        deaths = [a["id"] for a in check.audit if a["what"] == "dead"]
        missing, more, wrong = judge(deaths, read(db))
        twice = sum(n > 1 for n in collections.Counter(deaths).values())
        run.figure("tasks that did not end", left, left == 0, 0)
        run.figure("deaths, tasks that died more than once", f"{len(deaths)}, {twice}", twice > 0, "> 0")
        run.figure("deaths without a copy", missing, missing == 0, 0)
        run.figure("copies without a death", more, more == 0, 0)
        run.figure("copies of other bytes", wrong, wrong == 0, 0)
