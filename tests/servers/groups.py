#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A private Group Replication of three MySQL servers on loopback, gone with all its files afterwards.

tests/servers/groups.py single|multi COMMAND [ARGS]   runs a command beside it; it finds the first member by NANOQ_TEST_MYSQL8.
single: one member, the primary, takes writes. multi: all do.
"""
import contextlib
import os
import signal
import subprocess
import sys
import time

import binlog
import galera
from galera import HERE, NODES, PORTS

NAME = "6e616e6f-7100-4000-8000-000000000001"  # of the group
STATES = "SELECT MEMBER_ID, MEMBER_STATE, MEMBER_ROLE, MEMBER_PORT FROM performance_schema.replication_group_members"


class Member(galera.Node):
    """One server."""
    kind = "group"

    def start(self, first=False):
        """Start it, and its part in the group once it answers; with first it makes the group. Does not wait for the group."""
        c = self.cluster
        multi = "ON" if c.multi else "OFF"
        argv = [c.program("sbin/mysqld"), "--no-defaults", *c.user, f"--basedir={c.tree}/usr", f"--datadir={self.dir}/data",
                f"--socket={self.socket}", f"--port={self.port}", "--bind-address=127.0.0.1", f"--tmpdir={self.dir}",
                f"--pid-file={self.dir}/pid", f"--server-id={self.index + 1}", "--skip-name-resolve", "--max-connections=200",
                "--mysqlx=OFF", "--secure-file-priv=NULL", f"--plugin-dir={c.tree}/usr/lib/mysql/plugin", f"--init-file={c.dir}/init",
                "--innodb-buffer-pool-size=64M", "--innodb-redo-log-capacity=96M", "--character-set-server=utf8mb4",
                "--gtid-mode=ON", "--enforce-gtid-consistency=ON", "--report-host=127.0.0.1",
                "--plugin-load-add=group_replication.so", f"--group-replication-group-name={NAME}",
                "--group-replication-start-on-boot=OFF", f"--group-replication-local-address={self.group}",
                "--group-replication-group-seeds=" + ",".join(n.group for n in c.nodes),
                "--group-replication-ip-allowlist=127.0.0.1", "--group-replication-recovery-get-public-key=ON",
                f"--group-replication-single-primary-mode={'OFF' if c.multi else 'ON'}",
                f"--group-replication-enforce-update-everywhere-checks={multi}"]
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=c.env,
                                            start_new_session=True)
        until = time.monotonic() + 120
        while self.sql("DO 0", check=False, timeout=5) is None:
            if self.process.poll() is not None or time.monotonic() > until:
                self.told("did not come up")
            time.sleep(0.1)
        self.sql("CHANGE REPLICATION SOURCE TO SOURCE_USER='root' FOR CHANNEL 'group_replication_recovery'")
        if first:
            self.sql("SET GLOBAL group_replication_bootstrap_group=ON; START GROUP_REPLICATION; "
                     "SET GLOBAL group_replication_bootstrap_group=OFF", timeout=120)
        else:
            self.sql("START GROUP_REPLICATION", timeout=120)

    def told(self, what):
        self.show_log()
        raise SystemExit(f"groups: member {self.index + 1} {what}")

    def client(self):
        return self.cluster.program("bin/mysql")

    def states(self):
        return self.sql(STATES, check=False, timeout=5) or []

    def audited(self):
        return binlog.read(self)

    def ready(self):
        return any(state == "ONLINE" and port == str(self.port) for _, state, _, port in self.states())

    def primary(self):
        return any(state == "ONLINE" and role == "PRIMARY" and port == str(self.port) for _, state, role, port in self.states()) and \
            self.sql("SELECT @@GLOBAL.super_read_only", check=False, timeout=5) == [["0"]]


class Group(galera.Cluster):
    member = Member
    what = "groups"

    def __init__(self, multi):
        self.multi = multi
        super().__init__("mysql9")

    def install(self, data):
        with open(f"{self.dir}/init", "w", encoding="utf-8") as f:
            f.write("SET SQL_LOG_BIN=0;\nCREATE USER IF NOT EXISTS root@'127.0.0.1';\n"
                    "GRANT ALL ON *.* TO root@'127.0.0.1' WITH GRANT OPTION;\n")
        subprocess.run([self.program("sbin/mysqld"), "--no-defaults", "--initialize-insecure", *self.user,
                        f"--basedir={self.tree}/usr", f"--datadir={data}"], check=True, env=self.env,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        with contextlib.suppress(FileNotFoundError):  # each makes an identity of its own as it first starts
            os.unlink(f"{data}/auto.cnf")

    def size(self, node):
        states = node.states()
        return len(states) if all(state == "ONLINE" for _, state, _, _ in states) else 0

    def primary(self, seconds=60):
        """The member that takes writes, once there is one."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            for node in self.nodes:
                if node.process.poll() is None and node.primary():
                    return node
            time.sleep(0.05)
        raise SystemExit("groups: no primary")


def main():
    if len(sys.argv) < 3 or sys.argv[1] not in ("single", "multi"):
        sys.exit("usage: groups.py single|multi COMMAND [ARGS]")
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda n, _: sys.exit(128 + n))
    with Group(sys.argv[1] == "multi") as group:
        return subprocess.run(sys.argv[2:], env={**os.environ, "NANOQ_TEST_MYSQL8": group.nodes[0].url()}, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
