#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Each alert of share/prometheus/alerts.yml, fired once by what it is about: make test-metrics

A Prometheus on loopback scrapes real workers each second. `for` of the rules is cut to a second, all else is theirs.
Where Prometheus (Debian's package `prometheus`) is not installed it says so and exits with 77: skipped.
"""
import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
NANOQ = os.path.abspath(os.environ.get("NANOQ", os.path.join(TOP, "build-test", "nanoq")))
RULES = os.path.join(TOP, "share", "prometheus", "alerts.yml")
BOARD = os.path.join(TOP, "share", "grafana", "nanoq.json")
LIMIT = 90


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait(condition, what):
    until = time.monotonic() + LIMIT
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > until:
            raise SystemExit("waited in vain for " + what)
        time.sleep(0.2)


class Rig:
    def __init__(self, directory):
        self.dir, self.processes = directory, []
        self.file = os.path.join(directory, "q.db")
        self.env = {**os.environ, "NANOQ_DB": "sqlite:" + self.file}
        self.ports = [free_port(), free_port()]

    def start(self, *args, **kwargs):
        with open(os.path.join(self.dir, "log"), "ab") as log:
            process = subprocess.Popen(args, env=self.env, stdout=log, stderr=log, stdin=subprocess.DEVNULL, **kwargs)
        self.processes.append(process)
        return process

    def nanoq(self, *args):
        return subprocess.run([NANOQ, *args], env=self.env, check=True, capture_output=True, stdin=subprocess.DEVNULL).stdout

    def sql(self, *statements):
        database = sqlite3.connect(self.file, timeout=20)
        for statement in statements:
            database.execute(statement)
        database.commit()
        database.close()

    def worker(self, port):
        return self.start(NANOQ, "work", "--metrics", str(port), "-j", "4", "-q", "default", "-q", "slow", "--", "sh", "-c",
                          "case $NANOQ_TYPE in bad) exit 65;; shaky) exit 75;; slow) exec sleep 1000;; lost) exec sleep 3;; esac")

    def prometheus(self, port):
        with open(RULES, encoding="utf-8") as f:
            rules = re.sub(r"(?m)^( *for:) .*$", r"\1 1s", f.read())
        with open(os.path.join(self.dir, "rules.yml"), "w", encoding="utf-8") as f:
            f.write(rules)
        config = {"global": {"scrape_interval": "1s", "evaluation_interval": "1s"}, "rule_files": ["rules.yml"], "scrape_configs": [
            {"job_name": "nanoq", "static_configs": [{"targets": ["127.0.0.1:%d" % p for p in self.ports]}]},
            {"job_name": "nanoq-database", "metrics_path": "/metrics/database",
             "static_configs": [{"targets": ["127.0.0.1:%d" % self.ports[0]]}]}]}
        with open(os.path.join(self.dir, "prometheus.yml"), "w", encoding="utf-8") as f:
            json.dump(config, f)  # JSON is YAML
        self.url = "http://127.0.0.1:%d/api/v1/" % port
        self.start("prometheus", "--config.file=prometheus.yml", "--storage.tsdb.path=data", "--web.listen-address=127.0.0.1:%d" % port,
                   cwd=self.dir)

    def ask(self, path):
        try:
            with urllib.request.urlopen(self.url + path, timeout=10) as answer:
                return json.load(answer)["data"]
        except OSError:
            return None

    def firing(self):
        data = self.ask("alerts") or {"alerts": []}
        return {a["labels"]["alertname"] for a in data["alerts"] if a["state"] == "firing"}

    def query(self, text):
        data = self.ask("query?query=" + urllib.parse.quote(text))
        return data["result"] if data else []

    def expect(self, *names):
        wait(lambda: set(names) <= self.firing(), "%s to fire; there are %s" % (names, self.firing()))
        for name in names:
            print("fired:", name, flush=True)

    def end(self):
        for process in self.processes:
            if process.poll() is None:
                process.terminate()
        for process in self.processes:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def check_board(rig):
    """Each query of the dashboard is one that Prometheus takes; and finds something, where there is anything to find."""
    with open(BOARD, encoding="utf-8") as f:
        board = json.load(f)
    texts = [t["expr"] for p in board["panels"] for t in p.get("targets", [])]
    assert texts
    for text in texts:
        text = text.replace("$queue", ".*").replace("$__rate_interval", "1m")
        assert rig.query(text), "no data: " + text
    print("queries of the dashboard:", len(texts))


def scenes(rig):
    rig.nanoq("migrate")
    rig.prometheus(free_port())
    first, second = (rig.worker(p) for p in rig.ports)
    wait(lambda: len(rig.query("up == 1")) == 3, "all to be scraped")
    assert not rig.firing(), rig.firing()

    rig.nanoq("add", "--queue", "nobody", "a", "1")
    rig.expect("NanoqNoWorkers")
    rig.sql("UPDATE nanoq_tasks SET run_at = run_at - 600000000 WHERE queue = 'nobody'")
    rig.expect("NanoqTasksWait")
    rig.nanoq("pause", "nobody")
    rig.expect("NanoqQueuePaused")
    wait(lambda: not rig.firing() & {"NanoqNoWorkers", "NanoqTasksWait"}, "those of a paused queue to end")

    rig.nanoq("add", "--no-unique", "good", "1")
    rig.nanoq("add", "bad", "1")
    rig.expect("NanoqDeadTasks")
    for i in range(4):
        rig.nanoq("add", "shaky", str(i))
        time.sleep(1.1)  # a rate needs scrapes between
    rig.expect("NanoqAttemptsFail")

    rig.nanoq("add", "lost", "1")
    wait(lambda: rig.query("sum(nanoq_handlers_running) > 0"), "it to run")
    rig.sql("DELETE FROM nanoq_tasks WHERE type = 'lost'")
    rig.expect("NanoqLeaseLost")
    check_board(rig)

    for _ in range(8):  # some for each worker
        rig.nanoq("add", "--no-unique", "--queue", "slow", "slow", "1")
    wait(lambda: rig.query('nanoq_handlers_running{instance="127.0.0.1:%d"} > 0' % rig.ports[1]), "some to run there")
    second.send_signal(signal.SIGKILL)
    rig.expect("NanoqWorkerDown", "NanoqCrashes")

    rig.sql("ALTER TABLE nanoq_followups RENAME TO elsewhere")
    rig.expect("NanoqDatabaseDown")
    rig.sql("ALTER TABLE elsewhere RENAME TO nanoq_followups")
    del first


def main():
    with open(RULES, encoding="utf-8") as f:
        names = re.findall(r"alert: (\w+)", f.read())
    if not shutil.which("prometheus") or not shutil.which("promtool"):
        print("skipped: prometheus is not installed (Debian: prometheus)")
        return 77
    subprocess.run(["promtool", "check", "rules", RULES], check=True)
    with tempfile.TemporaryDirectory(prefix="nanoq-metrics-") as directory:
        rig = Rig(directory)
        seen, expect = set(), rig.expect
        rig.expect = lambda *fired: (expect(*fired), seen.update(fired))
        try:
            scenes(rig)
            # The text is what promtool wants of one.
            text = rig.nanoq("metrics")
            subprocess.run(["promtool", "check", "metrics"], input=text, check=True)
        finally:
            rig.end()
        assert seen == set(names), "not fired: %s" % (set(names) - seen)
    return 0


if __name__ == "__main__":
    sys.exit(main())
