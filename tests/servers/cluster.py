# SPDX-License-Identifier: MIT
"""What a cluster does to the queue: Galera, or MySQL's Group Replication, with three nodes that write, one that dies, two that are
gone; a group with one primary that dies, or hands over."""
import json
import os
import signal
import subprocess
import time

import audit
import kills
import letters
import limits as limit_runs
import order as order_runs
from proxy import Proxy
from rig import Run, mono, ms

LEASE_MS = 15000
PAUSE_US = 10_000_000  # the longest that may pass without a task, when a node dies
GROUP_PAUSE_US = 30_000_000  # in a group, which takes a member for dead after 5 s, and waits 5 s more before it expels it

# Of servers, by a fault of their own, in all runs of a cluster; each makes a run begin anew. MySQL 9.7.4 with several primaries
# crashed twice in some five hours of these runs, once seen to end the read view of a transaction that had none any more
# (MVCC::view_close of ha_innobase::external_lock): as if what another member had changed had just rolled it back.
CRASHES = 2

# A cluster's rows are put in order by their clock, which is this machine's: UUID_SHORT counts on each node.
SEQ = "CAST(UNIX_TIMESTAMP(SYSDATE(6)) * 1000000 AS UNSIGNED) * 4096 + UUID_SHORT() % 1024 * 4 + @@server_id, "


GALERA = ("doctor", "kill", "writers", "backlog", "limits", "order", "deadletters", "node", "quorum")
MULTI = ("doctor", "kill", "writers", "backlog", "limits", "order", "deadletters", "node")
SINGLE = ("doctor", "primary", "handover")


def runs(cluster, figures, seed, names, which=GALERA):
    audit.MYSQL["seq"] = ("seq, ", SEQ)
    forgiven = CRASHES
    for name in which:
        if not names or name in names:
            forgiven = run_one(globals()[name], cluster, figures, seed, forgiven)


def run_one(run, cluster, figures, seed, forgiven):
    """Do it, once more where a server crashed; answers how many crashes may still come. What was found before one counts."""
    while True:
        cluster.wait_size(len(cluster.nodes))
        error = None
        try:
            run(cluster, figures, seed)
        except (Exception, SystemExit) as why:
            error = why
        gone = [each for each in cluster.nodes if crashed(each)]
        if not gone:
            if error:
                raise error
            return forgiven
        forgiven -= len(gone)
        figures.add(run.__name__, cluster.what, "crashes of a server, its log is above", len(gone), forgiven >= 0, f"<= {CRASHES} in all")
        if forgiven < 0:
            raise error or RuntimeError("too many crashes of the server")
        for each in gone:
            each.start()
            each.wait_ready()


def crashed(node):
    """By a fault of its own: nobody asked it to end, and its log tells of a signal such as SIGSEGV."""
    if not node.ended_by_itself():
        return False
    with open(node.log, encoding="utf-8", errors="replace") as log:
        told = "".join(log.readlines()[-100:])
    if "got signal" not in told:
        return False
    print(f"{node.cluster.what}: node {node.index + 1}\n{told[told.rindex('got signal'):]}", flush=True)
    return True


def diagnosis(node):
    """What check 9 of nanoq doctor says there: its level, and the sentence."""
    argv = [os.path.join(os.environ["NANOQ_BUILD"], "nanoq"), "doctor", "--db", node.url(), "--json"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)
    found = {check["check"]: check for check in json.loads(done.stdout)} if done.stdout else {}
    return (found[9]["level"], found[9]["found"]) if found else (f"exit {done.returncode}", done.stderr.strip())


