#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# nanoq-dashboard over HTTP, on SQLite and, with NANOQ_TEST_MYSQL, on a MySQL or MariaDB server.
import http.client
import json
import os
import re
import select
import signal
import socket
import sqlite3
import subprocess
import threading
import time
import unittest
import urllib.parse

from test_cli import LIMIT, MYSQL, NANOQ, Base, MysqlBase

DASHBOARD = os.path.abspath(os.environ.get("NANOQ_DASHBOARD", os.path.join(os.path.dirname(NANOQ), "nanoq-dashboard")))
ADMIN, VIEWER = "admin-token-0123456789", "viewer-token-0123456789"
HOSTILE = ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "'; DROP TABLE nanoq_tasks; --", "\x1b[31mred\x1b[0m",
           "\u202egnp.exe", "\u2028\u2029", "a\nb\r\nc", "\t\\\\\"'`", "{{7*7}}${7*7}", "</textarea><svg/onload=alert(1)>",
           "javascript:alert(1)", "\x01\x02\x7f", "%00%0d%0a", "../../../etc/passwd", "&lt;b&gt;", "\ufeff\u200b\u200d",
           "💥" * 10, "a" * 200, "<!--", "]]>", "-->", "\\u003cscript\\u003e", "null", "NaN", "1e400", "__proto__",
           "constructor", "𝕊𝕔𝕣𝕚𝕡𝕥", "ＳＣＲＩＰＴ", "data: x\n\nevent: down\ndata: {}"]
ENDPOINTS = ["session", "overview", "overview?window=24h", "minutes", "minutes?window=1h&queue=mail", "tasks", "tasks/count",
             "tasks/1", "tasks/1/attempts", "tasks/1/why", "tasks/1/logs", "queues", "workers", "types", "types?window=7d", "schedules",
             "schedules/next?name=s&n=3", "schedules/firings?name=s", "doctor", "bulk", "log"]
POSTS = [("tasks/1/retry", {}), ("tasks/1/cancel", {}), ("tasks/1/delete", {}), ("queues/pause", {"queue": "mail"}),
         ("queues/resume", {"queue": "mail"}), ("queues/limit", {"queue": "mail"}), ("schedules/run", {"name": "s"}),
         ("schedules/pause", {"name": "s"}), ("schedules/resume", {"name": "s"}),
         ("bulk", {"action": "retry", "ids": [1]}), ("bulk/1/stop", {})]


def setUpModule():
    if not os.path.exists(DASHBOARD):
        raise unittest.SkipTest("nanoq-dashboard was not built: it needs libmicrohttpd, and npm (tools/deps dashboard)")


class Dashboard:
    """One that runs, and requests to it."""

    def __init__(self, test, *args, env=None, tokens=False):
        args = ["--listen", "127.0.0.1:0", *args]
        if tokens:
            args += ["--token-file", test.token_file()]
        self.process = subprocess.Popen([DASHBOARD, *args], env={**test.env, **(env or {})}, stdout=subprocess.DEVNULL,
                                        stderr=subprocess.PIPE)
        test.started.append(self.process)
        self.test, self.said = test, b""
        found = self.read_until(rb"listening on http://([^/]+)/")
        self.host = found.group(1).decode()
        self.port = int(self.host.rsplit(":", 1)[1])

    def read_until(self, pattern):
        until = time.monotonic() + LIMIT
        while not re.search(pattern, self.said):
            self.test.assertLess(time.monotonic(), until, (pattern, self.said))
            if select.select([self.process.stderr], [], [], 0.5)[0]:
                more = os.read(self.process.stderr.fileno(), 65536)
                self.test.assertTrue(more, self.said)
                self.said += more
        return re.search(pattern, self.said)

    def request(self, method, path, body=None, headers=None, raw=False):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=LIMIT)
        connection.request(method, path if raw else "/api/v1/" + path, body=body, headers={"Host": self.host, **(headers or {})})
        answer = connection.getresponse()
        data = answer.read()
        connection.close()
        return answer, data

    def get(self, path, status=200, **headers):
        answer, data = self.request("GET", path, headers={k.replace("_", "-"): v for k, v in headers.items()})
        self.test.assertEqual(answer.status, status, (path, data))
        return json.loads(data)

    def own(self, **more):
        """Headers that a page of ours sends with a change."""
        headers = {"Origin": "http://" + self.host, "Sec-Fetch-Site": "same-origin", "X-Nanoq-Request": "1"}
        headers.update({k.replace("_", "-"): v for k, v in more.items()})
        return {k: v for k, v in headers.items() if v is not None}

    def post(self, path, body=None, status=200, **headers):
        answer, data = self.request("POST", path, json.dumps(body or {}), self.own(**headers))
        self.test.assertEqual(answer.status, status, (path, data))
        return json.loads(data)

    def stream(self, **headers):
        s = socket.create_connection(("127.0.0.1", self.port), timeout=LIMIT)
        lines = "".join(f"{k.replace('_', '-')}: {v}\r\n" for k, v in headers.items())
        s.sendall(f"GET /api/v1/events HTTP/1.1\r\nHost: {self.host}\r\n{lines}\r\n".encode())
        return s

    def rss_kb(self):
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as f:
            return int(re.search(r"VmRSS:\s+(\d+)", f.read()).group(1))

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.test.assertEqual(self.process.wait(timeout=LIMIT), 0)


def read_events(s, want, until=None):
    """Events of a stream until one has this name, or is what `until` says."""
    text = b""
    while True:
        more = s.recv(65536)
        if not more:
            raise AssertionError(text)
        text += more
        for name, data in re.findall(rb"event: (\w+)\r?\n?(?:[0-9a-f]*\r\n)?data: (\{.*?\})\n\n", text):
            if name.decode() == want and (until is None or until(json.loads(data))):
                return json.loads(data)


