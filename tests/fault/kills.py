# SPDX-License-Identifier: MIT
"""Workers and producers that are killed, frozen, or asked to stop at random moments."""
import signal
import time

from rig import SLOW, Run, mono, ms, percentile


def kill_workers(db, figures, seed, kills=500, every=0.2, soon_us=1_000_000, until="done", many=0):
    """kill -9 of workers and producers under load: nothing lost, nothing done twice, taken over within a second. until="start":
    of tasks whose keys go with their claims; many=1: by handlers of several tasks a call."""
    name = ("kill -9" if until == "done" else f"kill -9, keys until the {until}") + (", many a call" if many else "")
    produce = {"pause_us": 30000, "until": until}
    with Run(name, db, figures, seed, lease_ms=5000, work_ms=40, many=many) as run:
        # Who last beat in the first seconds of the server cannot be told from one that has yet to come back to it, and is
        # given 10 s: no matter of this run.
        while db.mysql and int(db.sql("SHOW GLOBAL STATUS LIKE 'Uptime'")[0][1]) < 3:
            time.sleep(0.1)
        stay = [run.start("work") for _ in range(2)]
        mortal = [run.start("work", concurrency=6) for _ in range(3)]
        producers = [run.start("produce", **produce) for _ in range(2)]
        time.sleep(0.5)
        done = 0
        while done < kills:
            time.sleep(every * (0.5 + run.random.random()))
            if run.random.random() < 0.1:
                group, role, options = producers, "produce", produce
            else:
                group, role, options = mortal, "work", {"concurrency": 6}
            i = run.random.randrange(len(group))
            if group[i].poll() is None:
                run.signal(group[i], signal.SIGKILL)
                done += 1
            group[i] = run.start(role, **options)
        run.stop("produce")
        run.drain(workers=1)
        check = run.check(lease_us=5_000_000, expect={"KILL": kills, "crashes": kills / 4 if kills >= 100 else kills / 10,
                                                      "OK": kills, "retries": 1, "snoozes": 1, "BACK": 1})
        late = sum(t > soon_us for t in check.latency)
        run.figure("tasks of the killed run again, p50", ms(percentile(check.latency, 0.5)), True, "-")
        run.figure("tasks of the killed run again, p99", ms(percentile(check.latency, 0.99)),
                   percentile(check.latency, 0.99) <= soon_us, f"<= {ms(soon_us)}")
        run.figure("tasks of the killed run again, slowest", ms(max(check.latency, default=0)), late == 0,
                   f"<= {ms(soon_us)}")
        assert all(p.returncode is not None for p in stay)


def freeze(db, figures, seed, stops=100, lease_ms=3000, fence=True):
    """SIGSTOP past the lease and SIGCONT: no completion by the one that was taken for dead."""
    load = "load" if fence else "load-nofence"
    name = "freeze" if fence else "freeze, unfenced control"
    with Run(name, db, figures, seed, load=load, lease_ms=lease_ms, work_ms=4000, modes="d", keep=1) as run:
        for _ in range(2):
            run.start("work", concurrency=40)
        mortal = [run.start("work", concurrency=3) for _ in range(20)]
        run.start("produce", pause_us=80000)
        time.sleep(1)
        done = 0
        while done < stops:
            frozen = run.random.sample(mortal, min(len(mortal), stops - done))
            for process in frozen:
                run.signal(process, signal.SIGSTOP)
            time.sleep(lease_ms / 1000 * 1.4 + 0.5)
            for process in frozen:
                run.signal(process, signal.SIGCONT)
            done += len(frozen)
            time.sleep(1.5)
        run.stop("produce")
        run.drain(workers=1, concurrency=64)
        options = {"lease_us": lease_ms * 1000, "expect": {"STOP": stops, "crashes": stops / 4, "DECLARED": stops / 2}}
        if not fence:
            return control(run, options)
        check = run.check(**options)
        run.figure("stale completions", check.seen["stale completion"], check.seen["stale completion"] == 0, 0)
        # A process that is stopped inside a transaction keeps its rows, and in a SQLite file the one write lock: of
        # those it is not the lease that decides.
        limit, most = lease_ms * 1000 + 1_000_000, percentile(check.latency, 0.9)
        run.figure("taken over by heartbeat alone, p90", ms(most), most <= limit or not db.mysql,
                   f"<= lease {ms(lease_ms * 1000)} + 1 s" if db.mysql else "-")
        run.figure("taken over by heartbeat alone, slowest", ms(max(check.latency, default=0)), True, "-")


def control(run, options):
    """The same with completion by id alone: the checker must see it, or it proves nothing."""
    import database
    import history
    with open(run.path, encoding="utf-8") as f:
        check = history.Check(history.parse(f.read()), *database.read(run.db), **options)
    stale = check.seen["stale completion"]
    run.figure("stale completions without the fence", stale, stale > 0, "> 0: the check can fail")


def terminate(db, figures, seed, terms=50, grace_ms=500):
    """SIGTERM at random moments: every held task finished or given back, and an exit in time."""
    with Run("SIGTERM", db, figures, seed, lease_ms=5000, work_ms=400, shutdown_ms=300, grace_ms=grace_ms) as run:
        run.start("produce", pause_us=15000)
        slowest = codes = 0
        for i in range(terms):
            # In the same moments that a restart by a service manager would hit: from start-up on.
            worker = run.start("work", concurrency=8)
            time.sleep(run.random.choice([0.002, 0.01, 0.05, 0.3, 0.6]) * run.random.random() * 2)
            begin = mono()
            run.signal(worker, signal.SIGTERM)
            worker.wait(30)
            slowest = max(slowest, mono() - begin)
            codes += worker.returncode not in (0, -signal.SIGTERM)
        held = int(db.sql("SELECT COUNT(*) FROM nanoq_tasks WHERE state = 1")[0][0])
        rows = int(db.sql("SELECT COUNT(*) FROM nanoq_workers")[0][0])
        run.figure("tasks still held after the exit", held, held == 0, 0)
        run.figure("workers still entered after the exit", rows, rows == 0, 0)
        limit = 300_000 + grace_ms * 1000 + 1_000_000
        run.figure("slowest exit", ms(slowest), slowest <= limit, f"<= time-outs + 1 s = {ms(limit)}")
        run.figure("bad exit statuses", codes, codes == 0, 0)
        run.stop("produce")
        run.drain()
        run.check(expect={"TERM": terms, "releases": 0 if SLOW or terms < 50 else terms / 10, "START": 1 if SLOW else terms})


def forks(db, figures, seed, count=200):
    """fork in a host with an open nanoq."""
    with Run("fork", db, figures, seed) as run:
        host = run.start("fork", count=count)
        code = host.wait(60)
        run.figure(f"{count} children refused in words, parent unharmed", "yes" if code == 0 else f"exit {code}",
                   code == 0, "yes")
        run.drain()
        run.check(expect={"FORKED": 1, "OK": count})


def forked(db, figures, seed, seconds=20):
    """Children of fork alone have the database open, and somebody who looks at it is the last who closes it."""
    with Run("forked", db, figures, seed) as run:
        run.start("produce", forked=2, pause_us=2000)
        run.start("work", forked=2, concurrency=2)
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            db.sql("SELECT COUNT(*) FROM nanoq_tasks")
            time.sleep(0.02)
        run.stop("produce")
        run.stop("work")
        run.drain()
        run.check(expect={"OK": 20 * seconds})
