# SPDX-License-Identifier: MIT
"""The databases that are broken: a private MariaDB server that can be killed, and a SQLite file."""
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import time

import audit

os.environ["PATH"] += ":/usr/sbin:/usr/local/sbin"
ROOT = ["--user=root"] if os.getuid() == 0 else []


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class MariaDB:
    """A server of its own on loopback, with its data in a directory that is ours."""
    kind = "mariadb"
    mysql = True

    def __init__(self, directory, datadir=None, preload=None, options=()):
        self.dir = directory
        self.data = datadir or os.path.join(directory, "data")
        self.socket = os.path.join(directory, "s")
        self.port = free_port()
        self.preload = preload or {}
        self.options = list(options)
        self.process = None
        self.name = None
        self.databases = 0
        with open(os.path.join(directory, "install.log"), "wb") as log:
            subprocess.run(["mariadb-install-db", "--no-defaults", "--datadir=" + self.data, "--skip-test-db",
                            "--auth-root-authentication-method=normal", *ROOT], check=True, stdout=log, stderr=log)
        self.start()

    def start(self, wait=60):
        log = open(os.path.join(self.dir, "log"), "ab")
        self.process = subprocess.Popen(
            ["mariadbd", "--no-defaults", *ROOT, "--datadir=" + self.data, "--socket=" + self.socket,
             f"--port={self.port}", "--bind-address=127.0.0.1", "--pid-file=" + os.path.join(self.dir, "pid"),
             "--tmpdir=" + self.dir, "--innodb-buffer-pool-size=64M", "--innodb-log-file-size=16M",
             "--performance-schema=OFF", "--skip-name-resolve", "--character-set-server=utf8mb4",
             "--max-connections=300", *self.options],
            stdout=log, stderr=log, stdin=subprocess.DEVNULL, env={**os.environ, **self.preload})
        log.close()
        if wait:
            self.wait_ready(wait)

    def wait_ready(self, limit=60):
        until = time.monotonic() + limit
        while subprocess.run(self.client("-e", "DO 0"), capture_output=True).returncode != 0:
            if self.process.poll() is not None or time.monotonic() > until:
                with open(os.path.join(self.dir, "log"), encoding="utf-8", errors="replace") as log:
                    raise RuntimeError("the server did not start:\n" + log.read()[-2000:])
            time.sleep(0.01)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.kill()

    def client(self, *more):
        return ["mariadb", "--no-defaults", "--user=root", "--socket=" + self.socket, "--connect-timeout=5",
                "-BN", *more]

    def fresh(self):
        """A new database of its own; one run each."""
        self.databases += 1
        self.name = f"fault{self.databases}"
        subprocess.run(self.client("-e", f"CREATE DATABASE {self.name}"), check=True)

    def url(self, port=None):
        return f"mysql://root@127.0.0.1:{port or self.port}/{self.name}"

    def sql(self, text):
        done = subprocess.run(self.client(self.name), input=text.encode(), capture_output=True, timeout=120)
        if done.returncode:
            raise RuntimeError(done.stderr.decode(errors="replace"))
        return [line.split("\t") for line in done.stdout.decode(errors="replace").splitlines()]

    def check(self):
        """Is the database whole?"""
        bad = [r for r in self.sql("CHECK TABLE nanoq_tasks, nanoq_finished, nanoq_followups, nanoq_workers")
               if r[2] == "status" and r[3] != "OK" or r[2] == "error"]
        return "ok" if not bad else str(bad)


class SQLite:
    kind = "sqlite"
    mysql = False
    process = None

    def __init__(self, directory):
        self.dir = directory
        self.n = 0
        self.path = None

    def fresh(self):
        self.n += 1
        self.path = os.path.join(self.dir, f"fault{self.n}.db")

    def url(self, port=None):
        assert port is None
        return "sqlite:" + self.path

    def sql(self, text):
        db = sqlite3.connect(self.path, timeout=30, isolation_level=None)
        try:
            if text.lstrip().upper().startswith(("SELECT", "PRAGMA")):
                return db.execute(text).fetchall()
            db.executescript(text)
            return []
        finally:
            db.close()

    def check(self):
        return self.sql("PRAGMA integrity_check")[0][0]

    def stop(self):
        pass


def remove(directory):
    shutil.rmtree(directory, ignore_errors=True)


def read(db):
    """(audit, live tasks, finished tasks, keys of the producers' own rows). A database may have an audit of its own, without triggers."""
    audited = db.audited() if hasattr(db, "audited") else audit.rows(db.sql(audit.SELECT), audit.FIELDS)
    return (audited, audit.rows(db.sql(audit.LIVE), audit.ROW),
            audit.rows(db.sql(audit.FINISHED), audit.ROW), {r[0] for r in db.sql("SELECT k FROM fault_orders")})


def results(db):
    """{task: the bytes that it left}"""
    return {int(task): bytes.fromhex(text) for task, text in db.sql(audit.RESULTS)}
