# SPDX-License-Identifier: MIT
"""`nanoq work`, by a process for each task and by children that stay, while workers, keepers, commands and children are killed
or frozen. What they did stands in a journal: a task runs in one process at a time, and one that ended well does not run again."""
import os
import signal
import subprocess
import time
from collections import Counter

import rig
from rig import Run, children, send

JOBS, WAIT = 4, 90
COMMAND = """echo "begin $NANOQ_ID $$" >> "$JOURNAL"
sleep 0.0$((NANOQ_ID % 10))
echo $NANOQ_ID
echo "end $NANOQ_ID $$" >> "$JOURNAL"
"""
CHILD = """
import json, os, sys, time
def write(word, task):
    with open(os.environ["JOURNAL"], "a") as f:
        f.write("%s %d %d\\n" % (word, task, os.getpid()))
for line in sys.stdin:
    task = json.loads(line)["id"]
    write("begin", task)
    time.sleep(task % 10 / 100)
    write("end", task)
    print(json.dumps({"done": task, "result": task}), flush=True)
    if task % 7 == 0:
        break  # it costs the next task nothing
"""


def runs_of(journal):
    """({task: how many of its runs ended}, those that began while another run of their task went on, which then ended). What was
    killed has no end: it is at nothing any more, while it may still be there for a moment."""
    ends, open_runs, inside = Counter(), {}, []
    for word, task, pid in (line.split() for line in journal):
        task, others = int(task), open_runs.setdefault(int(task), {})
        if word == "begin":
            for began_inside in others.values():
                began_inside.append(pid)
            others[pid] = []
        else:
            ends[task] += 1
            inside += [(task, other) for other in others.pop(pid)]
    return ends, inside


class Tool(Run):
    """Its workers are those of `nanoq work`."""

    def begin(self):
        self.journal = self.path + ".journal"
        for name, text in (("command", COMMAND), ("child", CHILD)):
            with open(f"{self.path}.{name}", "w", encoding="utf-8") as f:
                f.write(text)
        with open(self.journal, "w", encoding="utf-8"):
            pass
        self.workers = [self.work(stream) for stream in (False, False, True, True)]

    def work(self, stream):
        what = ["--stream", "--", "python3", self.path + ".child"] if stream else ["--result", "--", "sh", self.path + ".command"]
        process = subprocess.Popen([os.path.join(rig.BUILD, "nanoq"), "work", "--quiet", "-j", str(JOBS), "--keep-done", "forever",
                                    "--cpu", "60s", "--max-crashes", "50", *what],
                                   env={**os.environ, "NANOQ_DB": self.db.url(), "JOURNAL": self.journal},
                                   stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        process.role, process.stream = "tool", stream
        self.processes.append(process)
        return process

    def below(self, worker):
        """(its keepers, what those keep)"""
        keepers = children(worker.pid)
        return keepers, [command for keeper in keepers for command in children(keeper)]

    def again(self, i):
        self.workers[i] = self.work(self.workers[i].stream)


def kill_one(run, i):
    """A worker, a keeper or a command; answers how many tasks may run again for it."""
    keepers, commands = run.below(run.workers[i])
    some = run.random.choice(([], keepers, commands))
    if some:
        send(run.random.choice(some), signal.SIGKILL)
        return 1
    run.workers[i].kill()
    run.workers[i].communicate()
    run.again(i)
    return JOBS


def freeze_one(run, i):
    """A worker, a keeper or a command for a moment, or a worker is replaced as by a deploy. No task runs again for that."""
    keepers, commands = run.below(run.workers[i])
    some = run.random.choice(([run.workers[i].pid], keepers, commands, []))
    if some:
        run.freeze(run.random.choice(some))
    elif run.random.random() < 0.2:
        stop(run, [run.workers[i]], quiet=True)
        run.again(i)
    return 0


def stop(run, workers, quiet):
    """They end well; quiet: and had nothing to complain of."""
    for worker in workers:
        worker.terminate()
        told = worker.communicate(timeout=WAIT)[1].decode(errors="replace")
        if worker.returncode or (quiet and told):
            run.figure("a worker that was told to stop", f"{worker.returncode}: {told[:1000]}", False, "0: ")


def tool(db, figures, seed, faults=150, kill=True):
    """Nothing lost, nothing twice at once, nothing that ended well again; and what each said is its own."""
    with Tool("tool" if kill else "tool, frozen", db, figures, seed) as run:
        run.begin()
        added, may = 0, 0
        for _ in range(faults):
            db.sql("INSERT INTO nanoq_tasks (type, payload, max_retries) VALUES " +
                   ", ".join(f"('t', '{added + n}', 50)" for n in range(12)))
            added += 12
            time.sleep(0.3 * run.random.random())
            may += (kill_one if kill else freeze_one)(run, run.random.randrange(len(run.workers)))
        until, due = time.monotonic() + WAIT, "UTC_TIMESTAMP(6)" if db.mysql else "10000000000000"  # no waiting for retries
        while int(db.sql("SELECT COUNT(*) FROM nanoq_tasks")[0][0]) and time.monotonic() < until:
            db.sql(f"UPDATE nanoq_tasks SET run_at = {due} WHERE state = 0")
            time.sleep(0.3)
        judge(run, added, may)
        stop(run, run.workers, quiet=not kill)


def judge(run, added, may):
    with open(run.journal, encoding="ascii") as f:
        ends, beside = runs_of(f)
    again = sum(n - 1 for n in ends.values())
    run.figure(f"tasks of {added} that never ended", added - len(ends), len(ends) == added, 0)
    run.figure("tasks that ran in two processes at once", len(beside), not beside, 0)
    run.figure("tasks that had ended well and ran again", again, again <= may, f"<= {may}: those that were struck")
    result = "CAST(r.result AS CHAR)" if run.db.mysql else "CAST(r.result AS TEXT)"
    for what, query in (("tasks left", "SELECT COUNT(*) FROM nanoq_tasks"),
                        ("tasks not done", "SELECT COUNT(*) FROM nanoq_finished WHERE state <> 2"),
                        ("tasks done twice", "SELECT COUNT(*) - COUNT(DISTINCT id) FROM fault_audit WHERE what = 'done'"),
                        ("results that are not the task's", f"SELECT {added} - COUNT(*) FROM nanoq_finished f JOIN nanoq_results r ON "
                                                            f"r.task_id = f.id AND TRIM({result}) = f.id")):
        run.none(what, query)
    if not may:
        run.none("tasks with an attempt that failed", "SELECT COUNT(*) FROM nanoq_finished WHERE attempts <> 0 OR crashes <> 0")
    run.whole()
