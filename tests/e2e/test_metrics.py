#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# nanoq metrics, and nanoq work --metrics with friendly and hostile clients; on SQLite, and with NANOQ_TEST_MYSQL on a server.
import json
import os
import re
import socket
import sys
import time
import unittest

from test_cli import Base, LIMIT, MysqlBase

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
LABEL = r'[a-zA-Z_]\w*="(?:[^"\\\n]|\\["\\n])*"'
SAMPLE = re.compile(r"^(nanoq_\w+)(\{%s(?:,%s)*\})? ([0-9.]+)$" % (LABEL, LABEL))


def parse(text):
    """The samples of a text, whose form is checked as promtool does: one family a piece, HELP, TYPE, no sample twice."""
    samples, family, kind, seen = {}, None, None, set()
    assert text.endswith("\n")
    for line in text.splitlines():
        if line.startswith("# HELP "):
            family = line.split(" ")[2]
            assert family not in seen, "family twice: " + family
            assert len(line.split(" ", 3)[3]) > 0
            seen.add(family)
        elif line.startswith("# TYPE "):
            assert line.split(" ")[2] == family
            kind = line.split(" ")[3]
            assert kind in ("counter", "gauge", "histogram")
            assert (kind == "counter") == family.endswith("_total"), family
        else:
            match = SAMPLE.match(line)
            assert match, line
            name = match.group(1)
            if kind == "histogram":
                name = re.sub("_(bucket|sum|count)$", "", name)
            assert name == family, line
            assert line.rsplit(" ", 1)[0] not in samples, line
            samples[line.rsplit(" ", 1)[0]] = float(match.group(3))
    return samples


