#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A private Galera cluster of three MariaDB nodes on loopback, gone with all its files afterwards.

tests/servers/galera.py COMMAND [ARGS]   runs a command beside it; it finds the first node by NANOQ_TEST_MYSQL.
NANOQ_TEST_GALERA: which server of tests/servers/tree, mariadb11 (the default) or mariadb10.
"""
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
NODES = 3
PORTS = 4  # of each node: client, group, incremental and full state transfer


def free_ports(n):
    """The first of n consecutive ports that nobody listens on; below those that the kernel gives away."""
    for base in range(11000 + os.getpid() % 500 * n, 32000, n):
        held = []
        try:
            for port in range(base, base + n):
                held.append(socket.create_server(("127.0.0.1", port)))
            return base
        except OSError:
            continue
        finally:
            for s in held:
                s.close()
    raise SystemExit("galera: no free ports")


class Node:
    """One server; to tests/fault it is a database like those of its database.py."""
    kind = "galera"
    mysql = True

    def __init__(self, cluster, index):
        self.cluster, self.index = cluster, index
        self.port = cluster.base + PORTS * index
        self.group = f"127.0.0.1:{self.port + 1}"
        self.dir = os.path.join(cluster.dir, f"node{index + 1}")
        self.socket = os.path.join(self.dir, "s")
        self.log = os.path.join(self.dir, "log")
        self.process = self.asked = None  # asked: to end
        os.mkdir(self.dir)

    def url(self, port=None):
        return f"mysql://root@127.0.0.1:{port or self.port}/{self.cluster.name}"

    def fresh(self):
        """A new database, on all nodes."""
        self.cluster.databases += 1
        name = f"fault{self.cluster.databases}"
        self.sql(f"CREATE DATABASE {name}")
        self.cluster.name = name

    def start(self, first=False):
        """Start it; with first as the first node of a new cluster. Does not wait."""
        c = self.cluster
        options = ";".join([f"gmcast.listen_addr=tcp://{self.group}", f"ist.recv_addr=127.0.0.1:{self.port + 2}",
                            "gcache.size=64M"])
        argv = [c.program("sbin/mariadbd"), "--no-defaults", *c.user, f"--basedir={c.tree}/usr",
                f"--datadir={self.dir}/data", f"--socket={self.socket}", f"--port={self.port}",
                "--bind-address=127.0.0.1", f"--tmpdir={self.dir}", f"--server-id={self.index + 1}", "--skip-name-resolve", "--max-connections=200",
                "--innodb-buffer-pool-size=64M", "--innodb-log-file-size=48M", "--performance-schema=OFF",
                "--character-set-server=utf8mb4", "--binlog-format=ROW", "--innodb-autoinc-lock-mode=2",
                "--wsrep-on=ON", f"--wsrep-provider={c.tree}/usr/lib/galera/libgalera_smm.so",
                "--wsrep-cluster-name=nanoq", f"--wsrep-node-name=node{self.index + 1}",
                "--wsrep-cluster-address=gcomm://" + ("" if first else ",".join(n.group for n in c.nodes)),
                f"--wsrep-node-address={self.group}", f"--wsrep-provider-options={options}",
                "--wsrep-sst-method=rsync", f"--wsrep-sst-receive-address=127.0.0.1:{self.port + 3}"]
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=c.env,
                                            start_new_session=True)

    def sql(self, text, check=True, timeout=60):
        """Rows of text, each a list; None when it failed and that may be."""
        argv = [self.client(), "--no-defaults", "--user=root", f"--socket={self.socket}",
                "--batch", "--skip-column-names", "--connect-timeout=2", self.cluster.name]
        try:
            done = subprocess.run(argv, input=text.encode(), capture_output=True, timeout=timeout)
        except subprocess.TimeoutExpired:
            if check:
                raise
            return None
        if done.returncode != 0:
            if check:
                raise RuntimeError(f"node {self.index + 1}: {text}: {done.stderr.decode(errors='replace').strip()}")
            return None
        return [line.split("\t") for line in done.stdout.decode(errors="replace").splitlines()]

    def client(self):
        return self.cluster.program("bin/mariadb")

    def ready(self):
        """Does it serve, as a member of a primary component?"""
        rows = self.sql("SHOW STATUS LIKE 'wsrep_ready'", check=False, timeout=5)
        return bool(rows) and rows[0][1] == "ON"

    def wait_ready(self, seconds=120):
        until = time.monotonic() + seconds
        while not self.ready():
            if self.process.poll() is not None or time.monotonic() > until:
                self.show_log()
                raise SystemExit(f"{self.cluster.what}: node {self.index + 1} did not come up")
            time.sleep(0.1)

    def show_log(self):
        """The end of what the server wrote: its directory is gone soon."""
        with open(self.log, errors="replace") as log:
            sys.stderr.write("".join(log.readlines()[-30:]))

    def kill(self):
        self.asked = self.process
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def ended_by_itself(self):
        return self.process is not None and self.process.poll() is not None and self.asked is not self.process

    def signal(self, number):
        os.killpg(self.process.pid, number)

    def stop(self):
        if self.process is None or self.process.poll() is not None:
            return
        self.asked = self.process
        self.process.terminate()
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            pass


class Cluster:
    member = Node
    what = "galera"

    def __init__(self, kind=None):
        kind = kind or os.environ.get("NANOQ_TEST_GALERA", "mariadb11")
        done = subprocess.run([os.path.join(HERE, "tree"), kind], stdout=subprocess.PIPE, text=True)
        if done.returncode != 0:
            raise SystemExit(125)
        self.tree = done.stdout.strip()
        self.dir = tempfile.mkdtemp(prefix=f"nanoq-{self.what}.", dir=os.environ.get("NANOQ_TEST_DATA"))
        # The scripts that copy a node's state call rsync and their own helpers by name.
        self.env = {**os.environ, "PATH": f"{self.tree}/usr/sbin:{self.tree}/usr/bin:{os.environ['PATH']}"}
        self.user = ["--user=root"] if os.getuid() == 0 else []
        self.name, self.databases = "", 0  # of the database in use
        self.base = free_ports(PORTS * NODES)
        self.nodes = [self.member(self, i) for i in range(NODES)]

    def program(self, name):
        return f"{self.tree}/usr/{name}"

    def install(self, data):
        """Make the data directory that every node begins with a copy of."""
        subprocess.run([self.program("bin/mariadb-install-db"), "--no-defaults", f"--basedir={self.tree}/usr",
                        f"--datadir={data}", "--auth-root-authentication-method=normal", "--skip-test-db",
                        *self.user], check=True, env=self.env, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL)

    def __enter__(self):
        try:
            data = f"{self.nodes[0].dir}/data"
            self.install(data)
            for node in self.nodes[1:]:
                shutil.copytree(data, f"{node.dir}/data", symlinks=True)
            for i, node in enumerate(self.nodes):
                node.start(first=i == 0)
                node.wait_ready()
            self.wait_size(NODES)
        except BaseException:
            self.__exit__()
            raise
        return self

    def size(self, node):
        rows = node.sql("SHOW STATUS LIKE 'wsrep_cluster_size'", check=False)
        return int(rows[0][1]) if rows else 0

    def wait_size(self, size, seconds=60):
        """Until every running node sees so many members."""
        until = time.monotonic() + seconds
        for node in self.nodes:
            while node.process.poll() is None:
                if self.size(node) == size and node.ready():
                    break
                if time.monotonic() > until:
                    for each in self.nodes:
                        print(f"node {each.index + 1}: exit status {each.process.poll()}, sees {self.size(each)}, "
                              f"ready: {each.ready()}", file=sys.stderr)
                        each.show_log()
                    raise SystemExit(f"{self.what}: node {node.index + 1} sees no cluster of {size}")
                time.sleep(0.1)

    def __exit__(self, *unused):
        for node in reversed(self.nodes):
            if node.ended_by_itself():
                print(f"{self.what}: node {node.index + 1} ended by itself, exit status {node.process.returncode}", file=sys.stderr)
                node.show_log()
            if node.process and node.process.poll() is None:
                node.signal(signal.SIGCONT)
                node.kill()  # the data is thrown away
        shutil.rmtree(self.dir, ignore_errors=True)


def main():
    if len(sys.argv) < 2:
        sys.exit("usage: galera.py COMMAND [ARGS]")
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda n, _: sys.exit(128 + n))
    with Cluster() as cluster:
        return subprocess.run(sys.argv[1:], env={**os.environ, "NANOQ_TEST_MYSQL": cluster.nodes[0].url()}).returncode


if __name__ == "__main__":
    sys.exit(main())