class DashboardTests:
    def token_file(self):
        path = self.path("tokens")
        with open(path, "w", encoding="utf-8") as f:
            f.write(f"# who may\nadmin {ADMIN} alice\nviewer {VIEWER}\n")
        os.chmod(path, 0o600)
        return path

    def dashboard(self, *args, **kwargs):
        return Dashboard(self, *args, **kwargs)

    def test_every_address_answers_json(self):
        self.add("--queue", "mail", "--header", "lang=de", "--tag", "urgent", "email", '{"to": [1, 2.50]}')
        self.run_nanoq("cron", "add", "s", "*/5 * * * *", "tick")
        d = self.dashboard()
        for path in ENDPOINTS:
            answer, data = d.request("GET", path)
            self.assertEqual(answer.status, 200, (path, data))
            self.assertEqual(answer.headers["Content-Type"], "application/json")
            self.assertEqual(answer.headers["Cache-Control"], "no-store")
            self.assertIn("default-src 'none'", answer.headers["Content-Security-Policy"])
            self.assertIn("frame-ancestors 'none'", answer.headers["Content-Security-Policy"])
            self.assertEqual(answer.headers["X-Content-Type-Options"], "nosniff")
            self.assertEqual(answer.headers["Referrer-Policy"], "no-referrer")
            json.loads(data)
        shown, here = self.show(1), d.get("tasks/1")
        for name, value in shown.items():
            self.assertEqual(here[name], value, name)
        self.assertEqual(here["payload"], '{"to": [1, 2.50]}')
        self.assertFalse(here["masked"])
        self.assertEqual(d.get("tasks")["tasks"], self.json("list"))
        self.assertEqual(d.get("session")["role"], "admin")
        queue = next(q for q in d.get("queues")["queues"] if q["queue"] == "mail")
        for name, value in self.json("queues")[0].items():
            self.assertEqual(queue.get(name), value, name)
        answer, data = d.request("GET", "/metrics", raw=True)
        self.assertTrue(answer.headers["Content-Type"].startswith("text/plain; version=0.0.4"))
        self.assertIn(b"nanoq_database_up 1\n", data)
        self.assertEqual(d.get("tasks/1/why")["reasons"], self.json("why", "1"))
        self.assertEqual(len(d.get("schedules/next?name=s&n=3")["next"]), 3)
        self.assertEqual(d.get("schedules")["schedules"], self.json("cron", "list"))
        minutes = d.get("minutes?window=15m")
        self.assertEqual({len(v) for k, v in minutes.items() if k != "step"}, {16})
        self.assertEqual(d.get("overview?window=24h")["series"]["step"], 600)
        d.stop()

    def test_steering(self):
        for name in ("a", "b", "c"):
            self.add("--queue", "mail", name)
        self.run_nanoq("cron", "add", "s", "@every 1h", "tick")
        d = self.dashboard()
        d.post("tasks/1/cancel")
        self.assertEqual(self.show(1)["state"], "cancelled")
        d.post("tasks/1/retry")
        self.assertEqual(self.show(1)["state"], "waiting")
        d.post("tasks/1/delete")
        d.post("tasks/1/delete", status=404)
        d.post("queues/pause", {"queue": "mail", "why": "a look"})
        self.assertEqual(self.json("queues")[0]["paused_why"], "a look")
        d.post("queues/resume", {"queue": "mail"})
        self.assertFalse(self.json("queues")[0]["paused"])
        d.post("queues/limit", {"queue": "mail", "max_running": 3, "rate_starts": 50, "rate_time": "1m", "burst": 5})
        row = self.json("queues")[0]
        self.assertEqual([row["limit"], row["rate_starts"], row["rate_time"], row["burst"]], [3, 50, 60, 5])
        d.post("queues/limit", {"queue": "mail", "keep_done": "7d", "keep_dead": "none"})
        row = self.json("queues")[0]
        self.assertEqual([row["limit"], row["keep_done"], row["keep_dead"]], [None, 604800, 0])
        d.post("queues/limit", {"queue": "mail", "keep_done": 1.5, "keep_dead": "forever"})
        one = next(q for q in d.get("queues")["queues"] if q["queue"] == "mail")
        self.assertEqual([one["keep_done"], one["keep_dead"]], [1.5, "forever"])
        d.post("queues/limit", {"queue": "mail", "group": "*", "ordered": "halt", "weight": None})
        d.post("queues/limit", {"queue": "mail"})
        self.assertIsNone(next(q for q in self.json("queues") if q["queue"] == "mail")["limit"])
        made = d.post("schedules/run", {"name": "s"})["id"]
        self.assertEqual(self.show(made)["schedule"], "s")
        d.post("schedules/run", {"name": "s"}, 409)
        d.post("schedules/pause", {"name": "s", "why": "later"})
        self.assertEqual(self.json("cron", "list")[0]["paused_why"], "later")
        d.post("schedules/resume", {"name": "s"})
        for path, body in [("queues/pause", {}), ("queues/pause", {"queue": "no such/../name!"}), ("queues/pause", {"queue": 7}),
                           ("queues/limit", {"queue": "mail", "colour": 1}), ("queues/limit", {"queue": "mail", "max_running": -1}),
                           ("queues/limit", {"queue": "mail", "max_running": 1.5}), ("queues/limit", {"queue": "mail", "ordered": "odd"}),
                           ("queues/limit", {"queue": "mail", "rate_starts": 5, "rate_time": "x"}), ("queues/limit", {"queue": "mail", "keep_done": -1}),
                           ("queues/limit", {"queue": "mail", "keep_dead": "soon"}), ("schedules/run", {}),
                           ("schedules/pause", {"name": "a\x00b"})]:
            self.assertEqual(d.post(path, body, 400)["error"]["code"], "EINVAL", (path, body))
        for body in (b"[1]", b"{", b'{"a": 1, "a": 2}', b"\xff\xfe"):
            answer, data = d.request("POST", "queues/pause", body, d.own())
            self.assertEqual(answer.status, 400, (body, data))
        log = d.get("log?limit=100")["log"]
        self.assertEqual((log[-1]["action"], log[-1]["what"], log[-1]["who"], log[-1]["result"]), ("task cancel", "1", "local", "ok"))
        self.assertIn("mail: a look", [l["what"] for l in log])
        self.assertTrue(any("no task 1" in l["result"] for l in log))
        d.read_until(rb"local: queue pause mail: a look: ok")
        d.stop()

    def test_pages_of_tasks_by_filter(self):
        for i in range(1, 11):
            self.add("--queue", "q%d" % (i % 2), "--tag", "t%d" % (i % 3), "type.%d" % i, '{"n": %d}' % i)
        d = self.dashboard()

        def page(query):
            found = d.get("tasks?" + query)
            return [t["id"] for t in found["tasks"]], found["more_before"], found["more_after"]
        self.assertEqual(page("limit=4"), ([10, 9, 8, 7], False, True))
        self.assertEqual(page("limit=4&after=7"), ([6, 5, 4, 3], True, True))
        self.assertEqual(page("limit=4&after=3"), ([2, 1], True, False))
        self.assertEqual(page("limit=4&before=2"), ([6, 5, 4, 3], True, True))
        self.assertEqual(page("limit=4&before=6"), ([10, 9, 8, 7], False, True))
        self.assertEqual(page("limit=4&order=oldest&after=4"), ([5, 6, 7, 8], True, True))
        self.assertEqual(page("queue=q1&limit=10"), ([9, 7, 5, 3, 1], False, False))
        self.assertEqual(page("queue=q1,q0&state=waiting&limit=2"), ([10, 9], False, True))
        self.assertEqual(page("type=type.1*&order=oldest"), ([1, 10], False, False))
        self.assertEqual(page("tag=t0"), ([9, 6, 3], False, False))
        self.assertEqual(page("text=" + urllib.parse.quote('"n": 7')), ([7], False, False))
        self.assertEqual(page("state=dead"), ([], False, False))
        d.stop()

    def test_changes_are_refused_without_origin_header_token_or_role(self):
        self.add("--queue", "mail", "email")
        self.run_nanoq("cron", "add", "s", "@daily", "tick")
        d = self.dashboard(tokens=True)
        admin, viewer = "Bearer " + ADMIN, "Bearer " + VIEWER
        for path, body in POSTS + [("login", {"token": ADMIN}), ("logout", {})]:
            for change in ({"Origin": None}, {"Origin": "http://evil.example"}, {"Origin": "null"}, {"Origin": "http://" + d.host + ".evil"},
                           {"Sec_Fetch_Site": "cross-site"}, {"Sec_Fetch_Site": "same-site"}, {"Sec_Fetch_Site": "none"},
                           {"X_Nanoq_Request": None}, {"X_Nanoq_Request": "0"}):
                error = d.post(path, body, 403, Authorization=admin, **change)["error"]
                self.assertEqual(error["code"], "EFORBIDDEN", (path, change))
        for path, body in POSTS:
            self.assertEqual(d.post(path, body, 401)["error"]["code"], "EAUTH")
            self.assertEqual(d.post(path, body, 403, Authorization=viewer)["error"]["code"], "EFORBIDDEN")
        self.assertEqual(self.show(1)["state"], "waiting")
        d.post("tasks/1/cancel", Authorization=admin)
        self.assertEqual(d.get("log", Authorization=viewer)["log"][0]["who"], "alice")
        d.stop()
        d = self.dashboard("--read-only", tokens=True)
        for path, body in POSTS:
            self.assertIn("read-only", d.post(path, body, 403, Authorization=admin)["error"]["message"])
        self.assertEqual(self.show(1)["state"], "cancelled")
        self.assertTrue(d.get("session", Authorization=admin)["read_only"])
        d.stop()

    def test_bulk_jobs(self):
        for i in range(30):
            self.add("--queue", "mail", "email", str(i))
        self.add("--queue", "other", "email", "x", "--raw")
        d = self.dashboard()

        def ended(job):
            found = {}
            self.wait(lambda: found.update(next(j for j in d.get("bulk")["jobs"] if j["id"] == job)) or found["state"] != "running",
                      "the job to end")
            return found
        mail = {"queue": "mail", "state": ["waiting"]}
        self.assertEqual(d.post("bulk", {"action": "cancel", "filter": mail, "dry_run": True})["would"], 30)
        self.assertEqual(d.get("bulk")["jobs"], [])
        job = ended(d.post("bulk", {"action": "cancel", "filter": mail, "limit": 12})["bulk"])
        self.assertEqual((job["state"], job["done"], job["total"], job["action"], job["filter"], job["who"]),
                         ("done", 12, 12, "cancel", mail, "local"))
        self.assertEqual(d.get("tasks/count?state=cancelled"), {"n": 12, "capped": False, "bounded": False})
        job = ended(d.post("bulk", {"action": "retry", "filter": {"state": "cancelled"}})["bulk"])
        self.assertEqual((job["done"], job["skipped"]), (12, 0))
        ended(d.post("bulk", {"action": "move", "filter": {"queue": "other"}, "to_queue": "third"})["bulk"])
        self.assertEqual(self.show(31)["queue"], "third")
        ended(d.post("bulk", {"action": "priority", "filter": {"queue": "third"}, "priority": -7})["bulk"])
        self.assertEqual(self.show(31)["priority"], -7)
        job = ended(d.post("bulk", {"action": "cancel", "ids": [1, 2, 999]})["bulk"])
        self.assertEqual((job["done"], job["skipped"], job["total"], job["ids"]), (2, 1, 3, 3))
        self.assertEqual(d.post("bulk", {"action": "move", "ids": [1, 3, 31, 999], "to_queue": "x", "dry_run": True})["would"], 2)
        job = ended(d.post("bulk", {"action": "move", "ids": [1, 3, 31, 999], "to_queue": "x"})["bulk"])
        self.assertEqual((job["state"], job["done"], job["skipped"], job["total"]), ("done", 2, 2, 4))
        self.assertEqual([self.show(i)["queue"] for i in (1, 3, 31)], ["mail", "x", "x"])
        ended(d.post("bulk", {"action": "priority", "ids": [3], "priority": 9})["bulk"])
        self.assertEqual(self.show(3)["priority"], 9)
        self.assertEqual([task["id"] for task in d.get("tasks?id=3,31&id=999")["tasks"]], [31, 3])
        self.assertEqual(d.get("tasks/count?id=3,31,999")["n"], 2)
        slow = d.post("bulk", {"action": "cancel", "filter": mail, "rate": "1/s"})["bulk"]
        d.post(f"bulk/{slow}/stop")
        self.assertEqual(ended(slow)["state"], "stopped")
        self.assertLess(ended(slow)["done"], 28)
        d.post("bulk/99/stop", status=404)
        for body in ({}, {"action": "odd", "ids": [1]}, {"action": "retry"}, {"action": "retry", "ids": []}, {"action": "retry", "ids": ["1"]},
                     {"action": "retry", "ids": [1], "filter": {}}, {"action": "cancel", "filter": {}}, {"action": "move", "filter": mail},
                     {"action": "priority", "filter": mail}, {"action": "retry", "filter": {"colour": "red"}},
                     {"action": "retry", "filter": {"state": 3}}, {"action": "cancel", "filter": mail, "rate": "fast"},
                     {"action": "move", "ids": [1]}, {"action": "priority", "ids": [1]}, {"action": "retry", "ids": [0]},
                     {"action": "retry", "ids": list(range(1, 1002))}, {"action": "retry", "filter": {"id": "1;2"}},
                     # what would mean more than was meant, or happen where it was only asked for
                     {"action": "delete", "filter": mail, "dry_run": 1}, {"action": "delete", "filter": mail, "dry_run": "true"},
                     {"action": "delete", "filter": mail, "dry-run": True}, {"action": "delete", "filter": {}, "all": 1},
                     {"action": "delete", "filter": {"queue": "mail", "id": []}}, {"action": "delete", "filter": {"queue": "mail", "tag": ""}},
                     {"action": "delete", "filter": {"queue": "mail", "tag": [""]}}):
            self.assertEqual(d.post("bulk", body, 400)["error"]["code"], "EINVAL", body)
        self.assertGreater(d.post("bulk", {"action": "delete", "ids": None, "filter": mail, "dry_run": True})["would"], 0)
        d.post("queues/pause", {"queue": "mail", "grup": "42"}, 400)
        log = d.get("log")["log"]
        self.assertIn("move ids 1, 3, 31, 999", [l["what"] for l in log])
        self.assertNotIn("dry", "".join(l["what"] for l in log))
        self.assertEqual(len([l for l in log if l["what"].startswith("move ids")]), 1)
        self.run_nanoq("add", "--stdin", stdin=b'{"type": "t", "queue": "long", "unique": false}\n' * 300)
        slow = d.post("bulk", {"action": "cancel", "filter": {"queue": "long", "state": ["waiting"]}, "rate": "1/s"})["bulk"]
        # One that runs stays in the list, however many come after it.
        for _ in range(60):
            last = d.post("bulk", {"action": "retry", "ids": [999]})["bulk"]
            ended(last)
        jobs = [(job["id"], job["state"]) for job in d.get("bulk")["jobs"]]
        self.assertEqual((len(jobs), jobs[0], jobs[-1]), (50, (last, "done"), (slow, "running")))
        self.assertEqual(jobs, sorted(jobs, reverse=True))
        d.stop()

    def test_logs_of_a_task(self):
        self.add("--keep", "1h", "t")
        self.run_nanoq("work", "--drain", "--quiet", "--keep-logs", "--", "sh", "-c", "echo one >&2; echo two >&2")
        d = self.dashboard()
        lines = d.get("tasks/1/logs")["lines"]
        self.assertEqual([(line["seq"], line["level"], line["text"]) for line in lines],
                         [("1.1", "info", "one"), ("1.2", "info", "two")])
        self.assertEqual([line["text"] for line in d.get("tasks/1/logs?after=1.1")["lines"]], ["two"])
        self.assertEqual(d.get("tasks/1/logs?after=1.2")["lines"], [])
        self.assertEqual(d.get("tasks/1/logs?after=4294967295.4294967295")["lines"], [])
        for bad in ("1", "1.", ".1", "-1.1", "1.1x", "4294967296.1", "99999999999999999999999.1"):
            d.get("tasks/1/logs?after=" + bad, 400)
        d.stop()

    def test_streams(self):
        self.add("--queue", "mail", "email")
        d = self.dashboard()
        streams = [d.stream() for _ in range(64)]
        for s in streams:
            sample = read_events(s, "sample")
            self.assertEqual(sample["totals"]["due"], 1)
            self.assertEqual(sample["queues"][0]["queue"], "mail")
        self.assertEqual(d.get("events", 429)["error"]["code"], "EBUSY")
        self.assertEqual(d.get("tasks")["tasks"][0]["type"], "email")
        self.add("--queue", "mail", "another")
        for s in streams:
            read_events(s, "sample", lambda e: e["totals"]["due"] == 2)
        rss = d.rss_kb()
        print(f"\nRSS with 64 streams: {rss} kB", flush=True)
        self.assertLess(rss, 10 * 1024 if "san" not in DASHBOARD else 10**9)
        for s in streams:
            s.close()
        self.assertEqual(d.get("overview")["series"]["due"][-1], 2)
        d.stop()

    def test_masked_keys(self):
        payload = {"user": "bob", "Password": "hunter2", "deep": [{"token": {"a": ["hunter2"]}}], "n": 1}
        self.add("--header", "token=hunter2", "--header", "lang=de", "t1", json.dumps(payload))
        self.add("--raw", "t2", json.dumps({"inner": json.dumps({"password": "hunter2", "x": 1})}))
        self.add("--raw", "t3", 'oops {"p\\u0061ssword" : "hunter2\\"} hunter2", "x": [1')
        self.add("--raw", "t4", '{"pad": "%s", "password": "hunter2 %s"}' % ("x" * 200, "hunter2" * 50))
        self.run_nanoq("work", "--drain", "--quiet", "--keep-logs", "--type", "t1", "--", "sh", "-c",
                       "echo '{\"password\": \"hunter2\"}' >&2; exit 65", code=5)
        self.add("--raw", "t5", json.dumps({"contrase\u00f1a": "hunter2", "\U0001f511": "hunter2", "inner": json.dumps({"Contrase\u00f1a": "hunter2"})}))
        self.add("--raw", "t6", json.dumps({"contrase\u00f1a": "hunter2", "\U0001f511": "hunter2"}, ensure_ascii=False))
        self.run_nanoq("cron", "add", "--header", 'ctx={"token": "hunter2"}', "s", "@yearly", "t7")
        self.run_nanoq("cron", "pause", "s", "--why", '{"password": "hunter2"}')
        d = self.dashboard("--mask", "password,token,contrase\u00f1a,\U0001f511", tokens=True)
        who = {"Authorization": "Bearer " + ADMIN}
        for path in ("tasks/1", "tasks/2", "tasks/3", "tasks/4", "tasks/5", "tasks/6", "tasks", "tasks/1/attempts", "tasks/1/why", "tasks/1/logs",
                     "schedules"):
            _, data = d.request("GET", path, headers=who)
            self.assertNotIn(b"hunter2", data, path)
            self.assertIn(b"***", data, path)
        one = d.get("tasks/1", **who)
        self.assertEqual(json.loads(one["payload"]), {"user": "bob", "Password": "***", "deep": [{"token": "***"}], "n": 1})
        schedule = d.get("schedules", **who)["schedules"][0]
        self.assertEqual((schedule["headers"], schedule["paused_why"]), ({"ctx": '{"token": "***"}'}, '{"password": "***"}'))
        self.assertEqual((one["headers"], one["masked"], one["command"]), ({"lang": "de", "token": "***"}, True, None))
        self.assertEqual(json.loads(json.loads(d.get("tasks/2", **who)["payload"])["inner"]), {"password": "***", "x": 1})
        self.assertEqual([t["id"] for t in d.get("tasks?text=hunter2&order=oldest", **who)["tasks"]][:1], [1])
        for query in ("text=hunter", "payload=hunter", "error=hunter"):
            d.get("tasks?" + query, 400, Authorization="Bearer " + VIEWER)
        d.stop()


