# SPDX-License-Identifier: MIT
"""Limits over all hosts, while workers are killed and stopped: never more than the limit are claimed."""
import collections
import signal
import subprocess
import sys
import time

import history
from rig import SLOW, Run, percentile


class Tasks:
    """Plain SQL adds them, with ids that say their groups."""

    def __init__(self, db, groups, work_ms):
        self.db, self.groups, self.work_ms, self.n = db, groups, work_ms, 0

    def add(self, count):
        rows = []
        for self.n in range(self.n + 1, self.n + count + 1):
            queue = f"default//{self.n % self.groups}" if self.groups else "default"
            payload = f"{self.n} d {self.work_ms} 0 0\n".encode().hex()
            rows.append(f"({self.n},'{queue}','fault',x'{payload}')")
        self.db.sql(f"INSERT INTO nanoq_tasks (id, queue, type, payload) VALUES {','.join(rows)}")

    def waiting(self):
        return int(self.db.sql("SELECT COUNT(*) FROM nanoq_tasks WHERE state = 0")[0][0])


def audited(db):
    """(what, task) of what the database saw of claims and of their ends, in order."""
    if hasattr(db, "audited"):
        return [(row["what"], str(row["id"])) for row in db.audited() if row["what"] in ("claim", "back", "delete")]
    return db.sql("SELECT what, id FROM fault_audit WHERE what IN ('claim', 'back', 'delete') ORDER BY seq")


def peaks(db, groups):
    """What the database saw: (claims, most of a group at once, most of all). The end of a task is written down before it is
    committed, and the claim under a lock that is held to its COMMIT: so nothing seems to be above that was not."""
    running, now, claims, most, most_all = {}, collections.Counter(), 0, 0, 0
    for what, task in audited(db):
        group = int(task) % groups if groups else 0
        if what == "claim":
            claims += 1
            now[group] += task not in running
            running[task] = group
            most, most_all = max(most, now[group]), max(most_all, len(running))
        elif running.pop(task, None) is not None:
            now[group] -= 1
    return claims, most, most_all


def harm(run, workers, seconds, tasks, nodes):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        time.sleep(0.1 + 0.4 * run.random.random())
        i = run.random.randrange(len(workers))
        if run.random.random() < 0.5:
            run.signal(workers[i], signal.SIGKILL)
            workers[i] = run.start("work", url=nodes[i % len(nodes)].url(), concurrency=10)
        else:
            run.signal(workers[i], signal.SIGSTOP)
            time.sleep(run.random.choice([0.05, 0.3, 1.5]))
            run.signal(workers[i], signal.SIGCONT)
        if tasks.waiting() < 2000:
            tasks.add(2000)


def limits(db, figures, seed, seconds=60, groups=1000, gate=True, nodes=None, whole=30):
    """Limit 1 of each group and 30 of all, 4 workers x 10 handlers, kill -9 and SIGSTOP; groups=0: tasks without a group, whose
    workers hand their places on; whole=None: groups alone are limited, and are claimed without a look before."""
    name = "limits" if gate else "limits, control without the gate"
    name += "" if groups else ", no groups"
    name += "" if whole else ", of groups alone"
    with Run(name, db, figures, seed, load="load" if gate else "load-nogate", lease_ms=3000) as run:
        nodes = nodes or [db]
        tasks = Tasks(db, groups, 20)
        db.sql("INSERT INTO nanoq_queues (name, max_running) VALUES ('default//*', 1)" + (f", ('default', {whole})" if whole else ""))
        tasks.add(4000)
        workers = [run.start("work", url=nodes[i % len(nodes)].url(), concurrency=10) for i in range(4)]
        harm(run, workers, seconds, tasks, nodes)
        run.stop("work")
        claims, most, most_all = peaks(db, groups)
        least = seconds * (2 if SLOW else 20)
        run.figure("claims", claims, claims >= least, f">= {least}")
        if not gate:
            above = max(most - 1 if groups else 0, most_all - (whole or 40))
            run.figure("most above a limit without the gate", above, above > 0, "> 0: the check can fail")
            return
        if groups:
            run.figure("most of a group at once, limit 1", most, most == 1, 1)
        if whole:
            run.figure(f"most of all at once, limit {whole}", most_all, most_all <= whole, f"<= {whole}")
        worse = [line for line in run.log_lines() if "claim" in line]
        run.figure("errors of claims that surfaced", len(worse), not worse, 0)


