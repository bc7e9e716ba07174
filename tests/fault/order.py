# SPDX-License-Identifier: MIT
"""Strict order in groups while workers are killed and stopped, and while tasks fail, are put off, and die.

Groups g0, g1, ... are in order; those of h0, h1, ... are halted by a dead task until somebody retries or deletes it.
The ids of a group's tasks are in the order in which they were added, so they say what its order is.
"""
import collections
import signal
import time

import history
from rig import SLOW, Run, percentile

TICK_US = history.TICK_US


class Tasks:
    """Plain SQL adds them, one statement after the other."""

    def __init__(self, run, names):
        self.run, self.names, self.n, self.group = run, names, 0, {}

    def mode(self, name):
        dice = self.run.random.random()
        for share, mode in ((0.0015, "k"), (0.05 if name[0] == "g" else 0.03, "x"), (0.15, "r"), (0.08, "s")):
            if dice < share:
                return mode
            dice -= share
        return "d"

    def add(self, least=20):
        """Where fewer wait, more."""
        waiting = dict(self.run.db.sql("SELECT queue, COUNT(*) FROM nanoq_tasks WHERE state = 0 GROUP BY queue"))
        rows = []
        for name in self.names:
            for _ in range(max(0, least - int(waiting.get("default//" + name, 0)))):
                self.n += 1
                key, random = f"o{self.n}", self.run.random
                payload = f"{key} {self.mode(name)} {random.randrange(20)} {random.randrange(150)} 0\n".encode().hex()
                rows.append(f"({self.n},'default//{name}','fault',x'{payload}')")
                self.group[self.n] = name
                self.run.note("INVOKE", f"key={key} op=own delay=0")
        if rows:
            self.run.db.sql(f"INSERT INTO nanoq_tasks (id, queue, type, payload) VALUES {','.join(rows)}")
            for i in range(self.n - len(rows) + 1, self.n + 1):
                self.run.note("OK", f"key=o{i} id={i} code=0")


class Dead:
    """Those that halt their groups: each stands for a while and is retried once, or deleted."""

    def __init__(self, run):
        self.run, self.until, self.retried = run, {}, set()

    def steer(self, all_of_them=False):
        now, retry, delete = time.monotonic(), [], []
        for (task,) in self.run.db.sql("SELECT id FROM nanoq_finished WHERE state = 3 AND queue LIKE 'default//h%'"):
            until = self.until.setdefault(int(task), now + 0.3 + 1.5 * self.run.random.random())
            if now < until and not all_of_them:
                continue
            del self.until[int(task)]
            again = int(task) not in self.retried and not all_of_them and self.run.random.random() < 0.5
            self.retried.add(int(task))
            (retry if again else delete).append(str(task))
        if retry or delete:
            self.run.start("steer", retry=",".join(retry), delete=",".join(delete)).wait(60)


def start(run, k):
    """The worker of this number; where there are several servers they take turns."""
    return run.start("work", url=run.nodes[k % len(run.nodes)].url(), concurrency=10)


def harm(run, workers, seconds, tasks, dead, lease_ms):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        time.sleep(0.1 + 0.3 * run.random.random())
        i = run.random.randrange(len(workers))
        if workers[i].poll() is None and run.random.random() < 0.5:
            run.signal(workers[i], signal.SIGKILL)
        elif workers[i].poll() is None:
            run.signal(workers[i], signal.SIGSTOP)
            time.sleep(run.random.choice([0.05, 0.3, 0.3, lease_ms / 1000 * 1.4 + 0.5]))
            run.signal(workers[i], signal.SIGCONT)
        for k, worker in enumerate(workers):  # some die of their tasks
            if worker.poll() is not None:
                workers[k] = start(run, k)
        tasks.add()
        dead.steer()


def settle(run, what, workers, limit=120, look=lambda: None):
    """Let workers run all of these that are left."""
    until = time.monotonic() + limit
    while int(run.db.sql(f"SELECT COUNT(*) FROM nanoq_tasks WHERE {what}")[0][0]) and time.monotonic() < until:
        look()
        for k, worker in enumerate(workers):
            if worker.poll() is not None:
                workers[k] = start(run, k)
        time.sleep(0.2)
    run.stop("work")
    return int(run.db.sql(f"SELECT COUNT(*) FROM nanoq_tasks WHERE {what}")[0][0])