def doctor(cluster, figures, seed):
    """Does nanoq doctor see the cluster as it is? Whole; of a group, without a member, and without a majority."""
    now = cluster.primary() if cluster.what == "groups" else cluster.nodes[0]
    with Run("doctor", now, figures, seed) as run:
        def says(what, node, level, text):
            got, found = diagnosis(node)
            run.figure(f"{what}: {found[:90]}", got, got == level and text in found, level)

        for node in cluster.nodes:
            if cluster.what == "galera":
                says("each node", node, "ok", "cluster of 3")
            elif cluster.multi:
                says("each member", node, "ok", "one of 3 primaries")
            else:
                says("each member", node, *(("ok", "primary of a group of 3") if node is now else ("error", "a secondary")))
        if cluster.what == "galera":
            return
        others = [node for node in cluster.nodes if node is not now]
        others[0].sql("STOP GROUP_REPLICATION")
        says("one that left", others[0], "error", "OFFLINE")
        says("the others", now, "warning", "2 members")
        others[0].sql("START GROUP_REPLICATION", timeout=120)
        cluster.wait_size(3)
        if cluster.multi:  # where every statement waits for a majority
            return
        for node in others:
            node.signal(signal.SIGSTOP)
        until = time.monotonic() + 60
        while sum(state == "ONLINE" for _, state, _, _ in now.states()) > 1 and time.monotonic() < until:
            time.sleep(0.2)
        says("without a majority", now, "error", "of 3 members 1 can be reached")
        for node in others:
            node.signal(signal.SIGCONT)
        cluster.wait_size(3, seconds=180)


def kill(cluster, figures, seed):
    """kill -9 of workers on one node: no lock tells of it, the lease does."""
    kills.kill_workers(cluster.nodes[0], figures, seed, kills=60, every=0.4, soon_us=6_500_000)


def verdict(run, **options):
    check = run.check(**options)
    twice = sum(check.seen[rule] for rule in ("completed twice", "one claim a generation", "stale completion"))
    run.figure("claimed or completed twice", twice, twice == 0, 0)
    run.figure("acknowledged and lost", check.seen["lost"], check.seen["lost"] == 0, 0)
    return check


def writers(cluster, figures, seed, seconds=20):
    """Producers and workers on all three nodes, on the same tasks and keys."""
    before = conflicts(cluster)
    with Run("three writers", cluster.nodes[0], figures, seed, lease_ms=LEASE_MS, work_ms=5) as run:
        for each in cluster.nodes:
            run.start("work", url=each.url())
            run.start("produce", url=each.url(), pause_us=5000)
            run.start("produce", url=each.url(), pause_us=10000, hot=20)
        time.sleep(seconds)
        run.stop("produce")
        run.stop("work")
        run.drain(workers=1)
        verdict(run, lease_us=LEASE_MS * 1000, expect={"OK": 500, "claims": 500, "DUP": 20})
        lost = conflicts(cluster) - before
        run.figure("transactions that lost to another node", lost, lost > 0, "> 0")
        worse = [line for line in run.log_lines() if "error 1213" in line or "error 3101" in line]
        run.figure("of these, surfaced at workers", len(worse), not worse, 0)


def backlog(cluster, figures, seed, seconds=8, tasks=1500):
    """Workers on all three nodes at the head of one backlog: every claim meets those of the others."""
    with Run("backlog", cluster.nodes[0], figures, seed, lease_ms=LEASE_MS, work_ms=2) as run:
        for each in cluster.nodes:
            for _ in range(2):
                run.start("produce", url=each.url(), pause_us=0)
        count = f"SELECT COUNT(*) FROM {cluster.name}.nanoq_tasks"

        def wait(done):
            until = time.monotonic() + 120
            while not done(int(run.db.sql(count)[0][0])) and time.monotonic() < until:
                time.sleep(0.2)

        time.sleep(seconds)
        wait(lambda there: there >= tasks)
        run.stop("produce")
        for each in cluster.nodes:
            run.start("work", url=each.url(), concurrency=32)
        wait(lambda left: left == 0)
        run.stop("work")
        run.drain(workers=1)
        verdict(run, lease_us=LEASE_MS * 1000, expect={"OK": 1000, "claims": 1000})


def limits(cluster, figures, seed, seconds=20):
    """Limits under kill -9 and SIGSTOP, with workers on all three nodes: no lock is of more than one of them."""
    limit_runs.limits(cluster.nodes[0], figures, seed, seconds=seconds, groups=200, nodes=cluster.nodes)


def order(cluster, figures, seed, seconds=20):
    """Strict order in groups, likewise."""
    order_runs.order(cluster.nodes[0], figures, seed, seconds=seconds, nodes=cluster.nodes)


def deadletters(cluster, figures, seed, seconds=20):
    letters.letters(cluster.nodes[0], figures, seed, seconds=seconds, server_every=0, nodes=cluster.nodes)


