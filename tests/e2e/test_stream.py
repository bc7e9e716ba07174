#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# nanoq work --stream: the protocol in four languages, and each way in which a child may break it.
import base64
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import time
import unittest

from test_cli import LIMIT, MysqlBase
from test_work import ServiceBase

EXAMPLES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "examples")

PRELUDE = """
import json, os, signal, subprocess, sys, time
def read():
    line = sys.stdin.readline()
    return json.loads(line) if line else sys.exit(0)
def say(*lines):
    for line in lines:
        sys.stdout.write((line if isinstance(line, str) else json.dumps(line)) + "\\n")
    sys.stdout.flush()
def note(name, text):
    with open(name, "a") as f:
        f.write(str(text) + "\\n")
"""

# What the child does with a task of each type, where it does not answer done.
BEHAVIOURS = """
while True:
    task = read()
    kind, me = task["type"], task["id"]
    if kind == "good":
        say({"done": me})
    elif kind == "null":
        os.kill(os.getpid(), signal.SIGSEGV)
    elif kind == "abort":
        os.abort()
    elif kind == "zero":
        sys.exit(0)
    elif kind == "three":
        print("the last words", file=sys.stderr, flush=True)
        os._exit(3)
    elif kind == "silent":
        os.close(1)
        time.sleep(60)
    elif kind == "closes":
        os.closerange(0, 100)
        time.sleep(60)
    elif kind == "garbage":
        say("Use of uninitialized value")
        time.sleep(60)
    elif kind == "empty":
        say("")
    elif kind == "array":
        say([me])
    elif kind == "verb":
        say({"finished": me})
    elif kind == "near":
        say({"dnoe": me})
    elif kind == "two":
        say({"done": me, "retry": me})
    elif kind == "same":
        say('{"done": %d, "done": %d}' % (me, me))
    elif kind == "huge":
        say('{"done": 18446744073709551615}')
    elif kind == "halves":
        say({"log": "file \\udcff"}, {"discard": me, "error": "no file \\udcff \\ud800\\udcff"})
    elif kind == "member":
        say({"retry": me, "dealy": 5})
    elif kind == "delay":
        say({"retry": me, "delay": "soon"})
    elif kind == "holdless":
        say({"hold": me})
    elif kind == "scope":
        say({"hold": me, "delay": "1s", "scope": "all"})
    elif kind == "error":
        say({"discard": me, "error": 5})
    elif kind == "other":
        say({"done": me + 1000})
    elif kind == "string":
        say({"done": str(me)})
    elif kind == "twice":
        say({"done": me}, {"done": me})
    elif kind == "long":
        say("{" + " " * 70000)
    elif kind == "endless":
        while True:
            sys.stdout.write("x" * 4096)
    elif kind == "latin":
        os.write(1, b'{"retry": %d, "error": "\\xe9"}\\n' % me)
    elif kind == "nul":
        os.write(1, b'{"done": %d}\\0\\n' % me)
    elif kind == "partial":
        os.write(1, b'{"done": %d' % me)
        os._exit(0)
    elif kind == "grandchild":
        p = subprocess.Popen(["sleep", "100"])
        note("grandchild", p.pid)
        os._exit(4)
    elif kind == "daemon":
        p = subprocess.Popen(["sleep", "30"], start_new_session=True)
        note("daemon", p.pid)
        os._exit(5)
    elif kind == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(60)
    elif kind == "stopped":
        os.kill(os.getpid(), signal.SIGSTOP)
    elif kind == "memory":
        x = bytearray(1 << 31)
    elif kind == "cpu":
        while True:
            pass
"""

