#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The library by its exported symbols alone, as a binding to another language uses it: ctypes.

A task goes into the caller's own transaction, on a handle of the SQLite or MariaDB client that libnanoq is linked
with. Environment: NANOQ_BUILD, NANOQ_TEST_MYSQL (without which the MySQL part is skipped).
"""
import ctypes as c
import os
import re
import subprocess
import tempfile
import unittest
import urllib.parse

BUILD = os.path.abspath(os.environ.get("NANOQ_BUILD", "build"))
MYSQL = os.environ.get("NANOQ_TEST_MYSQL")
LIB = os.path.join(BUILD, "src", "libnanoq.so")
OK, DUPLICATE, EINVAL, EUNSUPPORTED = 0, 1, -1, -15


class Err(c.Structure):
    _fields_ = [("code", c.c_int), ("db_code", c.c_int), ("sqlstate", c.c_char * 6), ("transaction_lost", c.c_bool),
                ("message", c.c_char * 512)]


class Tx(c.Structure):
    _fields_ = [("conn", c.c_void_p), ("ops", c.c_void_p)]


class Task(c.Structure):
    _fields_ = [("size", c.c_size_t), ("type", c.c_char_p), ("payload", c.c_char_p), ("payload_size", c.c_size_t),
                ("queue", c.c_char_p), ("priority", c.c_int), ("delay_us", c.c_int64), ("run_at_us", c.c_int64),
                ("timeout_us", c.c_int64), ("max_retries", c.c_int), ("unique", c.c_int), ("unique_data", c.c_char_p),
                ("unique_size", c.c_size_t)]


def prototypes(lib, table):
    for name, restype, *argtypes in table:
        getattr(lib, name).restype = restype
        getattr(lib, name).argtypes = argtypes


def client(stem):
    """The very file that libnanoq, or its plug-in, is linked with: another copy could be of another version."""
    libraries = [p for p in (LIB, os.path.join(BUILD, "src", "libnanoq-mysql.so")) if os.path.exists(p)]
    found = re.search(r"%s\.so\S* => (\S+)" % stem, subprocess.run(["ldd", *libraries], check=True, capture_output=True,
                                                                   text=True).stdout)
    if not found:
        raise unittest.SkipTest("libnanoq is not linked with " + stem)
    return c.CDLL(found[1])


class Binding(unittest.TestCase):
    def setUp(self):
        self.lib = c.CDLL(LIB)
        p = c.c_void_p
        prototypes(self.lib, [
            ("nq_open", c.c_int, c.POINTER(p), c.c_char_p, p, c.POINTER(Err)), ("nq_close", None, p),
            ("nq_migrate", c.c_int, p, c.POINTER(Err)),
            ("nq_tx_from_sqlite", c.c_int, c.POINTER(Tx), p, c.c_char_p, c.POINTER(Err)),
            ("nq_tx_from_mysql", c.c_int, c.POINTER(Tx), p, c.c_char_p, c.POINTER(Err)),
            ("nq_enqueue", c.c_int, p, Tx, c.POINTER(Task), c.POINTER(c.c_int64), c.POINTER(Err))])
        self.err = Err()
        self.q = p()
        self.temporary = tempfile.TemporaryDirectory(prefix="nanoq-bindings-")
        self.addCleanup(self.temporary.cleanup)

    def check(self, rc, want=OK):
        self.assertEqual(rc, want, self.err.message)

    def open(self, url):
        self.check(self.lib.nq_open(self.q, url.encode(), None, self.err))
        self.addCleanup(self.lib.nq_close, self.q)
        self.check(self.lib.nq_migrate(self.q, self.err))

    def enqueue(self, tx, payload, want=OK):
        task = Task(size=c.sizeof(Task), type=b"mail", payload=payload, payload_size=len(payload))
        task_id = c.c_int64()
        self.check(self.lib.nq_enqueue(self.q, tx, task, task_id, self.err), want)
        return task_id.value

    def commits_and_rolls_back(self, tx, run, count):
        run("BEGIN")
        self.enqueue(tx, b"1")
        run("ROLLBACK")
        self.assertEqual(count(), 0)
        run("BEGIN")
        first = self.enqueue(tx, b"1")
        self.assertEqual(self.enqueue(tx, b"1", DUPLICATE), first)
        run("COMMIT")
        self.assertEqual(count(), 1)
        self.assertEqual(self.enqueue(Tx(), b"1", DUPLICATE), first)  # a transaction of its own
        self.assertGreater(self.enqueue(Tx(), b"2"), first)

    def test_sqlite(self):
        sqlite = client("libsqlite3")
        p = c.c_void_p
        rows = c.CFUNCTYPE(c.c_int, p, c.c_int, c.POINTER(c.c_char_p), c.POINTER(c.c_char_p))
        prototypes(sqlite, [("sqlite3_open", c.c_int, c.c_char_p, c.POINTER(p)), ("sqlite3_close", c.c_int, p),
                            ("sqlite3_exec", c.c_int, p, c.c_char_p, rows, p, p), ("sqlite3_sourceid", c.c_char_p)])
        path = os.path.join(self.temporary.name, "q.db")
        self.open("sqlite:" + path)
        db, tx, seen = p(), Tx(), []

        @rows
        def row(_arg, _n, values, _names):
            seen.append(values[0])
            return 0

        def run(sql):
            self.assertEqual(sqlite.sqlite3_exec(db, sql.encode(), row, None, None), 0, sql)

        def count():
            seen.clear()
            run("SELECT COUNT(*) FROM nanoq_tasks")
            return int(seen[0])
        self.assertEqual(sqlite.sqlite3_open(path.encode(), db), 0)
        self.addCleanup(sqlite.sqlite3_close, db)
        source = sqlite.sqlite3_sourceid()
        self.check(self.lib.nq_tx_from_sqlite(tx, db, source, self.err))
        self.commits_and_rolls_back(tx, run, count)
        for args, want, says in (((tx, None, source), EINVAL, b"connection is NULL"),
                                 ((tx, db, None), EINVAL, b"client library"),
                                 ((None, db, source), EINVAL, b"place"),
                                 ((tx, db, b"2001-01-01 of another"), EUNSUPPORTED, b"2001-01-01 of another")):
            self.check(self.lib.nq_tx_from_sqlite(*args, self.err), want)
            self.assertIn(says, self.err.message)

    def test_mysql(self):
        if not MYSQL:
            self.skipTest("NANOQ_TEST_MYSQL is not set")
        maria = client("libm(?:ariadb|ysqlclient)")
        p = c.c_void_p
        prototypes(maria, [("mysql_init", p, p), ("mysql_close", None, p), ("mysql_query", c.c_int, p, c.c_char_p),
                           ("mysql_real_connect", p, p, c.c_char_p, c.c_char_p, c.c_char_p, c.c_char_p, c.c_uint,
                            c.c_char_p, c.c_ulong),
                           ("mysql_store_result", p, p), ("mysql_fetch_row", c.POINTER(c.c_char_p), p),
                           ("mysql_free_result", None, p), ("mysql_error", c.c_char_p, p),
                           ("mysql_get_client_info", c.c_char_p)])
        url = urllib.parse.urlparse(MYSQL)
        name = "nanoq_bindings_%d" % os.getpid()
        conn = maria.mysql_init(None)
        self.addCleanup(maria.mysql_close, conn)

        def run(sql):
            self.assertEqual(maria.mysql_query(conn, sql.encode()), 0, maria.mysql_error(conn))

        def count():
            run("SELECT COUNT(*) FROM nanoq_tasks")
            result = maria.mysql_store_result(conn)
            n = int(maria.mysql_fetch_row(result)[0])
            maria.mysql_free_result(result)
            return n
        self.assertTrue(maria.mysql_real_connect(
            conn, url.hostname.encode(), url.username.encode(), urllib.parse.unquote(url.password or "").encode() or None,
            None, url.port or 3306, None, 0), maria.mysql_error(conn))
        run("CREATE DATABASE " + name)
        self.addCleanup(run, "DROP DATABASE " + name)
        run("USE " + name)
        self.open(MYSQL.rstrip("/") + "/" + name)
        tx = Tx()
        self.check(self.lib.nq_tx_from_mysql(tx, conn, maria.mysql_get_client_info(), self.err))
        self.commits_and_rolls_back(tx, run, count)
        self.check(self.lib.nq_tx_from_mysql(tx, conn, b"0.0.1", self.err), EUNSUPPORTED)
        # Of the right client, but not of this queue's kind.
        source = c.CDLL("libsqlite3.so.0").sqlite3_sourceid
        source.restype = c.c_char_p
        self.check(self.lib.nq_tx_from_sqlite(tx, conn, source(), self.err))
        self.enqueue(tx, b"3", EINVAL)


if __name__ == "__main__":
    unittest.main()