def conflicts(cluster):
    if cluster.what == "groups":
        ask = "SELECT SUM(COUNT_CONFLICTS_DETECTED) FROM performance_schema.replication_group_member_stats"
        return max(int(n.sql(ask)[0][0]) for n in cluster.nodes)
    rows = [r for n in cluster.nodes for r in n.sql("SHOW STATUS WHERE Variable_name IN ('wsrep_local_cert_failures', "
                                                    "'wsrep_local_bf_aborts')")]
    return sum(int(r[1]) for r in rows)


def gap(run, since, pids, until):
    """The longest time without a start in these processes."""
    at, longest = since, 0
    with open(run.path, encoding="utf-8", errors="replace") as f:
        for line in f:
            kind, pid, mono_us = line.split(" ", 3)[:3]
            if kind == "START" and int(pid) in pids and since <= int(mono_us) <= until:
                longest, at = max(longest, int(mono_us) - at), int(mono_us)
    return max(longest, until - at)


def same(cluster, run):
    """Do the nodes hold the same rows?"""
    until, states = time.monotonic() + 30, []
    while len(states) != 1 and time.monotonic() < until:
        time.sleep(0.5)
        wait = "SET group_replication_consistency='BEFORE'" if cluster.what == "groups" else "SET wsrep_sync_wait=1"
        states = sorted({str(n.sql(f"{wait}; CHECKSUM TABLE nanoq_tasks, nanoq_finished, fault_audit"))
                         for n in cluster.nodes})
    print("\n".join(f"  {s}" for s in states) if len(states) > 1 else "", end="")
    run.figure("different states of the nodes", len(states), len(states) == 1, 1)


def node(cluster, figures, seed):
    """kill -9 of each node in turn. Clients of the dead one are led to the next by a proxy."""
    limit = GROUP_PAUSE_US if cluster.what == "groups" else PAUSE_US
    with Run("node killed", cluster.nodes[0], figures, seed, lease_ms=LEASE_MS, work_ms=5) as run:
        run.note("EXCUSE", "a node is away: beats are")
        proxies = [Proxy(each.port) for each in cluster.nodes]
        try:
            workers = []
            for proxy in proxies:
                url = run.db.url(proxy.port)
                workers.append(run.start("work", url=url))
                run.start("produce", url=url, pause_us=10000)
            slowest = [0, 0]
            for dead, proxy in zip(cluster.nodes, proxies):
                time.sleep(3)
                at = mono()
                dead.kill()
                run.note("SERVERKILL", "-", at)
                proxy.target = cluster.nodes[(dead.index + 1) % 3].port
                proxy.cut()
                time.sleep(15)
                own = workers[dead.index].pid
                slowest = [max(slowest[0], gap(run, at, {w.pid for w in workers if w.pid != own}, mono())),
                           max(slowest[1], gap(run, at, {own}, mono()))]
                dead.start()
                dead.wait_ready()
                cluster.wait_size(3)
                proxy.target = dead.port
                proxy.cut()
            time.sleep(2)
            run.stop("produce")
            run.stop("work")
            run.drain(workers=1)
            same(cluster, run)
            verdict(run, lease_us=LEASE_MS * 1000, expect={"SERVERKILL": 3, "OK": 200, "FAIL": 1})
            run.figure("pause at the other nodes, longest", ms(slowest[0]), slowest[0] <= limit, f"<= {limit // 1000000} s")
            run.figure("pause of the dead node's clients, longest", ms(slowest[1]), slowest[1] <= limit, f"<= {limit // 1000000} s")
        finally:
            for proxy in proxies:
                proxy.close()


