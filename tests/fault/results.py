# SPDX-License-Identifier: MIT
"""Results and those who wait for them, while workers are killed and stopped and the database goes away."""
import signal
import sqlite3
import time

import database
import history
from proxy import Proxy
from rig import SLOW, Run, ms, percentile

LIMIT_S = 2  # of a call through the proxy


def results(db, figures, seed, rounds=3, lease_ms=3000):
    """kill -9 and SIGSTOP of workers, kill -9 of waiters, the server killed or the file locked, connections cut."""
    with Run("results", db, figures, seed, lease_ms=lease_ms, work_ms=300, results=1) as run:
        run.note("EXCUSE", "the database is away: locks and beats are")
        proxy = Proxy(db.port) if db.mysql else None
        far = db.url(proxy.port) + f"?connect_timeout={LIMIT_S}s&read_timeout={LIMIT_S}s&write_timeout={LIMIT_S}s" \
            if proxy else db.url()
        try:
            run.start("work", concurrency=20)
            starts = [("work", db.url(), {"concurrency": 6})] * 4 + [("work", far, {"concurrency": 6})] * 2
            starts += [("wait", db.url(), {})] * 4 + [("wait", far, {})] * 2
            group = [run.start(role, url=url, **options) for role, url, options in starts]
            run.start("produce", pause_us=40000)
            time.sleep(1)
            for _ in range(rounds):
                disturb(run, db, group, starts, lease_ms, proxy)
            run.stop("produce")
            run.stop("wait", limit=20 + 2 * LIMIT_S + 10)
            run.drain(workers=1, concurrency=32)
            least = rounds * (2 if SLOW else 10)
            check = run.check(lease_us=lease_ms * 1000, results=database.results(db),
                              wait_bound_us=(2 * LIMIT_S + 1) * 1_000_000,
                              expect={"KILL": 5 * rounds, "STOP": 3 * rounds, "SERVERKILL" if db.mysql else "LOCKED": rounds,
                                      "results": least, "waits in time": least, "time-outs": least, "crashes": rounds})
        finally:
            if proxy:
                proxy.close()
        told = [real - end for _, end, real in check.waits if end]
        run.figure("a waiter knew after the commit, p50", ms(percentile(told, 0.5)), True, "-")
        late = [r.at["took"] for r in check.records if r.kind == "WAITED"]
        run.figure("slowest wait, of 20 s at most", ms(max(late, default=0)), max(late, default=0) <= 20_000_000 + 5_000_000,
                   "<= 20 s + two calls of 2 s + 1 s")


def disturb(run, db, group, starts, lease_ms, proxy):
    """One round: some are stopped past their lease, others killed meanwhile; then the database goes away."""
    frozen = run.random.sample(range(6), 3)
    for i in frozen:
        run.signal(group[i], signal.SIGSTOP)
    until = time.monotonic() + lease_ms / 1000 * 1.4 + 0.5
    while time.monotonic() < until:
        time.sleep(0.2 + 0.3 * run.random.random())
        i = run.random.choice([i for i in range(len(group)) if i not in frozen])
        if group[i].poll() is None:
            run.signal(group[i], signal.SIGKILL)
        role, url, options = starts[i]
        group[i] = run.start(role, url=url, **options)
    for i in frozen:
        run.signal(group[i], signal.SIGCONT)
    if not db.mysql:
        lock(run, db, 2.5)
        time.sleep(1)
        return
    time.sleep(0.5)
    for mode in ("cut", "hole", "pass"):
        proxy.mode = mode
        proxy.cut()
        run.note("CUT")
        time.sleep(1)
    db.kill()
    run.note("SERVERKILL")
    time.sleep(run.random.choice([0, 0.5, 2]))
    db.start()
    time.sleep(1.5)


def lock(run, db, seconds):
    """Another program holds the file's write lock, as a long transaction would."""
    other = sqlite3.connect(db.path, timeout=10, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    run.note("LOCKED")
    time.sleep(seconds)
    run.note("LOCKED")
    other.execute("ROLLBACK")
    other.close()


def unfenced(db, figures, seed, rounds=3, lease_ms=3000):
    """The same with completion by id alone: results of runs that were over must be seen, or the check proves nothing."""
    with Run("results, unfenced control", db, figures, seed, load="load-nofence", lease_ms=lease_ms, work_ms=4000, modes="d",
             keep=1, results=1) as run:
        run.start("work", concurrency=40)
        mortal = [run.start("work", concurrency=3) for _ in range(12)]
        run.start("produce", pause_us=80000)
        time.sleep(1)
        for _ in range(rounds):
            frozen = run.random.sample(mortal, 6)  # a few: one that is stopped with SQLite's write lock stops all
            for process in frozen:
                run.signal(process, signal.SIGSTOP)
            time.sleep(lease_ms / 1000 * 1.4 + 0.5)
            for process in frozen:
                run.signal(process, signal.SIGCONT)
            time.sleep(1.5)
        run.stop("produce")
        run.drain(workers=1, concurrency=64)
        with open(run.path, encoding="utf-8") as f:
            check = history.Check(history.parse(f.read()), *database.read(db), lease_us=lease_ms * 1000,
                                  results=database.results(db))
        print("\n".join(history.report(check, run.seed)[:1]), flush=True)
        wrong = check.seen["result of another run"]
        run.figure("results of another run without the fence", wrong, wrong > 0, "> 0: the check can fail")
