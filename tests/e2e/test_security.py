#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# Who asks for the database's password and may not have it: a server that is none, the commands of nanoq work.
import os
import socket
import ssl
import subprocess
import sys
import threading
import unittest
import urllib.parse

from test_cli import LIMIT, MYSQL, NANOQ, Base, MysqlBase

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "servers"))
import rogue  # noqa: E402  (it is beside the servers' own scripts)

SECRET = "correct-horse"
CLEAR = SECRET.encode()
PROOF = rogue.native(CLEAR)
FULL = b"\x01\x04"  # caching_sha2_password: the whole password, please


class Rogue(Base):
    """A server that is not ours must not learn the password, nor what the command reads."""

    def ask(self, server, options="", stdin=None, leaks=False):
        db = "mysql://app@127.0.0.1:%d/q%s" % (server.port, options)
        args = ("add", "--stdin") if stdin is not None else ("stats",)
        done = subprocess.run((NANOQ, *args, "--db", db), env={**self.env, "NANOQ_PASSWORD": SECRET},
                              input=(stdin or "").encode(), capture_output=True, timeout=LIMIT)
        self.err = done.stderr.decode()
        self.assertIn(done.returncode, (1, 69, 77), self.err)
        self.assertEqual(CLEAR in server.heard, leaks, server.heard)
        self.assertNotIn(SECRET, self.err)

    def test_no_tls_where_it_is_demanded(self):
        for old in False, True:
            for plugin in "mysql_native_password", "caching_sha2_password":
                for tls in "required", "verify-full":
                    with rogue.Rogue(plugin=plugin, old=old) as server:
                        self.ask(server, "?tls=" + tls)
                        self.assertNotIn(PROOF, server.heard)

    def test_no_tls_and_then_the_proof(self):
        """As above, but the server asks for another plugin in its second packet."""
        for then in ("mysql_native_password", [b""]), ("caching_sha2_password", [FULL]):
            with rogue.Rogue(then=then) as server:
                self.ask(server, "?tls=required")
                self.assertNotIn(PROOF, server.heard)
                self.assertIn("the server offers no TLS, and tls=required demands it", self.err)

    def test_plugins_that_send_the_password(self):
        for name in "mysql_clear_password", "dialog", "sha256_password", "mysql_old_password", "../x", "":
            for options in "", "?tls=preferred":
                with rogue.Rogue(then=(name, [b"\x01\x02Password: ", b"\x02More: "])) as server:
                    self.ask(server, options)
                    self.assertIn("the server asks for the password by '%s'" % name, self.err)
                with rogue.Rogue(plugin=name, then=(name, [b"\x02Password: "])) as server:
                    self.ask(server, options)

    def test_dialog_gets_no_stdin(self):
        with rogue.Rogue(then=("dialog", [b"\x02Account: ", b"\x02More: ", b"\x02More: "])) as server:
            self.ask(server, stdin='{"type": "t", "payload": "PRIVATE"}\n')
            self.assertNotIn(b"PRIVATE", server.heard)

    def test_a_second_switch(self):
        """First what is allowed, then what is not."""
        switch = b"\xfemysql_clear_password\0" + rogue.CHALLENGE + b"\0"
        for name, replies in ("mysql_native_password", [switch]), ("caching_sha2_password", [b"\x01\x03", switch]):
            with rogue.Rogue(then=(name, replies + [b""])) as server:
                self.ask(server)

    def test_the_whole_password_in_plain(self):
        for options in "?tls=off", "?tls=preferred":
            with rogue.Rogue(then=("caching_sha2_password", [FULL, b"\x01-----BEGIN PUBLIC KEY-----"])) as server:
                self.ask(server, options)
                self.assertIn("use tls=required", self.err)
                self.assertFalse(server.heard.endswith(b"\x01\0\0\x05\x02"), "it asked for a key")
        with rogue.Rogue(then=("caching_sha2_password", [FULL])) as server:  # on this host: by TLS, or not at all
            self.ask(server)
            self.assertEqual(server.hellos, 2)

    def certificate(self):
        subprocess.run(("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1",
                        "-keyout", "key.pem", "-out", "cert.pem"), cwd=self.dir, check=True, capture_output=True, timeout=60)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(os.path.join(self.dir, "cert.pem"), os.path.join(self.dir, "key.pem"))
        return context

    def test_with_tls(self):
        """An active attacker has a certificate too: 'required' says nothing of whose it is, 'verify-full' does."""
        context = self.certificate()
        with rogue.Rogue(context=context, then=("caching_sha2_password", [FULL, b""])) as server:
            self.ask(server, "?tls=verify-full")
            self.assertEqual(server.hellos, 0)
            self.assertNotIn(b"app", server.heard)
        for name in "mysql_clear_password", "dialog":
            with rogue.Rogue(context=context, then=(name, [b"\x02Password: "])) as server:
                self.ask(server, "?tls=required")
                self.assertEqual(server.hellos, 1)
        # What the server must be able to ask for, when it has not seen the password since its start.
        with rogue.Rogue(context=context, then=("caching_sha2_password", [FULL, b""])) as server:
            self.ask(server, "?tls=required", leaks=True)