def quorum(cluster, figures, seed):
    """Two of three nodes are stopped: the third refuses, and says why; when they are back work goes on."""
    tool = os.path.join(os.environ["NANOQ_BUILD"], "nanoq")
    first, others = cluster.nodes[0], cluster.nodes[1:]
    with Run("quorum lost", first, figures, seed, lease_ms=LEASE_MS, work_ms=5) as run:
        run.note("EXCUSE", "the cluster is away: beats are")
        worker = run.start("work")
        run.start("produce", pause_us=10000)
        time.sleep(2)
        for each in others:
            each.signal(signal.SIGSTOP)
        run.note("SERVERKILL")
        until = time.monotonic() + 60
        while first.ready() and time.monotonic() < until:
            time.sleep(0.2)
        done = subprocess.run([tool, "add", "--db", run.db.url(), "quorum", "1"], capture_output=True, text=True,
                              timeout=60)
        print(f"  nanoq add: exit {done.returncode}: {done.stderr.strip()}")
        run.figure("nanoq add without quorum: exit code", done.returncode, done.returncode == 69, 69)
        run.figure("and it says why", done.stderr.strip()[:60], "WSREP" in done.stderr, "WSREP")
        time.sleep(2)
        for each in others:
            each.signal(signal.SIGCONT)
        first.wait_ready()
        ready = mono()
        time.sleep(8)
        cluster.wait_size(3)
        pause = gap(run, ready, {worker.pid}, mono())
        run.stop("produce")
        run.stop("work")
        run.drain(workers=1)
        verdict(run, lease_us=LEASE_MS * 1000, expect={"SERVERKILL": 1, "OK": 50, "FAIL": 1})
        run.figure("work again after the node was ready", ms(pause), pause <= PAUSE_US, "<= 10 s")


def led(cluster, proxy):
    """Lead the proxy's clients to the primary, once there is one, as a router does: nowhere till then."""
    proxy.mode = "cut"
    proxy.cut()
    primary = cluster.primary()
    proxy.target, proxy.mode = primary.port, "pass"
    return primary


def primary(cluster, figures, seed, kills=3):
    """kill -9 of the primary under load. A proxy leads all clients to the one that the others elect."""
    now = cluster.primary()
    proxy = Proxy(now.port)
    try:
        with Run("primary killed", now, figures, seed, lease_ms=LEASE_MS, work_ms=5) as run:
            run.note("EXCUSE", "the primary is away: beats are")
            url = run.db.url(proxy.port)
            workers = [run.start("work", url=url) for _ in range(3)]
            for hot in (0, 20):
                run.start("produce", url=url, pause_us=10000, **({"hot": hot} if hot else {}))
            slowest, elected = 0, 0
            for _ in range(kills):
                time.sleep(4)
                at = mono()
                now.kill()
                run.note("SERVERKILL", "-", at)
                dead, now = now, led(cluster, proxy)
                elected = max(elected, mono() - at)
                time.sleep(15)
                slowest = max(slowest, gap(run, at, {w.pid for w in workers}, mono()))
                dead.start()
                dead.wait_ready()
                cluster.wait_size(3)
            run.db = now
            time.sleep(2)
            run.stop("produce")
            run.stop("work")
            run.drain(workers=1)
            same(cluster, run)
            verdict(run, lease_us=LEASE_MS * 1000, expect={"SERVERKILL": kills, "OK": 200, "FAIL": 1})
            run.figure("another primary after, longest", ms(elected), True, "-")
            run.figure("pause, longest", ms(slowest), slowest <= GROUP_PAUSE_US, "<= 30 s")
            after = slowest - elected
            run.figure("of it after there was another primary", ms(max(after, 0)), after <= PAUSE_US, "<= 10 s")
    finally:
        proxy.close()


def handover(cluster, figures, seed):
    """The primary hands over to another and stays, without writes. Sessions that are open there must not stay there."""
    now = cluster.primary()
    other = cluster.nodes[(now.index + 1) % 3]
    proxy = Proxy(now.port)
    try:
        with Run("primary handed over", now, figures, seed, lease_ms=LEASE_MS, work_ms=5) as run:
            run.note("EXCUSE", "the primary is away: beats are")
            url = run.db.url(proxy.port)
            worker = run.start("work", url=url)
            run.start("produce", url=url, pause_us=10000)
            time.sleep(3)
            proxy.target = other.port  # for who connects anew; nobody's connection is cut
            at = mono()
            identity = other.sql("SELECT @@server_uuid")[0][0]
            now.sql(f"SELECT group_replication_set_as_primary('{identity}')")
            cluster.primary()
            time.sleep(10)
            pause = gap(run, at, {worker.pid}, mono())
            run.db = other
            run.stop("produce")
            run.stop("work")
            run.drain(workers=1)
            same(cluster, run)
            verdict(run, lease_us=LEASE_MS * 1000, expect={"OK": 200})
            run.figure("pause", ms(pause), pause <= PAUSE_US, "<= 10 s")
    finally:
        proxy.close()