def capacity(db, figures, seed, seconds=4, rounds=3):
    """A limit that equals the handlers there are, 4 x 10, beside none: what it costs."""
    for work_ms in (50, 20, 5):
        capacity_of(db, figures, seed, work_ms, seconds, rounds)


def capacity_of(db, figures, seed, work_ms, seconds, rounds):
    with Run(f"a limit of all handlers, tasks of {work_ms} ms", db, figures, seed, lease_ms=5000) as run:
        tasks = Tasks(db, 0, work_ms)
        rates = {None: [], 40: []}
        for _ in range(rounds):
            for limit, each in rates.items():
                db.sql("DELETE FROM nanoq_queues")
                db.sql("DELETE FROM nanoq_tasks")
                if limit:
                    db.sql(f"INSERT INTO nanoq_queues (name, max_running) VALUES ('default', {limit})")
                for _ in range(8):
                    tasks.add(5000)
                for _ in range(4):
                    run.start("work", concurrency=10, keep=0)
                time.sleep(1.5)
                before, begin = tasks.waiting(), time.monotonic()
                time.sleep(seconds)
                each.append((before - tasks.waiting()) / (time.monotonic() - begin))
                run.stop("work")
        plain, limited = (percentile(each, 0.5) for each in (rates[None], rates[40]))
        run.figure("tasks/s without a limit, with one of 40", f"{plain:.0f}, {limited:.0f}", plain > 0 and limited > 0, "> 0")
        run.figure("what the limit leaves of it", f"{100 * limited / plain:.0f} %", True, "-")


def starts(run):
    """When handlers began, in order, in microseconds of the monotonic clock."""
    with open(run.path, encoding="utf-8", errors="replace") as f:
        return sorted(record.mono for record in history.parse(f.read()) if record.kind == "START")


def most_in_a_second(times):
    most, first = 0, 0
    for i, at in enumerate(times):
        while at - times[first] >= 1_000_000:
            first += 1
        most = max(most, i - first + 1)
    return most


def rates(db, figures, seed, seconds=30, rate=300, burst=10, busy=4, gate=True):
    """A rate over 4 workers x 10 handlers on a machine that is busy besides, with kill -9 and SIGSTOP."""
    name = "rate" if gate else "rate, control without the gate"
    with Run(name, db, figures, seed, load="load" if gate else "load-nogate", lease_ms=3000) as run:
        tasks = Tasks(db, 0, 1)
        db.sql(f"INSERT INTO nanoq_queues (name, rate, rate_us, burst) VALUES ('default', {rate}, 1000000, {burst})")
        for _ in range(2 + rate * seconds // 4000):
            tasks.add(4000)
        spins = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(busy)]
        try:
            workers = [run.start("work", concurrency=10) for _ in range(4)]
            harm(run, workers, seconds, tasks, [db])
        finally:
            for spin in spins:
                spin.kill()
                spin.wait()
        run.stop("work")
        times = starts(run)
        most, allowed = most_in_a_second(times), int(rate * 1.05) + burst + 1
        least = rate * seconds // (20 if SLOW else 4)
        run.figure("starts", len(times), len(times) >= least, f">= {least}")
        if gate:
            run.figure(f"most starts in any second at {rate}/s, burst {burst}", most, most <= allowed, f"<= {allowed}")
        else:
            run.figure("most starts in a second without the gate", most, most > allowed, f"> {allowed}: the check can fail")