class Renumbering:
    """A proxy with session ids of its own: the one that it tells a client in the greeting is not the server's."""

    def __init__(self, port):
        self.server = port
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            client, _ = self.listener.accept()
            server = socket.create_connection(("127.0.0.1", self.server))
            greeting = bytearray(server.recv(65536))
            at = greeting.index(0, 5) + 1  # behind the version
            greeting[at:at + 4] = (int.from_bytes(greeting[at:at + 4], "little") + 1000000).to_bytes(4, "little")
            client.sendall(greeting)
            for a, b in (client, server), (server, client):
                threading.Thread(target=self.pump, args=(a, b), daemon=True).start()

    def pump(self, a, b):
        try:
            while data := a.recv(65536):
                b.sendall(data)
        except OSError:
            pass
        try:
            b.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        a.close()


class Bells(MysqlBase):
    """Behind such a proxy an id of the process list may be another client's session by the time it is killed."""

    def setUp(self):
        super().setUp()
        self.run_nanoq("migrate")
        url = urllib.parse.urlparse(self.env["NANOQ_DB"])
        self.direct = self.env["NANOQ_DB"] + "?hints=server"
        self.behind = self.direct.replace(":%d/" % url.port, ":%d/" % Renumbering(url.port).port)

    def bells(self):
        return self.client("SELECT COUNT(*) FROM information_schema.processlist WHERE db = '%s' AND "
                           "info LIKE 'SELECT SLEEP(%%nanoq bell%%'" % self.database).stdout.strip() != b"0"

    def kills(self):
        return int(self.client("SHOW GLOBAL STATUS LIKE 'Com_kill'").stdout.split()[1])

    def rung(self, db):
        before = self.kills()
        self.add("t", "1", "--db", db, "--no-unique")
        return self.kills() - before

    def test_none_is_hung_out(self):
        worker = self.start("work", "-v", "--db", self.behind, "--", "true")
        for line in worker.stderr:
            if b"a proxy with session ids of its own" in line:
                break
        else:
            self.fail("it ended")
        self.assertFalse(self.bells())

    def test_none_is_rung(self):
        self.start("work", "-Q", "--db", self.direct, "--", "true")
        for db, rings in (self.behind, 0), (self.direct, 1):
            self.wait(self.bells, "a bell")
            # Other tests kill sessions of theirs beside this one.
            self.wait(lambda db=db, rings=rings: self.rung(db) == rings, f"{rings} rings")
            self.wait(lambda: self.json("list") == [], "the task")

    def test_long_statements_are_not_read(self):
        """Of everybody's statements no more than a bell has is told to who rings."""
        busy = subprocess.Popen(["mariadb", "--no-defaults", "-h", "127.0.0.1", "-P", str(urllib.parse.urlparse(MYSQL).port),
                                 "-uroot", "-e", "SELECT SLEEP(60), '%s'" % ("x" * 100000)])
        self.started.append(busy)
        self.wait(lambda: b"xxx" in self.client("SHOW PROCESSLIST").stdout, "the long statement")
        sent = "SHOW GLOBAL STATUS LIKE 'Bytes_sent'"

        def told():
            before = int(self.client(sent).stdout.split()[1])
            self.add("t", "1", "--db", self.direct, "--no-unique")
            return int(self.client(sent).stdout.split()[1]) - before

        # The server tells other tests something too: the least of some rounds counts.
        self.wait(lambda: told() < 50000, "an enqueue that is told little")


class Commands(Base):
    """What the commands of nanoq work find in their environment."""

    DB = "mysql://app:%s@[::1]:3306/shop?tls=off&password_env=DB_SECRET" % SECRET

    def found(self, *options, db=DB, env=None):
        self.env.update({"NANOQ_DB": db, "NANOQ_PASSWORD": SECRET, "DB_SECRET": SECRET, "OTHER": SECRET, "KEPT": "DB_SECRET="})
        self.add("t", "--db", "sqlite:" + self.path("q.db"), "--max-retries", "0")
        self.run_nanoq("work", "--drain", "-Q", *options, "--", "sh", "-c",
                       "env -0 >env; ulimit -Sc >core; read line; case $line in {*) echo '{\"done\": 1}';; esac", cwd=self.dir)
        with open(self.path("env"), encoding="utf-8") as f:
            return dict(entry.split("=", 1) for entry in f.read().split("\0") if entry)

    def test_no_password(self):
        for way in (), ("--stream",):
            for tail in "&", "":
                with self.subTest(way=way, tail=tail):
                    db = "sqlite:" + self.path("q.db")
                    self.run_nanoq("migrate", "--db", db)
                    found = self.found("--db", db + "?prefix=nanoq_" + (tail and "&hints=all"), *way)
                    self.assertNotIn("NANOQ_PASSWORD", found)
                    self.assertNotIn("DB_SECRET", found)
                    self.assertEqual(found["NANOQ_DB"], self.DB.replace(":" + SECRET, "", 1))
                    self.assertEqual((found["OTHER"], found["KEPT"]), (SECRET, "DB_SECRET="))
                    self.assertEqual(self.lines("core"), ["0"])
                    os.unlink(self.path("q.db"))

    def test_what_cannot_be_told_apart(self):
        db = "sqlite:" + self.path("q.db")
        self.run_nanoq("migrate", "--db", db)
        self.assertNotIn("NANOQ_DB", self.found("--db", db, db="mysql://app:pass/%s@db/shop" % SECRET))

    def test_asked_for(self):
        db = "sqlite:" + self.path("q.db")
        self.run_nanoq("migrate", "--db", db)
        found = self.found("--db", db, "--keep-password")
        self.assertEqual((found["NANOQ_PASSWORD"], found["DB_SECRET"], found["NANOQ_DB"]), (SECRET, SECRET, self.DB))


if __name__ == "__main__":
    unittest.main()