class SqliteDashboard(DashboardTests, Base):
    def setUp(self):
        super().setUp()
        self.run_nanoq("migrate")

    # What does not ask the database is the same on every store.

    def test_wrong_addresses_and_parameters(self):
        d = self.dashboard()
        for path, status in [("nothing", 404), ("tasks/99", 404), ("tasks/0", 404), ("tasks/x", 404), ("tasks/9999999999999999999", 404),
                             ("tasks/99/why", 404), ("tasks/99/attempts", 404), ("tasks/99/logs", 404), ("tasks/1/logs?after=x", 400), ("tasks?limit=0", 400), ("tasks?limit=501", 400),
                             ("tasks?after=x", 400), ("tasks?state=odd", 400), ("tasks?colour=red", 400), ("tasks?order=up", 400),
                             ("tasks?group=1", 400), ("tasks?since=yesterday", 400), ("overview?window=3m", 400), ("minutes?window=x", 400),
                             ("schedules/next", 400), ("schedules/next?name=none", 404), ("schedules/firings", 400), ("log?limit=x", 400),
                             ("bulk/1/stop", 405), ("login", 405), ("tasks?" + "&".join("x=1" for _ in range(70)), 400),
                             ("tasks?queue=a%00b", 400)]:
            error = d.get(path, status)["error"]
            self.assertTrue(error["code"].startswith("E") and error["message"], path)
        answer, _ = d.request("GET", "/nothing.html", raw=True)
        self.assertEqual(answer.status, 404)
        for method in ("PUT", "DELETE", "POST"):
            answer, _ = d.request(method, "tasks/1", headers=d.own())
            self.assertEqual(answer.status, 405, method)
        d.stop()

    def test_tokens_and_sessions(self):
        d = self.dashboard(tokens=True)
        self.assertEqual(d.request("GET", "/metrics", raw=True)[0].status, 401)
        for path in ENDPOINTS + ["events"]:
            self.assertEqual(d.get(path, 401)["error"]["code"], "EAUTH", path)
        self.assertEqual(d.get("session", Authorization="Bearer " + VIEWER)["role"], "viewer")
        self.assertEqual(d.get("session", 401, Authorization="Basic x")["error"]["code"], "EAUTH")
        answer, data = d.request("POST", "login", json.dumps({"token": ADMIN}), d.own())
        self.assertEqual((answer.status, json.loads(data)), (200, {"role": "admin"}))
        cookie = answer.headers["Set-Cookie"]
        for word in ("HttpOnly", "SameSite=Strict"):
            self.assertIn(word, cookie)
        self.assertNotIn(ADMIN, cookie)
        cookie = cookie.split(";")[0]
        session = d.get("session", Cookie=cookie)
        self.assertEqual((session["role"], session["who"], session["token"]), ("admin", "alice", True))
        stream = d.stream(Cookie=cookie)
        read_events(stream, "sample")
        d.post("logout", Cookie=cookie)
        d.get("session", 401, Cookie=cookie)
        stream.settimeout(LIMIT)
        while stream.recv(65536):
            pass  # it ends with its session
        wrong = [d.request("POST", "login", json.dumps({"token": "wrong-token-0123456789"}), d.own())[0].status for _ in range(30)]
        self.assertEqual((wrong[0], wrong[-1]), (401, 429))
        self.assertEqual(d.get("session", Authorization="Bearer " + ADMIN)["role"], "admin")
        d.read_until(rb"login")
        self.assertNotIn(b"wrong-token", d.said)
        self.assertNotIn(ADMIN.encode(), d.said)
        d.stop()

    def test_what_is_refused_at_the_start(self):
        def refused(*args, env=None):
            done = subprocess.run([DASHBOARD, *args], env={**self.env, **(env or {})}, capture_output=True, timeout=LIMIT)
            self.assertNotEqual(done.returncode, 0, args)
            return done.stderr.decode()
        self.assertIn("--token-file", refused("--listen", "0.0.0.0:0"))
        self.assertIn("--token-file", refused("--listen", "[::]:0"))
        self.assertIn("--listen", refused("--listen", "example.org:80"))
        self.assertIn("--listen", refused("--listen", "127.0.0.1:99999"))
        self.assertIn("go together", refused("--trust-header", "X-User"))
        self.assertIn("--trust-from", refused("--trust-header", "X-User", "--trust-from", "10.0.0.0/99"))
        self.assertIn("takes no argument", refused("x"))
        path = self.token_file()
        os.chmod(path, 0o604)
        self.assertIn("chmod 600", refused("--token-file", path))
        for mode, good in ((0o440, True), (0o640, True), (0o460, False), (0o444, False)) if os.getuid() == 0 else ():
            os.chmod(path, mode)  # as systemd leaves a credential, which an access list gives to its user; and more than that
            os.chown(path, 0, 0)
            if good:
                self.dashboard("--token-file", path).stop()
            else:
                self.assertIn("chmod 600", refused("--token-file", path))
        os.chmod(path, 0o600)
        for text in ("", "admin short\n", "root long-enough-0123456789\n"):
            with open(path, "w", encoding="utf-8") as f:
                f.write(text)
            self.assertIn("token", refused("--token-file", path))
        self.assertIn("cannot read", refused("--token-file", self.path("none")))
        secret = refused("--listen", "127.0.0.1:0", "--db", "mysql://app:hunter2@127.0.0.1:1/x")
        self.assertNotIn("hunter2", secret)

    def test_a_trusted_proxy_says_who(self):
        d = self.dashboard("--trust-header", "X-User", "--trust-from", "127.0.0.1/32", "--trust-admin", "root,alice")
        d.get("session", 401)
        self.assertEqual(d.get("session", X_User="bob")["role"], "viewer")
        self.assertEqual(d.get("session", X_User="alice")["role"], "admin")
        connection = http.client.HTTPConnection("127.0.0.1", d.port, timeout=LIMIT)
        connection.putrequest("GET", "/api/v1/session", skip_host=True)
        for name, value in (("Host", d.host), ("X-User", "alice"), ("X-User", "bob")):
            connection.putheader(name, value)
        connection.endheaders()
        self.assertEqual(connection.getresponse().status, 401)
        d.stop()
        d = self.dashboard("--trust-header", "X-User", "--trust-from", "10.0.0.0/8,fd00::/8", "--trust-admin", "*")
        d.get("session", 401, X_User="alice")
        d.stop()
        # A proxy that asks for a password sends on what the browser said to it; programs come with tokens.
        d = self.dashboard("--trust-header", "X-User", "--trust-from", "127.0.0.1/32", tokens=True)
        for _ in range(30):
            self.assertEqual(d.get("session", X_User="bob", Authorization="Basic Ym9iOnNlY3JldA==")["who"], "bob")
        d.get("session", 401, Authorization="Basic Ym9iOnNlY3JldA==")
        d.get("session", 401, X_User="bob", Authorization="Bearer wrong-token-0123456789")
        self.assertEqual(d.get("session", X_User="bob", Authorization="Bearer " + ADMIN)["role"], "admin")
        d.stop()

    def test_hosts(self):
        d = self.dashboard("--host", "tasks.example")
        for host, status in [("localhost", 200), ("LOCALHOST:1", 200), ("127.0.0.1", 200), ("[::1]:80", 200), ("tasks.example", 200),
                             ("tasks.example:8080", 200), ("evil.example", 421), ("127.0.0.1.evil.example", 421), ("localhost:x", 421),
                             ("", 421), ("tasks.example.", 421)]:
            answer, _ = d.request("GET", "session", headers={"Host": host})
            self.assertEqual(answer.status, status, host)
        with socket.create_connection(("127.0.0.1", d.port), timeout=LIMIT) as s:
            s.sendall(b"GET /api/v1/session HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n")
            self.assertIn(b" 4", s.recv(65536).split(b"\r\n")[0])
        d.stop()

    def test_sizes_and_slow_clients(self):
        d = self.dashboard()
        answer, _ = d.request("POST", "queues/pause", b"x" * 70000, d.own())
        self.assertEqual(answer.status, 413)
        with socket.create_connection(("127.0.0.1", d.port), timeout=LIMIT) as s:
            s.sendall(b"POST /api/v1/queues/pause HTTP/1.1\r\nHost: localhost\r\nOrigin: http://localhost\r\nX-Nanoq-Request: 1\r\n"
                      b"Transfer-Encoding: chunked\r\n\r\n")
            for _ in range(9):
                s.sendall(b"2000\r\n" + b"x" * 8192 + b"\r\n")
            s.sendall(b"0\r\n\r\n")
            self.assertIn(b" 413 ", s.recv(65536).split(b"\r\n")[0])
        with socket.create_connection(("127.0.0.1", d.port), timeout=LIMIT) as s:
            try:
                s.sendall(b"GET /api/v1/session HTTP/1.1\r\nHost: localhost\r\nX: " + b"y" * 40000 + b"\r\n\r\n")
                first = s.recv(65536)
            except ConnectionError:
                first = b""
            self.assertRegex(first.split(b"\r\n")[0], rb"^$| 4\d\d ")
        # A byte now and then keeps nobody's place; others are answered meanwhile.
        slow = [socket.create_connection(("127.0.0.1", d.port), timeout=LIMIT) for _ in range(20)]
        began, open_still = time.monotonic(), list(slow)
        for s in slow:
            s.sendall(b"GET /api/v1/session HTTP/1.1\r\nHo")
        while open_still:
            self.assertLess(time.monotonic() - began, 25)
            self.assertEqual(d.get("session")["role"], "admin")
            select.select([], [], [], 0.5)
            for s in list(open_still):
                try:
                    s.send(b"s")
                    if select.select([s], [], [], 0)[0] and not s.recv(1000):
                        open_still.remove(s)
                except ConnectionError:
                    open_still.remove(s)
        self.assertGreater(time.monotonic() - began, 10)
        for s in slow:
            s.close()
        d.stop()

    def test_pages(self):
        d = self.dashboard()
        answer, data = d.request("GET", "/", raw=True)
        if answer.status == 404:
            self.skipTest("no pages are compiled in")
        self.assertIn("text/html", answer.headers["Content-Type"])
        self.assertIn("default-src 'none'", answer.headers["Content-Security-Policy"])
        for path in set(re.findall(rb'(?:src|href)="([a-z][^":]*)"', data)):
            answer, plain = d.request("GET", "/" + path.decode(), raw=True)
            self.assertEqual(answer.status, 200, path)
            kind = {"js": "text/javascript", "css": "text/css"}[path.decode().rsplit(".", 1)[1]]
            self.assertTrue(answer.headers["Content-Type"].startswith(kind), path)
            tag = answer.headers["ETag"]
            packed, _ = d.request("GET", "/" + path.decode(), headers={"Accept-Encoding": "gzip"}, raw=True)
            self.assertEqual(packed.headers["Content-Encoding"], "gzip")
            same, nothing = d.request("GET", "/" + path.decode(), headers={"If-None-Match": tag}, raw=True)
            self.assertEqual((same.status, nothing), (304, b""))
        d.stop()

    def test_commands_add_the_same_again(self):
        made = self.add("--queue", "mail", "--group", "it's", "--priority", "5", "--timeout", "90s", "--max-retries", "3", "--header",
                        "lang=de AT", "--tag", "a b", "e'mail", '{"a": "it\'s $HOME"}')
        plain = self.add("--raw", "text", "no JSON\n$(id)")
        d = self.dashboard()
        for task in (made, plain):
            command = d.get(f"tasks/{task}")["command"]
            script = command.replace("nanoq add", f"{NANOQ} add --no-unique", 1)
            again = int(subprocess.run(["sh", "-c", script], env=self.env, check=True, capture_output=True, timeout=LIMIT).stdout)
            before, after = self.show(task), self.show(again)
            for name in ("queue", "group", "type", "priority", "timeout", "max_retries", "headers", "tags", "payload"):
                self.assertEqual(before[name], after[name], (name, command))
        # Not what a terminal would take for something else, wherever it stands.
        hidden = [self.add("--raw", "text", "a\u202eb"), self.add("--tag", "a\u200bb", "tagged"), self.add("--header", "a=\u2066b", "told"),
                  self.add("typed"), self.add("queued")]
        db = sqlite3.connect(self.path("state/nanoq/nanoq.db"))
        db.execute("PRAGMA ignore_check_constraints = 1")
        db.execute("UPDATE nanoq_tasks SET type = ? WHERE id = ?", ("a\u0085b", hidden[-2]))
        db.execute("UPDATE nanoq_tasks SET queue = ? WHERE id = ?", ("a\u202eb", hidden[-1]))
        db.commit()
        db.close()
        for task in hidden:
            self.assertIsNone(d.get(f"tasks/{task}")["command"], task)
        d.stop()

    def test_dead_workers_are_no_workers(self):
        with sqlite3.connect(self.path("state/nanoq/nanoq.db")) as db:
            for ago in (1, 3600):
                at = int((time.time() - ago) * 1e6)
                db.execute("INSERT INTO nanoq_workers (name, beat, started_at, beat_at, queues, concurrency, running) "
                           "VALUES ('h', 1, ?, ?, 'default', 4, 3)", (at, at))
        d = self.dashboard()
        self.assertEqual(d.get("overview")["workers"], {"n": 1, "running": 3, "concurrency": 4})
        d.stop()

    def test_hostile_strings_stay_strings(self):
        """Whoever can write to the tables, in every column that takes text."""
        for text in HOSTILE:
            self.add("--no-unique", "x", "{}")
        self.run_nanoq("cron", "add", "s", "@daily", "tick")
        path = self.path("state/nanoq/nanoq.db")
        db = sqlite3.connect(path)
        names = {"nanoq_tasks": ["type", "payload", "error", "progress_note"], "nanoq_schedules": ["type", "paused_why", "error"]}
        for table, columns in names.items():
            have = [row[1] for row in db.execute(f"PRAGMA table_info({table})")]
            for column in columns:
                if column not in have:
                    continue
                for i, text in enumerate(HOSTILE, 1):
                    where = f"WHERE id = {i}" if table == "nanoq_tasks" else ""
                    value = text.encode() if column == "payload" else text
                    db.execute(f"UPDATE {table} SET {column} = ? {where}", (value,))
        db.commit()
        db.close()
        d = self.dashboard()
        tasks = {t["id"]: t for t in d.get("tasks?limit=100")["tasks"]}
        for i, text in enumerate(HOSTILE, 1):
            self.assertEqual(tasks[i]["type"], text)
            self.assertEqual(d.get(f"tasks/{i}")["payload"], text)
            json.dumps(d.get(f"tasks/{i}/why"))
            query = urllib.parse.urlencode({"type": text, "text": text, "error": text, "tag": text, "worker": text})
            answer, data = d.request("GET", "tasks?" + query)
            self.assertIn(answer.status, (200, 400))
            json.loads(data)
            json.loads(d.request("POST", "queues/pause", json.dumps({"queue": text, "why": text}), d.own())[1])
            json.loads(d.request("POST", "schedules/run", json.dumps({"name": text}), d.own())[1])
        for path in ENDPOINTS:
            json.loads(d.request("GET", path)[1])
        self.assertNotIn("\x1b", d.process.stderr.read1(1 << 20).decode() if select.select([d.process.stderr], [], [], 0)[0] else "")
        read_events(d.stream(), "sample")
        d.stop()

    def test_nanoq_dashboard_runs_it(self):
        done = subprocess.run([NANOQ, "--db", "mysql://u:geheim@127.0.0.1:1/x", "dashboard", "--listen", "127.0.0.1:0"],
                              env=self.env, capture_output=True, timeout=LIMIT)
        self.assertEqual(done.returncode, 69)
        self.assertNotIn(b"geheim", done.stderr)
        self.assertIn(b"--token-file", self.run_nanoq("dashboard", "--help"))