ERRORS = {
    "null": r"ended while it held the task: killed by signal 11 \(SIGSEGV\) after .* MB$",
    "abort": r"killed by signal 6 \(SIGABRT\)",
    "zero": r"ended while it held the task: exit status 0 after",
    "three": r"exit status 3 after .* of CPU, \d+ MB: the last words$",
    "silent": r"closed its stdout while it held the task$",
    "closes": r"closed its stdout while it held the task$",
    "garbage": r"broke the protocol: not a JSON object \(.*\): Use of uninitialized value$",
    "empty": r"not a JSON object \(.*\): \(an empty line\)",
    "array": r"not a JSON object but an array; answer like",
    "verb": r'no verb: "finished"; one of done, retry, discard, snooze, hold, progress, log must be',
    "near": r'no verb: "dnoe", did you mean done',
    "two": r'"done" and "retry" in one line',
    "same": r'a member is there twice: "done"',
    "huge": r'"done": must be the task.s id, a whole number from 1',
    "halves": "^no file \ufffd \U000100ff$",
    "member": r'unknown member "dealy" beside "retry"; allowed: delay, error',
    "delay": r'"delay": must be .*soon',
    "holdless": r'"hold" needs a "delay"',
    "scope": r'"scope": must be one of "group", "queue"',
    "error": r'"error": must be a string',
    "other": r"it answers for task 1?\d{3,}, and holds task \d+ only",
    "string": r'"done": must be the task.s id, a whole number from 1',
    "long": r"a line of more than 65536 bytes",
    "endless": r"a line of more than 65536 bytes",
    "latin": r"not a JSON object",
    "nul": r"not a JSON object",
    "partial": r"ended while it held the task: exit status 0",
    "grandchild": r"exit status 4",
    "daemon": r"exit status 5",
    "deaf": r"^timed out after 1 s and had to be killed$",
    "stopped": r"^timed out after 1 s$",
    "memory": r"(?s)exit status 1 after .*MemoryError",
    "cpu": r"killed by signal 24 \(SIGXCPU: CPU time limit\)",
}


class StreamBase(ServiceBase):
    def child(self, text):
        with open(self.path("child.py"), "w", encoding="utf-8") as f:
            f.write(PRELUDE + text)
        return ("--", "python3", self.path("child.py"))

    def setUp(self):
        super().setUp()
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(self.dir)

    def stream(self, *args, **kwargs):
        return self.work("--stream", *args, **kwargs)

    def begin(self, *args):
        return self.start("work", "--stream", *args)

    def gone(self, pid):
        self.wait(lambda: not self.alive(pid), "%s to end" % pid)


class Examples(StreamBase):
    def run_example(self, name, program):
        if not shutil.which(program):
            self.skipTest("%s is not installed: examples/%s is not run" % (program, name))
        path = os.path.join(EXAMPLES, name)
        with open(path, encoding="utf-8") as f:
            self.assertLessEqual(len(f.readlines()), 10)
        tasks = [self.add("greet", json.dumps({"to": "person %d" % i})) for i in range(5)]
        nobody = self.add("greet", '{"a": 1}')
        odd = [self.add("greet", payload) for payload in ("null", "5", '"x"', "[1]")] + [self.add("greet", "--raw", "\x01")]
        self.stream("-j", "1", "--", path, code=5)
        for i in range(5):
            self.assertRegex(self.err, "(?m)^hello, .*person %d" % i)
        for task in tasks:
            self.run_nanoq("show", str(task), code=3)
        for task in [nobody] + odd:
            t = self.show(task)
            self.assertEqual((t["state"], t["error"]), ("dead", "nobody to greet"))

    def test_shell(self):
        self.run_example("worker.sh", "sh")

    def test_python(self):
        self.run_example("worker.py", "python3")

    def test_perl(self):
        if shutil.which("perl") and subprocess.run(["perl", "-MJSON::PP", "-e1"], stderr=subprocess.DEVNULL, check=False).returncode:
            self.skipTest("perl has no JSON::PP: examples/worker.pl is not run")
        self.run_example("worker.pl", "perl")

    def test_php(self):
        self.run_example("worker.php", "php")

    def test_node(self):
        self.run_example("worker.js", "node")


