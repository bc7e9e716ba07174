# SPDX-License-Identifier: MIT
"""Schedules while the workers that fire them are killed: each time once, none missing, in order."""
import signal
import time

from rig import SLOW, Run


def schedules(db, figures, seed, names=40, processes=5, kills=30, seconds=20):
    """Plain SQL makes them, every 500 ms; each worker fires, and may die at any moment."""
    every = 500_000
    with Run("schedules", db, figures, seed, lease_ms=3000) as run:
        payload = b"1 d 1 0 0\n".hex()
        rows = ",".join(f"('s{i}', '@every 500ms', 'fault', x'{payload}', 2, 1)" for i in range(names))
        db.sql(f"INSERT INTO nanoq_schedules (name, spec, type, payload, misfire, overlap) VALUES {rows}")
        workers = [run.start("work", concurrency=4, keep=0) for _ in range(processes)]
        begin = time.monotonic()
        for i in range(kills):
            time.sleep(max(0.0, begin + (i + run.random.random()) * seconds / kills - time.monotonic()))
            k = run.random.randrange(len(workers))
            run.signal(workers[k], signal.SIGKILL)
            workers[k] = run.start("work", concurrency=4, keep=0)
        time.sleep(2)
        run.stop("work")
        us = "TIMESTAMPDIFF(MICROSECOND, '1970-01-01', due_at)" if db.mysql else "due_at"
        fired = [(name, int(due), int(task or 0)) for name, due, task in
                 db.sql(f"SELECT name, {us}, COALESCE(task_id, 0) FROM nanoq_firings ORDER BY name, due_at")]
        missing = disorder = 0
        for (name, due, task), (later_name, later_due, later_task) in zip(fired, fired[1:]):
            if name == later_name:
                missing += later_due != due + every
                disorder += later_task < task
        tasks = [task for _, _, task in fired]
        least = names * seconds * 1_000_000 // every * (1 if SLOW else 8) // 10
        run.figure("times that came", len(fired), len(fired) >= least, f">= {least}")
        run.figure("times without a task, tasks of two times", len(tasks) - len(set(tasks) - {0}), len(tasks) == len(set(tasks) - {0}), 0)
        run.figure("times missing", missing, missing == 0, 0)
        run.figure("times out of order", disorder, disorder == 0, 0)
