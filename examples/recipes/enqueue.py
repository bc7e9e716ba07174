#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Tasks from Python: enqueue.py sqlite FILE | pymysql HOST PORT USER DATABASE | MySQLdb HOST PORT USER DATABASE"""
import importlib
import os
import sqlite3
import sys

DUPLICATE = 1062  # MySQL's and MariaDB's number for a unique key that is taken


def connect(driver, *where):
    if driver == "sqlite":
        # isolation_level=None: BEGIN and COMMIT are ours. A BEGIN IMMEDIATE waits for other writers, up to the timeout.
        return sqlite3.connect(where[0], timeout=10, isolation_level=None)
    host, port, user, database = where
    return importlib.import_module(driver).connect(
        host=host, port=int(port), user=user, password=os.environ.get("NANOQ_PASSWORD", ""), database=database,
        charset="utf8mb4", autocommit=True)


def run(db, sql, values=()):
    cursor = db.cursor()
    cursor.execute(sql if isinstance(db, sqlite3.Connection) else sql.replace("?", "%s"), values)
    return cursor


def enqueue(db, kind, payload, queue="default", delay=0, key=None):
    """True: there is such a task now; False: a live one has the key. A bad value raises. In the caller's transaction."""
    if isinstance(db, sqlite3.Connection):
        # The conflict clause is about unique keys alone: what a CHECK refuses still raises.
        return run(db, "INSERT INTO nanoq_tasks (type, payload, queue, run_at, unique_key) VALUES (?, ?, ?,"
                   " CAST((julianday('now') - 2440587.5) * 86400000000 AS INTEGER) + ? * 1000000, COALESCE(?, 1))"
                   " ON CONFLICT DO NOTHING", (kind, payload, queue, delay, key)).rowcount == 1
    columns, marks, values = "type, payload, queue, run_at", "?, ?, ?, UTC_TIMESTAMP(6) + INTERVAL ? SECOND", [
        kind, payload, queue, delay]
    if key is not None:
        columns, marks = columns + ", unique_key", marks + ", UNHEX(SHA2(CONCAT(?, CHAR(0), ?), 256))"
        values += [kind, key]
    try:
        run(db, f"INSERT INTO nanoq_tasks ({columns}) VALUES ({marks})", values)
        return True
    except importlib.import_module(type(db).__module__.split(".")[0]).IntegrityError as error:
        if error.args[0] != DUPLICATE:
            raise
        return False  # the transaction is whole: only this statement was undone


def enqueue_many(db, kind, payloads, rows=100):
    """In statements of many rows; those whose key is taken are passed over."""
    end = "ON CONFLICT DO NOTHING" if isinstance(db, sqlite3.Connection) else "ON DUPLICATE KEY UPDATE id = id"
    for i in range(0, len(payloads), rows):
        part = payloads[i:i + rows]
        values = [value for payload in part for value in (kind, payload)]
        run(db, f"INSERT INTO nanoq_tasks (type, payload) VALUES {', '.join(['(?, ?)'] * len(part))} {end}", values)


def begin(db):
    run(db, "BEGIN IMMEDIATE" if isinstance(db, sqlite3.Connection) else "BEGIN")


def main():
    db = connect(*sys.argv[1:])
    run(db, "CREATE TABLE movement (article INTEGER, amount INTEGER)")

    begin(db)  # both, or neither
    run(db, "INSERT INTO movement VALUES (?, ?)", (7, 12))
    enqueue(db, "recalculate", "7")
    run(db, "COMMIT")

    begin(db)
    run(db, "INSERT INTO movement VALUES (?, ?)", (8, 1))
    enqueue(db, "recalculate", "8")
    run(db, "ROLLBACK")
    print("movements:", run(db, "SELECT COUNT(*) FROM movement").fetchone()[0])

    enqueue(db, "reminder", '{"to": 2}', delay=7200)
    for version in 1, 2:
        print("sync:", "added" if enqueue(db, "sync", '{"v": %d}' % version, key="customer 7") else "duplicate")

    begin(db)
    enqueue_many(db, "row", [str(i) for i in [*range(1000), 0]])
    run(db, "COMMIT")

    try:
        enqueue(db, "sync", "{}", queue="no spaces, please")
    except Exception as error:  # sqlite3.IntegrityError; OperationalError of the others
        print("bad value:", type(error).__name__)
    enqueue(db, "größe 🎉", bytes(range(256)))


if __name__ == "__main__":
    main()
