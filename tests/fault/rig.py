# SPDX-License-Identifier: MIT
"""One fault run: a fresh database with its audit, the workload's processes, the faults, and the verdict."""
import os
import random
import signal
import shutil
import subprocess
import time

import audit
import database
import history

BUILD = os.path.join(os.environ.get("NANOQ_BUILD", "build-test"), "tests", "fault")  # where the programs are
FAULT_KINDS = {signal.SIGKILL: "KILL", signal.SIGSTOP: "STOP", signal.SIGCONT: "CONT", signal.SIGTERM: "TERM"}


def mono():
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000


# Under a sanitizer, say: less must have happened for a run to count.
SLOW = bool(os.environ.get("NANOQ_FAULT_SLOW"))


class Figures:
    """The table at the end. A figure has a limit that it must keep."""

    def __init__(self):
        self.rows = []

    def add(self, run, store, what, value, good, must):
        self.rows.append((run, store, what, str(value), must, good))
        print(f"  {what}: {value} ({'ok' if good else 'FAILED'}, must be {must})", flush=True)

    def table(self):
        widths = [max(len(str(r[i])) for r in self.rows) for i in range(5)] if self.rows else [0] * 5
        for row in self.rows:
            cells = " | ".join(str(cell).ljust(width) for cell, width in zip(row, widths))
            print(f"| {cells} | {'ok' if row[5] else 'FAILED'} |")
        bad = sum(not row[5] for row in self.rows)
        print(f"{len(self.rows) - bad} passed, {bad} failed")
        return 1 if bad or not self.rows else 0


class Run:
    """The processes of a run. Use it as a context: all of them are gone at its end."""

    def __init__(self, name, db, figures, seed, load="load", home=None, **common):
        self.name, self.db, self.figures, self.seed, self.load = name, db, figures, seed, os.path.join(BUILD, load)
        self.random = random.Random(seed)
        self.common = common
        self.nodes = [db]  # where its workers may be
        self.processes = []
        self.env = {}
        db.fresh()
        self.path = os.path.join(home or db.dir, f"history-{name}-{db.kind}")
        if os.path.exists(self.path):
            os.unlink(self.path)
        self.fd = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        print(f"{name} on {db.kind}, seed {seed}", flush=True)
        subprocess.run([self.load, "migrate", "url=" + db.url()], check=True)
        db.sql(audit.sql(db.mysql, triggers=not hasattr(db, "audited")))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.wait()
        os.close(self.fd)

    def note(self, kind, text="-", at=None):
        real = time.clock_gettime_ns(time.CLOCK_REALTIME) // 1000
        os.write(self.fd, f"{kind} {os.getpid()} {at or mono()} {real} {text}\n".encode())

    def start(self, role, url=None, env=None, **options):
        keep = self.random.randrange(2)  # some keep what is done, some delete it: two ways to complete
        options = {"keep": keep, **self.common, "seed": self.random.randrange(1 << 62), **options}
        words = [f"{name}={value}" for name, value in options.items()]
        process = subprocess.Popen([self.load, role, "url=" + (url or self.db.url()), "history=" + self.path, *words],
                                   env={**os.environ, **self.env, **(env or {})}, stdin=subprocess.DEVNULL)
        process.role = role
        self.processes.append(process)
        return process

    def signal(self, process, number):
        """Send it and write it down; the time is that before."""
        at = mono()
        process.send_signal(number)
        self.note(FAULT_KINDS[number], f"pid={process.pid}", at)
        if number == signal.SIGKILL:
            process.wait()

    def stop(self, role, limit=60):
        """In order, as a service manager would; answers how long the slowest took."""
        slowest = 0
        live = [p for p in self.processes if p.role == role and p.poll() is None]
        begin = time.monotonic()
        for process in live:
            self.signal(process, signal.SIGTERM)
        for process in live:
            try:
                process.wait(limit)
            except subprocess.TimeoutExpired:
                self.note("STUCK", f"pid={process.pid}")
                process.kill()
                process.wait()
            slowest = max(slowest, time.monotonic() - begin)
        return slowest

    def drain(self, limit=60, workers=2, **options):
        """Let fresh workers run all that is left; False when something stays."""
        fresh = [self.start("work", **options) for _ in range(workers)]
        until = time.monotonic() + limit
        left = "SELECT (SELECT COUNT(*) FROM nanoq_tasks) + (SELECT COUNT(*) FROM nanoq_followups)"
        while int(self.db.sql(left)[0][0]) and time.monotonic() < until:
            time.sleep(0.1)
        self.stop("work")
        return all(p.returncode is not None for p in fresh)

    def check(self, **options):
        """Read everything back and judge it; a Check."""
        with open(self.path, encoding="utf-8", errors="replace") as f:
            records = history.parse(f.read())
        found = database.read(self.db)
        check = history.Check(records, *found, exact_at=self.db.mysql and not hasattr(self.db, "audited"),
                              **options)
        print("\n".join(history.report(check, self.seed)), flush=True)
        self.figure("violations of the invariants", sum(check.seen.values()), not check.seen, 0)
        if os.environ.get("NANOQ_KEEP"):  # a directory for the histories, and what they are compared with
            shutil.copy(self.path, os.environ["NANOQ_KEEP"])
            with open(os.path.join(os.environ["NANOQ_KEEP"], os.path.basename(self.path) + ".tables"), "w", encoding="utf-8") as f:
                f.writelines(f"{row}\n" for part in found for row in part)
        return check

    def figure(self, what, value, good, must):
        self.figures.add(self.name, self.db.kind, what, value, good, must)

    def none(self, what, query):
        """A figure: how many the query counts, which must be none."""
        n = int(self.db.sql(query)[0][0])
        self.figure(what, n, n == 0, 0)

    def whole(self, what="the database"):
        """A figure: what the database finds wrong with itself."""
        said = self.db.check()
        self.figure(what, said, said == "ok", "ok")

    def freeze(self, pid):
        """For a moment."""
        send(pid, signal.SIGSTOP)
        time.sleep(0.4 * self.random.random())
        send(pid, signal.SIGCONT)

    def log_lines(self, least=3):
        with open(self.path, encoding="utf-8", errors="replace") as f:
            return [line for line in f if line.startswith("LOG") and f"level={least}" in line]


def children(pid):
    """Of each thread: the threads of a worker start them."""
    out = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children", encoding="ascii") as f:
                out += [int(word) for word in f.read().split()]
    except (FileNotFoundError, ProcessLookupError):
        pass
    return out


def send(pid, number):
    """To one that may have ended meanwhile."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def percentile(values, share):
    values = sorted(values)
    return values[min(len(values) - 1, int(len(values) * share))] if values else 0


def ms(us):
    return f"{us / 1000:.0f} ms"