class Proxy:
    """Between the dashboard and its server: it can be away."""

    def __init__(self, host, port):
        self.to, self.open = (host, port), []
        self.listen(0)

    def listen(self, port):
        self.listening = socket.create_server(("127.0.0.1", port))
        self.port = self.listening.getsockname()[1]
        threading.Thread(target=self.accept, args=(self.listening,), daemon=True).start()

    def accept(self, listening):
        while True:
            try:
                near, _ = listening.accept()
                far = socket.create_connection(self.to)
            except OSError:
                return
            self.open += [near, far]
            for a, b in ((near, far), (far, near)):
                threading.Thread(target=self.copy, args=(a, b), daemon=True).start()

    @staticmethod
    def copy(a, b):
        try:
            while True:
                data = a.recv(65536)
                if not data:
                    break
                b.sendall(data)
        except OSError:
            pass
        for s in (a, b):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def away(self):
        self.listening.shutdown(socket.SHUT_RDWR)
        self.listening.close()
        for s in self.open:
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        self.open = []


class MysqlDashboard(DashboardTests, MysqlBase):
    def setUp(self):
        super().setUp()
        self.run_nanoq("migrate")

    def asking(self, seconds):
        """Has a session in this database asked anything in the last so many seconds?"""
        at_work = (f"SELECT COUNT(*) FROM information_schema.processlist WHERE db = '{self.database}' AND NOT (command = 'Sleep' "
                   f"AND time >= {seconds})")
        return self.client(at_work).stdout.strip() != b"0"

    def test_nothing_is_asked_while_nobody_looks(self):
        d = self.dashboard()
        s = d.stream()
        read_events(s, "sample")
        s.close()
        # The stream's end is seen when the next sample cannot be sent. On a busy machine samples come more rarely: they take
        # a tenth of the time.
        self.wait(lambda: not self.asking(4), "the sampler to rest")
        s = d.stream()
        read_events(s, "sample")
        # The first one may be that of before.
        self.wait(lambda: self.asking(2), "the sampler to ask again")
        d.stop()

    def test_a_wrong_clock_of_this_host_hides_nothing(self):
        module = os.path.join(os.path.dirname(NANOQ), "tests/fault/wrong_clock.so")
        if not os.path.exists(module):
            self.skipTest("there is no " + module)
        with open(self.path("clock"), "wb") as f:
            f.write((7200).to_bytes(8, "little"))
        self.add("email")
        self.run_nanoq("work", "--drain", "--quiet", "--", "true")
        env = {"LD_PRELOAD": module, "FAULT_CLOCK": self.path("clock")}
        d = self.dashboard(env=env)
        s = d.stream()
        self.addCleanup(s.close)
        read_events(s, "sample")
        overview = d.get("overview?window=1h")
        self.assertEqual((overview["up"], sum(overview["series"]["done"])), (True, 1))
        self.assertEqual([t["done"] for t in d.get("types")["types"]], [1])
        # Nor does it keep as empty what the database's clock has still to come to.
        self.add("email")
        self.run_nanoq("work", "--drain", "--quiet", "--", "true")
        self.assertEqual(sum(d.get("minutes?window=1h")["done"]), 2)
        d.stop()
        self.env.update(env)
        self.assertEqual([row["done"] for row in self.json("stats", "--since", "1m")], [2])

    def test_the_server_goes_away_and_comes_back(self):
        url = urllib.parse.urlparse(self.env["NANOQ_DB"])
        proxy = Proxy(url.hostname, url.port)
        d = self.dashboard(env={"NANOQ_DB": url._replace(netloc=url.netloc.replace(str(url.port), str(proxy.port))).geturl()})
        s = d.stream()
        read_events(s, "sample")
        proxy.away()
        down = read_events(s, "down")
        self.assertTrue(down["error"] and down["since"])
        self.assertEqual(d.get("tasks", 503)["error"]["code"], "EUNAVAILABLE")
        self.assertEqual(d.get("session")["role"], "admin")
        proxy.listen(proxy.port)
        read_events(s, "sample")
        self.assertEqual(d.get("tasks")["tasks"], [])
        d.stop()
        proxy.away()


if __name__ == "__main__":
    unittest.main()