class Metrics(Base):
    def scraped(self, path="/metrics"):
        status, headers, body = self.ask(b"GET " + path.encode() + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")
        self.assertEqual(status, 200, body)
        self.assertIn("content-type: text/plain; version=0.0.4; charset=utf-8", headers.lower())
        return parse(body.decode())

    def connect(self):
        s = socket.create_connection(("127.0.0.1", self.port), timeout=LIMIT)
        self.addCleanup(s.close)
        return s

    @staticmethod
    def answer(s):
        data = b""
        while True:
            more = s.recv(65536)
            if not more:
                break
            data += more
        head, _, body = data.partition(b"\r\n\r\n")
        return int(head.split(b" ")[1]) if head else 0, head.decode(), body

    def ask(self, request):
        s = self.connect()
        s.sendall(request)
        return self.answer(s)

    def work(self, *args, address="0"):
        process = self.start("work", "--metrics", address, *args, stdin=-1)
        line = b""
        while b"metrics at" not in line:
            line = process.stderr.readline()
            self.assertTrue(line, "it ended")
        self.port = int(re.search(rb":(\d+)/metrics", line).group(1))
        return process

    def test_the_gauges_of_the_database(self):
        self.run_nanoq("migrate")
        self.add("mail", "1", "--queue", "mail")
        self.add("x", "1")
        self.run_nanoq("pause", "mail")
        samples = parse(self.run_nanoq("metrics").decode())
        self.assertEqual(samples["nanoq_database_up"], 1)
        self.assertEqual(samples['nanoq_tasks{queue="mail",state="due"}'], 1)
        self.assertEqual(samples['nanoq_queue_paused{queue="mail"}'], 1)
        self.assertEqual(samples['nanoq_queue_paused{queue="default"}'], 0)
        self.assertTrue(any(name.startswith('nanoq_build_info{version="') for name in samples))
        self.assertIn(b"takes no argument", subprocess_err(self, "metrics", "now"))

    def test_a_worker_answers(self):
        self.run_nanoq("migrate")
        hostile = 'a"b\\c\u202e<script>'
        for kind in ("mail", "mail", hostile):
            self.add("--no-unique", kind, "1")
        self.work("-j", "2", "--", "sh", "-c", "[ $NANOQ_TYPE = mail ]")
        done = 'nanoq_attempts_total{queue="default",type="mail",verdict="done"}'
        self.wait(lambda: self.scraped().get('nanoq_queue_wait_seconds_count{queue="default"}') == 3, "three attempts")
        samples = self.scraped()
        self.assertEqual(samples[done], 2)
        self.assertEqual(samples['nanoq_attempts_total{queue="default",type="a\\"b\\\\c\u202e<script>",verdict="retry"}'], 1)
        self.assertEqual(samples['nanoq_attempt_duration_seconds_bucket{queue="default",type="mail",le="+Inf"}'], 2)
        self.assertEqual(samples["nanoq_handlers_running"], 0)
        s = self.connect()
        s.sendall(b"GET /metrics/database HTTP/1.0\r\n\r\n")
        s.shutdown(socket.SHUT_WR) # as nc -N does
        self.assertEqual(self.answer(s)[0], 200)
        samples = self.scraped("/metrics/database")
        self.assertEqual(samples["nanoq_database_up"], 1)
        self.assertEqual(samples['nanoq_workers{queue="default"}'], 1)
        for path in ("/healthz", "/readyz"):
            status, _, body = self.ask(b"GET %s HTTP/1.0\r\n\r\n" % path.encode())
            self.assertEqual((status, body), (200, b"ok\n"))

    def test_stream_and_a_stop(self):
        self.run_nanoq("migrate")
        self.add("mail", "1")
        worker = self.work("--stream", "--", sys.executable, "-c", "import sys, json, time\nfor line in sys.stdin:\n"
                           " t = json.loads(line)\n if t['type'] == 'slow': time.sleep(2)\n"
                           " print(json.dumps({'done': t['id']}), flush=True)")
        self.wait(lambda: self.scraped().get('nanoq_attempts_total{queue="default",type="mail",verdict="done"}') == 1, "it")
        self.add("slow", "1")
        self.wait(lambda: self.scraped()["nanoq_handlers_running"] == 1, "the slow one")
        worker.terminate()
        self.wait(lambda: self.ask(b"GET /readyz HTTP/1.0\r\n\r\n")[0] == 503, "not ready any more")
        self.assertEqual(worker.wait(LIMIT), 0)
        self.assertRaises(OSError, self.connect)

    def test_alerts_and_dashboard_name_what_there_is(self):
        """make test-metrics fires each alert; here it is their names alone."""
        self.run_nanoq("migrate")
        self.add("mail", "1")
        self.work("--", "true")
        self.wait(lambda: self.scraped().get('nanoq_queue_wait_seconds_count{queue="default"}') == 1, "an attempt")
        there = {re.sub(r"\{.*", "", name) for path in ("/metrics", "/metrics/database") for name in self.scraped(path)}
        for name in ("prometheus/alerts.yml", "grafana/nanoq.json"):
            with open(os.path.join(TOP, "share", name), encoding="utf-8") as f:
                text = f.read()
            if name.endswith("json"):
                text = " ".join(t["expr"] for p in json.loads(text)["panels"] for t in p["targets"])
            named = set(re.findall(r"\bnanoq_\w+", text))
            self.assertGreater(len(named), 5)
            self.assertLessEqual(named, there, name)

    def test_what_is_no_request_for_it(self):
        self.run_nanoq("migrate")
        self.work("--", "true")
        host = b"Host: 127.0.0.1\r\n"
        for request, status in (
                (b"POST /metrics HTTP/1.1\r\n" + host + b"Content-Length: 3\r\n\r\nabc", 405),
                (b"DELETE / HTTP/1.1\r\n" + host + b"\r\n", 405), (b"GET / HTTP/1.1\r\n" + host + b"\r\n", 404),
                (b"GET /metrics/../etc/passwd HTTP/1.1\r\n" + host + b"\r\n", 404),
                (b"GET /metrics?x=1 HTTP/1.1\r\n" + host + b"\r\n", 200), (b"GET /metrics HTTP/1.1\n" + b"Host: [::1]:1\n\n", 200),
                (b"GET http://localhost/metrics HTTP/1.1\r\n" + host + b"\r\n", 200),
                (b"GET /metrics HTTP/2.0\r\n" + host + b"\r\n", 505), (b"GET /metrics HTTP/1.1\r\n\r\n", 400),
                (b"GET /metrics HTTP/1.1\r\n" + host + host + b"\r\n", 400), (b"GET  /metrics HTTP/1.1\r\n" + host + b"\r\n", 400),
                (b"GET /metrics HTTP/1.1\r\nHost: evil.example\r\n\r\n", 421), (b"GET\r\n\r\n", 400),
                (b"\x16\x03\x01\x02\x00\x01\n\n", 400), (b"GET /metrics HTTP/1.1\r\n" + host + b"no colon\r\n\r\n", 400),
                (b"GET /metrics HTTP/1.1\r\n" + host + b"x: a\0b\r\n\r\n", 400), (b"GET /metrics HTTP/1.1\r\n x: folded\r\n\r\n", 400),
                (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n" + host + b"\r\n", 431),
                (b"GET /metrics HTTP/1.1\r\n" + host + b"X: " + b"a" * 60000 + b"\r\n\r\n", 431)):
            got, headers, _ = self.ask(request)
            self.assertEqual(got, status, request[:80])
            self.assertIn("Connection: close", headers)
        self.assertIn("Allow: GET, HEAD", self.ask(b"PUT / HTTP/1.1\r\n" + host + b"\r\n")[1])
        status, headers, body = self.ask(b"HEAD /metrics HTTP/1.1\r\n" + host + b"\r\n")
        self.assertEqual((status, body), (200, b""))
        self.assertGreater(int(re.search(r"Content-Length: (\d+)", headers).group(1)), 100)
        # Pipelined: the first is answered, and the connection closed, as it says.
        _, _, body = self.ask((b"GET /healthz HTTP/1.1\r\n" + host + b"\r\n") * 50)
        self.assertEqual(body, b"ok\n")
        self.scraped()

    def test_slow_clients_keep_nobody_out(self):
        self.run_nanoq("migrate")
        self.work("--", "true")
        slow = [self.connect() for _ in range(200)]
        for s in slow[150:]:
            s.sendall(b"GET /metrics HT")
        self.scraped()
        self.assertEqual(self.answer(slow[0])[0], 0)  # the oldest was closed for a new one
        one = self.connect()
        one.sendall(b"GET /metr")
        began = time.monotonic()
        self.assertEqual(self.answer(one)[0], 408)
        self.assertGreater(time.monotonic() - began, 3)
        self.scraped()

    def test_where_it_listens(self):
        self.run_nanoq("migrate")
        for address in ("x", "1.2.3.4", "localhost:", "::1:80", "1:2:3", "127.0.0.1:65536", "example.org:80", ""):
            self.assertIn(b"--metrics", subprocess_err(self, "work", "--metrics", address, "--", "true"), address)
        self.work("--", "true", address="localhost:0")
        self.assertIn(b"cannot listen", subprocess_err(self, "work", "--metrics", str(self.port), "--", "true"))
        # Behind another address any name may be this host's.
        self.work("--", "true", address="0.0.0.0:0")
        self.assertEqual(self.ask(b"GET /healthz HTTP/1.1\r\nHost: queue.example\r\n\r\n")[0], 200)


class MysqlMetrics(MysqlBase, Metrics):
    pass


def subprocess_err(test, *args):
    process = test.start(*args, stdin=-1)
    process.stdin.close()
    process.stdin = None
    test.assertNotEqual(process.wait(LIMIT), 0, args)
    return process.stderr.read()


if __name__ == "__main__":
    unittest.main()
