# SPDX-License-Identifier: MIT
"""Handlers in children, each with an effect in the transaction that completes its task, and a third of them with one more task,
while children and workers are killed, or frozen for a moment."""
import signal
import time

from rig import Run, children, send

WAIT = 90


def descendants(pid):
    """The zygote of a worker and its children."""
    return [one for child in children(pid) for one in (child, *descendants(child))]


def kill_one(run, workers):
    """A worker, or something below it; what died is started anew."""
    i = run.random.randrange(len(workers))
    below = descendants(workers[i].pid)
    if below and run.random.random() < 0.7:
        send(run.random.choice(below), signal.SIGKILL)
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
    run.freeze(run.random.choice([worker.pid, *descendants(worker.pid)]))


def effects(db, figures, seed, faults=100, kill=True):
    """No effect without its task's end, none twice, and no task left. Frozen they are beside tasks that are late; and no worker ends."""
    with Run("effects" if kill else "effects, frozen", db, figures, seed, late=int(not kill)) as run:
        db.sql("CREATE TABLE effects (task BIGINT, more_of BIGINT)")
        workers, added = [run.start("effect") for _ in range(3)], 0
        for _ in range(faults):
            db.sql("INSERT INTO nanoq_tasks (type, payload, timeout_ms) VALUES " +
                   ", ".join(f"('t', '{added + n}', {60000 if kill else 1000})" for n in range(20)))
            added += 20
            time.sleep(0.3 * run.random.random())
            (kill_one if kill else freeze_one)(run, workers)
        if not kill:
            ended = sum(worker.poll() is not None for worker in workers)
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
            run.none(what, query)
        run.whole()
