# SPDX-License-Identifier: MIT
"""The database goes away: killed, cut off, out of disk space."""
import os
import subprocess
import tempfile
import time

import database
from proxy import Proxy
from rig import Run, mono, ms


def first_after(run, at_us, kind="START"):
    """When the first such record stands after a moment."""
    with open(run.path, encoding="utf-8", errors="replace") as f:
        for line in f:
            words = line.split(" ", 3)
            if words[0] == kind and int(words[2]) >= at_us:
                return int(words[2])
    return None


def wait_first(run, at_us, limit=20):
    until = time.monotonic() + limit
    while time.monotonic() < until:
        at = first_after(run, at_us)
        if at:
            return at
        time.sleep(0.02)
    return at_us + int(limit * 1e6)


def kill_server(db, figures, seed, kills=4):
    """kill -9 of the server under load."""
    with Run("server killed", db, figures, seed, lease_ms=5000, work_ms=30) as run:
        run.note("EXCUSE", "the server is away: locks and beats are")
        for _ in range(3):
            run.start("work")
        for _ in range(6):
            run.start("produce", pause_us=4000)
        slowest = 0
        for _ in range(kills):
            time.sleep(1 + run.random.random())
            at = mono()
            db.kill()
            run.note("SERVERKILL", "-", at)
            time.sleep(run.random.choice([0, 0.5, 3]))
            db.start()
            ready = mono()
            run.start("work")  # it has never seen the others alive, and they have only just lost their locks
            slowest = max(slowest, wait_first(run, ready) - ready)
        time.sleep(2)
        run.stop("produce")
        run.drain(workers=1)
        check = run.check(expect={"SERVERKILL": kills, "OK": 100, "UNKNOWN": 1, "FAIL": 1})
        run.figure("acknowledged and lost", check.seen["lost"], check.seen["lost"] == 0, 0)
        run.figure("commits reported as failed that took effect", check.seen["failed, yet there"],
                   check.seen["failed, yet there"] == 0, 0)
        run.figure("commits reported as unknown", check.n["UNKNOWN"], check.n["UNKNOWN"] > 0, "> 0")
        run.figure("work again after the server was ready, slowest", ms(slowest), slowest <= 1_000_000, "<= 1 s")
        run.figure("live workers taken for dead", check.n["DECLARED"], check.n["DECLARED"] == 0, 0)
        run.whole("the tables")


def network(db, figures, seed, seconds=6):
    """A bad network between all and the server. Every call comes back within its limit and a second."""
    limit_s = 2
    with Run("network", db, figures, seed, lease_ms=5000, work_ms=10, limit_ms=0) as run:
        proxy = Proxy(db.port)
        url = db.url(proxy.port) + f"?connect_timeout={limit_s}s&read_timeout={limit_s}s&write_timeout={limit_s}s"
        run.note("EXCUSE", "the network is cut: locks and beats are")
        try:
            modes = ["cut now", "hole", "pass", "half", "pass", "delay", "pass", "trickle", "pass", "cut", "pass"]
            for _ in range(2):
                run.start("work", url=url)
            for _ in range(4):
                run.start("produce", url=url, pause_us=20000, limit_ms=100000, tx_timeout=limit_s)
            time.sleep(1)
            for mode in modes:
                run.note("MODE", f"mode={mode.replace(' ', '-')}")
                if mode == "cut now":
                    for _ in range(10):
                        proxy.cut()
                        time.sleep(run.random.random() * 0.3)
                    continue
                if mode == "cut":
                    proxy.cut()
                proxy.mode = mode
                time.sleep(seconds if mode != "pass" else 2)
            for _ in range(proxy.cuts):
                run.note("CUT")
            proxy.mode = "pass"
            run.stop("produce")
            run.drain(workers=1)
            check = run.check(expect={"CUT": 10, "OK": 50, "UNKNOWN": 1, "FAIL": 1})
        finally:
            proxy.close()
        took = [r for r in check.records if r.kind in ("TOOK", "LATE")]
        run.figure("calls with an answer", len(took), len(took) > 100, "> 100")
        for what, ours, times in (("slowest call", False, 1), ("slowest in the caller's transaction: two connections", True, 2)):
            slowest = max((r.at["ms"] for r in took if (r.at["op"] == "tx") == ours), default=0)
            run.figure(what, f"{slowest} ms", slowest <= 1000 * (times * limit_s + 1), f"<= {times} x {limit_s} s + 1 s")


def killed(db):
    return int(db.sql("SHOW GLOBAL STATUS LIKE 'Com_kill'")[0][1])


