# SPDX-License-Identifier: MIT
"""Many at the same rows: deadlocks, races for one key, transactions that are left open."""
import collections
import subprocess
import time

from rig import SLOW, Run, mono, ms


def storm(db, figures, seed, seconds=15):
    """8 producers and 8 workers on a few hot keys and queues: deadlocks happen and nobody hears of them."""
    with Run("deadlock storm", db, figures, seed, lease_ms=10000, work_ms=0, queues=3, hot=12) as run:
        before = deadlocks(db)
        for _ in range(8):
            run.start("work", concurrency=4)
        for _ in range(8):
            run.start("produce", pause_us=1000, limit_ms=10000)
        time.sleep(seconds)
        run.stop("produce")
        run.drain(workers=1, limit=120)
        least = 2 if SLOW else 4 if seconds < 10 else 20
        check = run.check(expect={"OK": least * seconds, "DUP": least * seconds})
        met = deadlocks(db) - before
        if db.mysql:
            run.figure("deadlocks in the server", met, met > 0 or SLOW, "-" if SLOW else "> 0")
        surfaced = check.n["FAIL"] + check.n["UNKNOWN"] + check.n["LOG"]
        run.figure("errors that surfaced", surfaced, surfaced == 0, 0)
        slowest = max((r.at["ms"] for r in check.records if r.kind in ("TOOK", "LATE")), default=0)
        run.figure("slowest enqueue", f"{slowest} ms", slowest <= 5000, "<= 5 s: retries are bounded")


def deadlocks(db):
    return int(db.sql("SHOW GLOBAL STATUS LIKE 'Innodb_deadlocks'")[0][1]) if db.mysql else 0


def race(db, figures, seed, rounds=100, racers=16):
    """All add the same new key in the same moment, again and again."""
    with Run("race for a key", db, figures, seed, race=1, lease_ms=5000, work_ms=0) as run:
        at = mono() + 1_000_000
        group = [run.start("produce", count=rounds, at=at, pause_us=40000) for _ in range(racers)]
        for process in group:
            process.wait(60)
        live = int(db.sql("SELECT COUNT(*) FROM nanoq_tasks")[0][0])
        run.drain(workers=1)
        check = run.check(expect={"OK": rounds, "DUP": rounds * (racers - 1)})
        answers = collections.defaultdict(list)
        for r in check.records:
            if r.kind in ("OK", "DUP"):
                answers[r.at["key"]].append((r.kind, r.at["id"]))
        wrong = sum(len({i for _, i in a}) != 1 or [k for k, _ in a].count("OK") != 1 or len(a) != racers
                    for a in answers.values())
        run.figure(f"keys of {rounds} with other than one task, one OK, {racers - 1} duplicates of it", wrong,
                   wrong == 0, 0)
        run.figure("live tasks after the races", live, live == rounds, rounds)


def held_by_sql(db, figures, seed, hold_s=10):
    """Plain SQL is refused a duplicate and stays in its transaction: the worker goes on with all other tasks."""
    with Run("held by SQL", db, figures, seed, lease_ms=5000, work_ms=40) as run:
        run.start("produce", race=1, count=1).wait(20)
        # Enough for all the time: an INSERT whose key lies beside the one that is held waits too.
        run.start("produce", count=4000, pause_us=0).wait(60)
        payload = db.sql("SELECT HEX(payload) FROM nanoq_tasks ORDER BY id LIMIT 1")[0][0]
        client = subprocess.Popen(db.client(db.name), stdin=subprocess.PIPE)
        client.stdin.write(f"SET TRANSACTION ISOLATION LEVEL READ COMMITTED; BEGIN; INSERT IGNORE INTO nanoq_tasks "
                           f"(type, payload) VALUES ('fault', x'{payload}'); DO SLEEP({hold_s}); COMMIT;\n".encode())
        client.stdin.close()
        time.sleep(0.5)
        begin = mono()
        run.start("work")
        time.sleep(hold_s - 3)
        held_for = mono() - begin
        lines = count(run, "END")
        last = sorted(int(line.split(" ")[2]) - begin for line in lines)
        gaps = [b - a for a, b in zip([0, *last], [*last, held_for])]
        run.figure("longest pause of the worker", ms(max(gaps)), max(gaps) < 3_000_000, "<= the lock wait of 1 s + 2 s")
        run.figure("tasks ended while it was held", len(lines), len(lines) > 300, "> 300")
        client.wait(60)
        run.drain(workers=1)
        run.check(expect={"OK": 3000})


def held(db, figures, seed, hold_ms=6000, soon_ms=1000):
    """Transactions stay open after a refused duplicate: its task ends, and others come in."""
    with Run("held open", db, figures, seed, lease_ms=5000, work_ms=5, keep=1) as run:
        run.start("produce", race=1, count=1).wait(20)
        for _ in range(3):
            run.start("hold", race=1, hold_ms=hold_ms)
        wait(run, "HELD", 3)
        begin = mono()
        # What is claimed starts at once: a duplicate that is committed between a claim and its start is one of a run under way.
        run.start("work", batch=1)
        run.start("produce", pause_us=5000, limit_ms=soon_ms)
        ended = wait(run, "END", 1, "key=race-0\n")
        task = int(ended.split("id=")[1].split()[0])
        done = wait_done(db, task)
        time.sleep(1)
        freed = count(run, "FREED")
        run.stop("produce")
        for process in run.processes:
            if process.role == "hold":
                process.wait(30)
        run.drain(workers=1)
        check = run.check(expect={"HELD": 3, "OK": 50})
        run.figure("the task was done while they held, after", ms(done - begin), done - begin < soon_ms * 1000 and not freed,
                   f"<= {soon_ms} ms")
        run.figure(f"others' enqueues that took above {soon_ms} ms", check.n["LATE"], check.n["LATE"] == 0, 0)
        # One for all that were committed since the run before: three that end a moment apart may be two of these.
        starts = sorted(r.mono for r in check.records if r.kind == "START" and r.at["key"] == "race-0")
        freed = [r.mono for r in check.records if r.kind == "FREED"]
        idle = sum(all(f < before for f in freed) for before in starts[:-1])
        run.figure("runs: that one, and one for the duplicates since", len(starts), 2 <= len(starts) <= 4 and not idle, "2 to 4")


def count(run, kind, text=""):
    with open(run.path, encoding="utf-8", errors="replace") as f:
        return [line for line in f if line.startswith(kind + " ") and text in line]


def wait(run, kind, least, text="", limit=20):
    until = time.monotonic() + limit
    while time.monotonic() < until:
        lines = count(run, kind, text)
        if len(lines) >= least:
            return lines[0]
        time.sleep(0.01)
    raise RuntimeError(f"no {kind} came")


def wait_done(db, task, limit=20):
    until = time.monotonic() + limit
    while time.monotonic() < until:
        if db.sql(f"SELECT id FROM nanoq_finished WHERE id = {task}"):
            break
        time.sleep(0.01)
    return mono()
