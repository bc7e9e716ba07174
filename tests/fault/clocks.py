# SPDX-License-Identifier: MIT
"""Wrong clocks: of clients, of the server, in other time zones, stepped while all runs."""
import os
import struct
import tempfile
import time

import database
import rig
from rig import Run

ZONES = ["America/New_York", "Pacific/Kiritimati", "Asia/Kolkata", "UTC", "EST5EDT,M3.2.0,M11.1.0"]


class Clock:
    """A wall clock that is wrong by so many seconds for those who are started with env."""

    def __init__(self, directory, name, seconds=0):
        self.path = os.path.join(directory, "clock-" + name)
        self.env = {"LD_PRELOAD": os.path.join(rig.BUILD, "wrong_clock.so"), "FAULT_CLOCK": self.path}
        with open(self.path, "wb") as f:
            f.write(struct.pack("q", seconds))

    def set(self, seconds):
        with open(self.path, "r+b") as f:
            f.write(struct.pack("q", seconds))


def clients(db, figures, seed, seconds=10):
    """Clients that are an hour early or late, in several time zones. SQLite's clock is the client's: see steps."""
    with tempfile.TemporaryDirectory(prefix="nanoq-clock-") as top, \
            Run("clients' clocks", db, figures, seed, lease_ms=3000, work_ms=20) as run:
        for i, offset in enumerate((3600, -3600, 0)):
            env = {**Clock(top, str(i), offset).env, "TZ": ZONES[i]}
            run.note("STEP", f"by={offset}")
            run.start("work", env=env)
            run.start("produce", env=env, pause_us=15000)
        time.sleep(seconds)
        run.stop("produce")
        run.drain(workers=1)
        judge(run, {"STEP": 3, "OK": 50, "retries": 10, "snoozes": 5}, one_clock=False)


def steps(db, figures, seed, seconds=2):
    """The database's own clock is stepped, by hours, over the changes of summer time, and a little."""
    with tempfile.TemporaryDirectory(prefix="nanoq-clock-") as top:
        clock = Clock(top, "database")
        if db.mysql:
            db = database.MariaDB(top, preload={**clock.env, "TZ": "America/New_York"})
        else:
            db = database.SQLite(top)
        try:
            with Run("the database's clock", db, figures, seed, lease_ms=3000, work_ms=20) as run:
                if not db.mysql:
                    run.env = {**clock.env, "TZ": "America/New_York"}
                for _ in range(3):
                    run.start("work")
                run.start("produce", pause_us=15000)
                time.sleep(1)
                now = int(time.time())
                # Over both changes of summer time in New York (2027-03-14 and 2026-11-01), and back.
                for offset in (3600, -3600, 0, 1, -1, 1805007595 - now, 1793512795 - now, 0):
                    clock.set(offset)
                    run.note("STEP", f"by={offset}")
                    time.sleep(seconds)
                clock.set(0)
                db.sql("UPDATE nanoq_tasks SET run_at = " + ("UTC_TIMESTAMP(6)" if db.mysql else "10000000000000") + " WHERE state = 0")
                run.stop("produce")
                run.drain(workers=1)
                judge(run, {"STEP": 8, "OK": 50, "retries": 10, "snoozes": 5}, steady_clock=False)
        finally:
            db.stop()


def judge(run, expect, **options):
    check = run.check(expect=expect, lease_us=3_000_000, **options)
    run.figure("run early", check.seen["early"], check.seen["early"] == 0, 0)
    run.figure("reclaimed from the living", check.n["crashes"], check.n["crashes"] == 0, 0)
    run.figure("workers declared dead", check.n["DECLARED"], check.n["DECLARED"] == 0, 0)
