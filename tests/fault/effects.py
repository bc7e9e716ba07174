# SPDX-License-Identifier: MIT
"""Handlers in children, each with an effect in the transaction that completes its task, and a third of them with one more task,
while children and workers are killed, or frozen for a moment."""
import os
import signal
import time

from rig import Run

WAIT = 90


def descendants(pid):
    """The zygote of a worker and its children."""
    try:
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as f:
            children = [int(word) for word in f.read().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []
    return [one for child in children for one in (child, *descendants(child))]


def kill_one(run, workers):
    """A worker, or something below it; what died is started anew."""
    i = run.random.randrange(len(workers))
    below = descendants(workers[i].pid)
    if below and run.random.random() < 0.7:
        try:
            os.kill(run.random.choice(below), signal.SIGKILL)
        except ProcessLookupError:
            pass
    else:
        workers[i].kill()
        workers[i].wait()
    revive(run, workers)


def revive(run, workers):
    """In place of those that have ended: one whose zygote was killed does so by itself."""
    for n, worker in enumerate(workers):
        if worker.poll() is not None:
            workers[n] = run.start("effect")


def freeze_one(run, workers):
    """A worker, its zygote or a child: so what they tell each other crosses."""
    worker = run.random.choice(workers)
    pid = run.random.choice([worker.pid, *descendants(worker.pid)])
    try:
        os.kill(pid, signal.SIGSTOP)
        time.sleep(0.4 * run.random.random())
        os.kill(pid, signal.SIGCONT)
    except ProcessLookupError:
        pass


def effects(db, figures, seed, kills=100, freezes=0):
    """No effect without its task's end, none twice, and no task left. Frozen they are beside tasks that are late; and no worker ends."""
    with Run("effects, frozen" if freezes else "effects", db, figures, seed, late=int(freezes > 0)) as run:
        db.sql("CREATE TABLE effects (task BIGINT, more_of BIGINT)")
        workers, added = [run.start("effect") for _ in range(3)], 0
        for _ in range(freezes or kills):
            db.sql("INSERT INTO nanoq_tasks (type, payload, timeout_ms) VALUES " +
                   ", ".join(f"('t', '{added + n}', {1000 if freezes else 60000})" for n in range(20)))
            added += 20
            time.sleep(0.3 * run.random.random())
            (freeze_one if freezes else kill_one)(run, workers)
        ended = sum(worker.poll() is not None for worker in workers)
        if freezes:
            run.figure("workers that ended", ended, ended == 0, 0)
        until = time.monotonic() + WAIT
        while int(db.sql("SELECT COUNT(*) FROM nanoq_tasks")[0][0]) and time.monotonic() < until:
            time.sleep(0.1)
            revive(run, workers)
        first, more = "FROM effects WHERE more_of IS NULL", "FROM effects WHERE more_of IS NOT NULL"
        for what, query in (("tasks left", "SELECT COUNT(*) FROM nanoq_tasks"), ("tasks dead", "SELECT COUNT(*) FROM nanoq_finished"),
                            (f"tasks of {added} without their effect", f"SELECT {added} - COUNT(DISTINCT task) {first}"),
                            ("third tasks without their other task", f"SELECT (SELECT COUNT(DISTINCT task) {first} AND task % 3 = 0) - "
                                                                     f"COUNT(DISTINCT more_of) {more}"),
                            ("effects twice", "SELECT COUNT(*) - COUNT(DISTINCT task) FROM effects"),
                            ("other tasks twice", f"SELECT COUNT(*) - COUNT(DISTINCT more_of) {more}")):
            n = int(db.sql(query)[0][0])
            run.figure(what, n, n == 0, 0)
        whole = db.check()
        run.figure("the database", whole, whole == "ok", "ok")