def living(check):
    """[(start, until, task, gen)] by the monotonic clock: how long each handler ran under a lease that was its own. What
    the audit says of the end of a lease may be a moment early, never late."""
    over, killed = {}, {f.at["pid"]: f.mono for f in check.records if f.kind == "KILL"}
    for a in check.audit:
        if a["what"] in ("back", "done", "dead", "cancelled", "delete") and a["was_state"] != 0:
            over.setdefault((a["id"], a["gen"]), a["at"])
    out = []
    for (task, gen), start in check.starts.items():
        lost = over.get((task, gen), 1 << 62) - start.real + start.mono
        end = check.ends.get((task, gen))
        until = min(lost, end.mono if end else 1 << 62, killed.get(start.pid, 1 << 62))
        if until >= start.mono:
            out.append((start.mono, until, task, gen))
    return sorted(out)


def by_log(check, group):
    """What the workers wrote down: (two of a group at once, tasks that began after a later one of their group)."""
    until, last, both, disorder = collections.Counter(), collections.Counter(), 0, 0
    for start, end, task, _ in living(check):
        name = group[task]
        both += start < until[name]
        disorder += task < last[name]
        until[name], last[name] = max(until[name], end), max(last[name], task)
    return both, disorder


def by_audit(check, group):
    """What the database committed: (two of a group claimed at once, claims while one before lived, claims in a group that
    was halted; how often one was; how long each stood)."""
    freed = collections.defaultdict(list)
    asked = {}
    for r in check.records:
        if r.kind == "STEER":
            asked[(r.pid, r.at["id"])] = r
        elif r.kind == "STEERED" and r.at["code"] == 0:
            freed[r.at["id"]].append(asked[(r.pid, r.at["id"])].real)
    live, running, halted = collections.defaultdict(set), collections.defaultdict(set), {}
    both = before = through = halts = 0
    stood = []
    for a in check.audit:
        name, task, what = group.get(a["id"]), a["id"], a["what"]
        if name is None:
            continue
        if what == "insert":
            live[name].add(task)
        elif what == "claim":
            both += bool(running[name])
            before += min(live[name], default=task) < task
            running[name].add(task)
            if name in halted:
                dead, at = halted.pop(name)
                free = [t for t in freed[dead] if at - TICK_US <= t <= a["at"] + TICK_US]
                through += not free
                stood += [free[0] - at] if free else []
        elif what == "back" and a["was_state"] == 1:
            running[name].discard(task)
        elif what in ("dead", "done", "cancelled", "delete"):
            live[name].discard(task)
            running[name].discard(task)
            if what == "dead" and name[0] == "h":
                halted[name] = (task, a["at"])
                halts += 1
    return both, before, through, halts, stood


def order(db, figures, seed, seconds=60, groups=30, ordered=True, lease_ms=3000, nodes=None):
    """4 workers x 10 handlers, kill -9 and SIGSTOP; ordered=False: the control, in which nobody set an order."""
    name = "order" if ordered else "order, control without it"
    with Run(name, db, figures, seed, lease_ms=lease_ms) as run:
        run.nodes = nodes or run.nodes
        names = [kind + str(i) for i in range(groups) for kind in "gh"]
        rows = ["('default//*', 1)"] + [f"('default//h{i}', 2)" for i in range(groups)]
        if ordered:
            db.sql(f"INSERT INTO nanoq_queues (name, ordered) VALUES {','.join(rows)}")
        tasks, dead = Tasks(run, names), Dead(run)
        tasks.add()
        workers = [start(run, k) for k in range(4)]
        harm(run, workers, seconds, tasks, dead, lease_ms)
        left = settle(run, "1 = 1", workers, look=lambda: dead.steer(True))
        least = seconds // (20 if SLOW else 6)
        check = run.check(lease_us=lease_ms * 1000, expect={"KILL": least, "STOP": least // 2, "crashes": least,
                                                            "retries": 4 * least, "snoozes": 4 * least, "dead": least})
        both, disorder = by_log(check, tasks.group)
        both_claimed, before, through, halts, stood = by_audit(check, tasks.group)
        run.figure("starts", len(check.starts), len(check.starts) >= seconds * (2 if SLOW else 20),
                   f">= {seconds * (2 if SLOW else 20)}")
        run.figure("tasks that did not end", left, left == 0, 0)
        seen = {"two of a group at once": both, "two of a group claimed at once": both_claimed,
                "tasks that began after a later one": disorder, "claims while one before it lived": before,
                "claims in a halted group": through}
        for what, n in seen.items():
            if ordered:
                run.figure(what, n, n == 0, 0)
            else:
                run.figure(f"{what}, without the order", n, n > 0, "> 0: the check can fail")
        if ordered:
            run.figure("halted groups that somebody released", len(stood), len(stood) >= least // 2, f">= {least // 2}")
            run.figure("they stood, in the middle", f"{percentile(stood, 0.5) / 1e6:.1f} s of {halts} halts", True, "-")