def sessions(db, figures, seed, seconds=20, what="QUERY"):
    """An administrator kills statements, or connections, at random: whatever ran there is tried again. MariaDB may never
    answer the rest of a query of several statements, of which one was killed: that costs the read timeout."""
    pick = "SELECT id FROM information_schema.processlist WHERE db = DATABASE() AND id <> CONNECTION_ID()"
    if what == "QUERY":
        pick += " AND command IN ('Query', 'Prepare', 'Execute')"
    kill = f"SET @id = ({pick} ORDER BY RAND() LIMIT 1); EXECUTE IMMEDIATE CONCAT('KILL {what} ', @id);\n"
    # A trigger whose table was being opened stays broken in MariaDB until that is closed; only the audit has any.
    flush = "FLUSH TABLES nanoq_tasks, nanoq_finished, nanoq_results, nanoq_workers"
    with Run(f"{what.lower()} killed", db, figures, seed, lease_ms=10000, work_ms=2, limit_ms=0) as run:
        if what != "QUERY":
            run.note("EXCUSE", "the connections of locks and beats are killed")
        url = db.url() + "?read_timeout=2s"
        begin, before = mono(), killed(db)
        for _ in range(3):
            run.start("work", url=url, concurrency=4)
        for _ in range(4):
            run.start("produce", url=url, pause_us=4000, limit_ms=100000)
        with subprocess.Popen(db.client("--force", db.name), stdin=subprocess.PIPE, stderr=subprocess.DEVNULL) as client:
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                client.stdin.write((kill * 2 + (flush + ";\n" if run.random.random() < 0.02 else "")).encode())
                client.stdin.flush()
                time.sleep(0.02 * run.random.random())
            # The lock waits for who was killed as it opened them, and would break them after a plain FLUSH.
            client.stdin.write(f"{flush} WITH READ LOCK; UNLOCK TABLES;\n".encode())
            client.stdin.close()
        end = mono()
        run.stop("produce")
        run.drain(workers=1)
        check = run.check(expect={"OK": 50 * seconds})
        took = [r for r in check.records if r.kind in ("TOOK", "LATE")]
        slowest = max((r.at["ms"] for r in took), default=0)
        run.figure("slowest enqueue", f"{slowest} ms", slowest <= 5000, "<= 5 s")
        ends = sorted(r.mono for r in check.records if r.kind == "END" and begin <= r.mono <= end)
        pause = max((b - a for a, b in zip([begin, *ends], [*ends, end])), default=0)
        run.figure("longest pause of all workers", ms(pause), pause <= 6_000_000, "<= 6 s")
        kills = killed(db) - before
        run.figure("kills", kills, kills > 10 * seconds, f"> {10 * seconds}")
        run.whole("the tables")


class SmallDisk:
    """A file system of a few megabytes."""

    def __init__(self, top, megabytes):
        self.path = os.path.join(top, "small")
        os.mkdir(self.path, 0o700)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=0700", "tmpfs", self.path], check=True)

    def fill(self):
        """Leave nothing."""
        with open(os.path.join(self.path, "filler"), "ab", buffering=0) as f:
            for size in (1 << 20, 1 << 12, 1):
                try:
                    while True:
                        f.write(b"\0" * size)
                        if size == 1:
                            break
                except OSError:
                    pass

    def room(self):
        os.unlink(os.path.join(self.path, "filler"))

    def close(self):
        subprocess.run(["umount", "-l", self.path], check=False)
        os.rmdir(self.path)


def disk_full(db, figures, seed, times=3):
    """The disk is full for some seconds, and then is not."""
    with tempfile.TemporaryDirectory(prefix="nanoq-disk-") as top:
        try:
            disk = SmallDisk(top, 200 if db.mysql else 120)
        except (OSError, subprocess.CalledProcessError) as e:
            return print(f"disk full on {db.kind}: left out, a small file system cannot be mounted: {e}")
        own = None
        try:
            if db.mysql:
                own = database.MariaDB(top, os.path.join(disk.path, "data"))
            else:
                own = database.SQLite(disk.path)
            disk_run(own, disk, figures, seed, times)
        finally:
            if own:
                own.stop()
            disk.close()


def disk_run(db, disk, figures, seed, times):
    # The history must not be lost to the full disk.
    with tempfile.TemporaryDirectory(prefix="nanoq-disk-history-") as home, \
            Run("disk full", db, figures, seed, home=home, lease_ms=5000, work_ms=10) as run:
        run.note("EXCUSE", "beats cannot be written")
        run.start("work")
        for _ in range(3):
            run.start("produce", pause_us=10000)
        slowest = 0
        for _ in range(times):
            time.sleep(1)
            disk.fill()
            run.note("FULL")
            time.sleep(4)
            disk.room()
            room = mono()
            slowest = max(slowest, wait_first(run, room) - room)
        time.sleep(1)
        run.stop("produce")
        run.drain(workers=1)
        check = run.check(expect={"FULL": times, "FAIL": 1, "OK": 50})
        run.figure("acknowledged and lost", check.seen["lost"], check.seen["lost"] == 0, 0)
        run.whole("integrity")
        run.figure("work again by itself when there was room, slowest", ms(slowest), slowest < 6_000_000, "<= 6 s")