class StreamTests:
    """Run on each store."""

    def test_each_misbehaviour_costs_one_attempt_of_one_task(self):
        ids = {}
        for i, kind in enumerate(ERRORS):
            ids[kind] = self.add(kind, "--max-retries", "0", "--timeout", "1s" if kind in ("deaf", "stopped") else "30s")
            for k in range(6):
                self.add("good", "[%d,%d]" % (i, k))
        twice = self.add("twice")
        worker = self.begin("-j", "4", "--grace", "0.5s", "--memory", "1G", "--cpu", "2s", "--keep-done", "forever",
                            *self.child(BEHAVIOURS))
        self.wait(lambda: self.json("stats")[0]["done"] == 6 * len(ERRORS) + 1 and
                  all(self.show(task)["attempts"] > 0 for task in ids.values()), "the good tasks to be done")
        worker.terminate()
        worker.communicate(timeout=LIMIT)
        self.assertEqual(worker.returncode, 0)
        for kind, error in ERRORS.items():
            t = self.show(ids[kind])
            self.assertEqual((t["state"], t["attempts"], t["crashes"]), ("dead", 1, 0), kind)
            self.assertRegex(t["error"], error, kind)
        self.assertEqual(self.show(twice)["state"], "done")
        self.gone(self.lines("grandchild")[0])
        self.gone(self.lines("daemon")[0])

    def test_verdicts(self):
        ids = {kind: self.add(kind) for kind in ("retry", "later", "discard", "snooze", "done")}
        self.stream(*self.child("""
while True:
    task = read()
    me = task["id"]
    say({"retry": {"retry": me, "error": "no \\0 route \\u20ac"}, "later": {"retry": me, "delay": "2h"},
         "discard": {"discard": me, "error": "bad address"}, "snooze": {"snooze": me, "delay": 1800},
         "done": {"done": me}}[task["type"]])
"""), code=5)
        t = {kind: self.show(ids[kind]) for kind in ids if kind != "done"}
        self.assertEqual((t["retry"]["state"], t["retry"]["attempts"], t["retry"]["error"]),
                         ("waiting", 1, "no ? route \u20ac"))
        self.assertEqual((t["later"]["state"], t["later"]["attempts"]), ("waiting", 1))
        self.assertEqual((t["discard"]["state"], t["discard"]["error"]), ("dead", "bad address"))
        self.assertEqual((t["snooze"]["state"], t["snooze"]["attempts"]), ("waiting", 0))
        self.run_nanoq("show", str(ids["done"]), code=3)
        listed = {row["id"]: row for row in self.json("list")}
        self.assertIn("run_at", listed[ids["later"]])

    def test_kill_9_of_the_worker(self):
        self.add("t")
        worker = self.begin(*self.child("""
task = read()
p = subprocess.Popen(["sleep", "300"])
note("pids", os.getpid())
note("pids", p.pid)
time.sleep(300)
"""))
        self.wait(lambda: len(self.lines("pids")) == 2, "the task to start")
        worker.kill()
        worker.wait()
        for pid in self.lines("pids"):
            self.gone(pid)

    def test_a_keeper_that_is_behind_still_says_how_its_child_ended(self):
        """It is frozen while it is asked for something twice: with the child's end it closes what it has not read."""
        tasks = [self.add("t", str(i), "--max-retries", "0") for i in range(4)]
        worker = self.begin("-j", "1", "--cpu", "10s", *self.child("""
def state(pid):
    with open("/proc/%d/stat" % pid) as f:
        return f.read().rpartition(")")[2].split()[0]
keeper = os.getppid()
say({"done": read()["id"]})
task = read()
os.kill(keeper, signal.SIGSTOP)
while state(keeper) != "T":
    time.sleep(.01)
say({"done": task["id"]})
say({"done": read()["id"]})
read()
note("pids", keeper)
note("pids", os.getpid())
os._exit(4)
"""))
        self.wait(lambda: len(self.lines("pids")) == 2, "the last task to start")
        keeper, child = map(int, self.lines("pids"))
        self.gone(child)
        os.kill(keeper, signal.SIGCONT)
        self.wait(lambda: self.show(tasks[3])["state"] == "dead", "the task to be dead")
        self.assertRegex(self.show(tasks[3])["error"], "^the child ended while it held the task: exit status 4 after")
        worker.terminate()
        self.assertEqual(worker.wait(LIMIT), 0)

    def test_cancelled_by_hand(self):
        task = self.add("t")
        worker = self.begin(*self.child("""
signal.signal(signal.SIGTERM, signal.SIG_IGN)
task = read()
note("begun", 1)
note("told", json.dumps(read()).replace(" ", ""))
say({"retry": task["id"], "error": "stopped at page 3"})
"""))
        self.wait(lambda: self.lines("begun"), "the task to start")
        self.run_nanoq("cancel", str(task))
        self.wait(lambda: self.show(task)["state"] == "cancelled", "the task to be cancelled")
        self.assertEqual(self.lines("told"), ['{"cancel":%d,"cause":"cancel"}' % task])
        self.assertEqual(self.show(task)["error"], "stopped at page 3")
        worker.terminate()
        self.assertEqual(worker.wait(LIMIT), 0)


class StreamSqlite(StreamTests, StreamBase):
    pass


class StreamMysql(StreamTests, MysqlBase, StreamBase):
    def setUp(self):
        super().setUp()
        self.run_nanoq("migrate")


class Details(StreamBase):
    def test_the_task_line(self):
        payloads = [b'{\n "a": [1, 2.50, 12345678901234567890],\r\n "b": "\xe2\x80\xa8 \\u0000"\n}', b"[]", b'"text"',
                    b"no json\n\xff\0", b""]
        for i, payload in enumerate(payloads):
            self.add("t%d" % i, "-", "--raw", "--queue", "q", "--priority", "3", "--max-retries", "4", stdin=payload)
        self.stream("--queue", "q", "-j", "1", *self.child("""
while True:
    line = sys.stdin.readline()
    if not line: break
    note("lines", line.strip().encode().hex())
    say({"done": json.loads(line)["id"]})
"""))
        lines = [bytes.fromhex(h) for h in self.lines("lines")]
        tasks = {t["type"]: t for t in map(json.loads, lines)}
        self.assertEqual(len(lines), 5)
        for line in lines:
            self.assertTrue(line.startswith(b'{"nanoq":1,"id":'), line)
            self.assertNotIn(b"\xe2\x80\xa8", line)
        first = tasks["t0"]
        self.assertEqual(list(first), ["nanoq", "id", "type", "queue", "priority", "attempt", "max_retries", "deadline",
                                       "last_error", "payload"])
        self.assertEqual((first["queue"], first["priority"], first["attempt"], first["max_retries"], first["last_error"]),
                         ("q", 3, 1, 4, None))
        self.assertAlmostEqual(first["deadline"], time.time() + 60, delta=20)
        self.assertEqual(first["payload"], {"a": [1, 2.5, 12345678901234567890], "b": "\u2028 \0"})
        self.assertIn(b"2.50, 12345678901234567890", lines[[json.loads(x)["type"] for x in lines].index("t0")])
        self.assertEqual((tasks["t1"]["payload"], tasks["t2"]["payload"], tasks["t4"]["payload"]), ([], "text", None))
        self.assertEqual(base64.b64decode(tasks["t3"]["payload_base64"]), payloads[3])
        self.assertNotIn("payload", tasks["t3"])

    def test_holds(self):
        """A hold is no answer: the task still wants one."""
        child = self.child("""
while True:
    task = read()
    hold = {"hold": task["id"], "delay": "1h"}
    say({**hold, "scope": "queue"} if task["type"] == "all" else hold, {"done": task["id"]})
""")
        held = lambda: {row["queue"]: row["held_until"] for row in self.json("queues") if row["held_until"]}
        self.add("t", "--queue", "one", "--group", "7")
        self.add("all", "--queue", "whole", "--group", "7")
        worker = self.begin("--queue", "one", "--queue", "whole", "-j", "1", *child)
        self.wait(lambda: len(held()) == 2 and self.run_nanoq("stats") == b"no tasks\n", "both to be done")
        worker.terminate()
        worker.communicate(timeout=LIMIT)
        self.assertEqual(worker.returncode, 0)
        self.assertEqual(sorted(held()), ["one//7", "whole"])
        for until in held().values():
            self.assertRegex(until, r"^20\d\d-")
        reasons = self.json("why", str(self.add("t", "--queue", "whole", "--group", "8")))
        self.assertEqual((reasons[0]["reason"], reasons[0]["name"]), ("held", "whole"))

    def test_headers(self):
        self.add("with", "1", "--header", "traceparent=00-a-b-01", "--header", "text=\u2028\"", "--tag", "a b", "--tag", "c")
        self.add("without", "1")
        self.stream("-j", "1", *self.child("""
while True:
    line = sys.stdin.readline()
    if not line: break
    note("lines", line.strip().encode().hex())
    say({"done": json.loads(line)["id"]})
"""))
        lines = [bytes.fromhex(h) for h in self.lines("lines")]
        tasks = {t["type"]: t for t in map(json.loads, lines)}
        self.assertEqual(tasks["with"]["headers"], {"traceparent": "00-a-b-01", "text": "\u2028\""})
        self.assertEqual(list(tasks["with"])[-3:], ["headers", "tags", "payload"])
        self.assertEqual(tasks["with"]["tags"], ["a b", "c"])
        self.assertNotIn("headers", tasks["without"])
        self.assertNotIn("tags", tasks["without"])
        self.assertNotIn(b"\xe2\x80\xa8", b"".join(lines))

    def test_full_pipes_do_not_block(self):
        """A megabyte for the child, which first writes several to both of its pipes."""
        big = json.dumps("x" * 1000000)
        for i in range(3):
            self.add("t%d" % i, "-", stdin=big)
        self.stream("-j", "1", "--quiet", *self.child("""
while True:
    for i in range(1000):
        sys.stderr.write("e" * 1000 + "\\n")
    sys.stderr.flush()
    if len(sys.argv) == 1: sys.argv.append("")
    else: say(*[{"log": "l" * 1000, "level": "debug"}] * 1000)
    task = read()
    say(*[{"log": "l" * 1000, "level": "debug"}] * 1000)
    assert len(task["payload"]) == 1000000
    say({"done": task["id"]})
"""))
        self.assertEqual(self.json("list"), [])

    def test_one_child_for_many_tasks_and_max_tasks(self):
        child = self.child("""
while True:
    task = read()
    note("pids", os.getpid())
    say({"done": task["id"]})
""")
        for i in range(20):
            self.add("t", str(i))
        self.stream("-j", "1", *child)
        self.assertEqual((len(self.lines("pids")), len(set(self.lines("pids")))), (20, 1))
        os.remove("pids")
        for i in range(20):
            self.add("t", str(i))
        self.stream("-j", "1", "--max-tasks", "7", *child)
        pids = self.lines("pids")
        self.assertEqual((len(pids), [pids.count(p) for p in dict.fromkeys(pids)]), (20, [7, 7, 6]))
        self.run_nanoq("work", "--max-tasks", "3", "--", "true", code=2)
        self.assertIn("--max-tasks belongs to --stream", self.err)

    def test_so_many_children_as_jobs(self):
        for i in range(9):
            self.add("t", str(i))
        self.stream("-j", "3", *self.child("""
while True:
    task = read()
    note("pids", os.getpid())
    time.sleep(0.3)
    say({"done": task["id"]})
"""))
        self.assertEqual(len(set(self.lines("pids"))), 3)

    def test_cpu_counts_by_task(self):
        for i in range(4):
            self.add("t", str(i))
        self.stream("-j", "1", "--cpu", "1s", *self.child("""
while True:
    task = read()
    end = time.process_time() + 0.7
    while time.process_time() < end: pass
    note("pids", os.getpid())
    say({"done": task["id"]})
"""))
        self.assertEqual((len(self.lines("pids")), len(set(self.lines("pids")))), (4, 1))
        self.assertEqual(self.json("list"), [])

    def test_children_that_die_at_once_do_not_spin(self):
        for i in range(50):
            self.add("t", str(i))
        worker = self.begin("-j", "1", "--", "sh", "-c", "echo x >> starts; exit 7")
        self.wait(lambda: len(self.lines("starts")) >= 4, "four starts")
        begin, before = time.monotonic(), len(self.lines("starts"))
        self.wait(lambda: time.monotonic() > begin + 2, "two seconds")
        self.assertLess(len(self.lines("starts")) - before, 4)
        worker.terminate()
        _, err = worker.communicate(timeout=LIMIT)
        self.assertRegex(err.decode(), r"\d children in a row ended before they finished a task \(the last: exit status 7\); "
                                       r"the next one starts in 0\.\d s")

    def test_a_child_that_ends_after_its_answer_costs_the_next_task_nothing(self):
        for i in range(60):
            self.add("t", str(i), "--max-retries", "0")
        with open(self.path("once.sh"), "w", encoding="utf-8") as f:
            f.write('read -r l; id=${l#*\'"id":\'}; id=${id%%,*}; echo "{\\"done\\": $id}"\n')
        self.stream("-j", "2", "--", "sh", self.path("once.sh"))
        self.assertRegex(self.err, "60 done, 0 to retry, 0 dead")

    def test_an_idle_child_that_ends_costs_nothing(self):
        child = self.child("""
task = read()
note("pids", os.getpid())
say({"done": task["id"]})
if task["payload"] == "talk": say("not now")
time.sleep(0.1)
if task["payload"] == "answer": say({"done": 1})
if task["payload"] != "die": time.sleep(60)
""")
        worker = self.begin("-j", "1", "--keep-done", "forever", *child)
        for payload in ("die", "talk", "answer"):
            task = self.add("t", json.dumps(payload))
            self.wait(lambda task=task: self.show(task)["state"] == "done", "the task to be done")
            pid = self.lines("pids")[-1]
            self.wait(lambda pid=pid: not os.path.exists("/proc/" + pid), "the child to be reaped")
        worker.terminate()
        _, err = worker.communicate(timeout=LIMIT)
        self.assertIn(b"while it had no task: not a JSON object", err)
        self.assertIn(b"answers without a task; only log is allowed then", err)

    def test_progress_and_log(self):
        task = self.add("t")
        worker = self.begin("--log", "json", *self.child("""
task = read()
say({"log": "half way", "level": "warn"}, {"progress": task["id"], "count": 5, "total": 10, "note": "rows"})
while not os.path.exists("go"): time.sleep(0.02)
say({"done": task["id"]})
time.sleep(60)
"""))
        db = sqlite3.connect(self.path("state/nanoq/nanoq.db"), timeout=LIMIT)
        self.addCleanup(db.close)
        ask = "SELECT done, total, note FROM nanoq_progress WHERE task_id = %d" % task
        self.wait(lambda: db.execute(ask).fetchall(), "the progress to be written")
        self.assertEqual(db.execute(ask).fetchall(), [(5, 10, b"rows")])
        open("go", "w", encoding="utf-8").close()
        self.wait(lambda: self.json("list") == [], "the task to end")
        worker.terminate()
        _, err = worker.communicate(timeout=LIMIT)
        lines = [json.loads(line) for line in err.decode().splitlines()]
        line, = [e for e in lines if e.get("from") == "child"]
        self.assertEqual((line["message"], line["level"], line["task"]), ("half way", "warn", task))
        self.assertEqual([e["task"] for e in lines if e.get("verdict") == "done"], [task])

    def test_a_stop_lets_the_task_end_and_tells_the_child(self):
        self.add("t")
        worker = self.begin("-j", "1", *self.child("""
signal.signal(signal.SIGTERM, lambda *a: note("term", 1))
while True:
    line = sys.stdin.readline()
    if not line: break
    note("begun", 1)
    time.sleep(0.5)
    say({"done": json.loads(line)["id"]})
note("bye", 1)
"""))
        self.wait(lambda: self.lines("begun"), "the task to start")
        worker.terminate()
        self.assertEqual(worker.wait(LIMIT), 0)
        self.assertEqual((self.lines("bye"), self.lines("term"), self.json("list")), (["1"], [], []))

    def test_a_forced_stop_gives_the_task_back(self):
        task = self.add("t")
        worker = self.begin("--grace", "0.5s", *self.child("""
signal.signal(signal.SIGTERM, signal.SIG_IGN)
read()
note("begun", os.getpid())
note("told", json.dumps(read()).replace(" ", ""))
time.sleep(60)
"""))
        self.wait(lambda: self.lines("begun"), "the task to start")
        worker.terminate()
        self.wait(lambda: worker.poll() is not None or worker.terminate() or self.lines("told"), "it to be told")
        self.assertEqual(worker.wait(LIMIT), 0)
        self.assertEqual(self.lines("told"), ['{"cancel":%d,"cause":"shutdown"}' % task])
        t = self.show(task)
        self.assertEqual((t["state"], t["attempts"], t["crashes"]), ("waiting", 0, 0))
        self.gone(self.lines("begun")[0])

    def test_no_descriptor_of_ours_reaches_the_child(self):
        self.add("t")
        self.stream(*self.child("""
task = read()
note("fds", " ".join(os.readlink("/proc/self/fd/%d" % fd).partition(":")[0] for fd in (0, 1, 2)))
note("more", len(os.listdir("/proc/self/fd")))
note("env", os.environ["NANOQ_STREAM"] + str("NOTIFY_SOCKET" in os.environ))
say({"done": task["id"]})
"""))
        self.assertEqual((self.lines("fds"), self.lines("more"), self.lines("env")), (["pipe"] * 3, ["4"], ["1False"]))


if __name__ == "__main__":
    unittest.main()
