#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# nanoq work --stream --many: several tasks in a line, and a clear end for each of them.
import json
import unittest

from test_cli import LIMIT, MysqlBase
from test_stream import StreamBase

# A call begins with few tasks where few were claimed: what a test is about happens once, in the first call that has
# at least three. Before and after it all are done.
CHILD = """
while True:
    line = sys.stdin.readline()
    if not line:
        break
    tasks = json.loads(line)["tasks"]
    ids = [t["id"] for t in tasks]
    if len(ids) >= 3 and not os.path.exists("met"):
        note("met", json.dumps(ids, separators=(",", ":")))
        %s
    else:
        note("others", json.dumps(ids, separators=(",", ":")))
        say(*[{"done": i} for i in ids])
"""


class ManyTests:
    """Run on each store."""

    def add_many(self, n, timeout):
        rows = [{"type": "t", "payload": [i], "timeout": timeout, "max_retries": 3} for i in range(n)]
        out = self.run_nanoq("add", "--stdin", stdin="\n".join(map(json.dumps, rows)).encode())
        return [int(line) for line in out.split()]

    def many(self, does, *args, n=40, code=0, timeout="60s"):
        self.ids = self.add_many(n, timeout)
        self.stream("--many", "20", "-j", "1", "--keep-done", "forever", "--grace", "0.5s", *args,
                    *self.child(CHILD % does.strip().replace("\n", "\n        ")), code=code)
        return json.loads(self.lines("met")[0])

    def state(self, task):
        t = self.show(task)
        return t["state"], t["attempts"]

    def test_each_has_its_verdict(self):
        met = self.many("""
a, b, c = ids[:3]
say({"log": "three and more"}, {"progress": a, "count": 1}, {"hold": a, "delay": 0})
say(*[{"done": i} for i in reversed(ids[3:])])
say({"discard": c, "error": "no such page"}, {"done": b, "result": {"b": 2.50}}, {"snooze": a, "delay": "1h"})
""", code=5)
        self.assertIn("three and more", self.err)
        self.assertLessEqual(len(met), 20)
        self.assertEqual([self.state(i) for i in met[:3]], [("waiting", 0), ("done", 0), ("dead", 1)])
        self.assertEqual((json.loads(self.show(met[1])["result"]), self.show(met[2])["error"]), ({"b": 2.5}, "no such page"))
        for task in set(self.ids) - set(met[:3]):
            self.assertEqual(self.state(task), ("done", 0))
        seen = sum((json.loads(line) for line in self.lines("others")), met)
        self.assertEqual(sorted(seen), self.ids)

    def broken(self, met, answered, error):
        """Those that were answered have their verdict; each of the others failed once, and is to run again."""
        for task in met:
            t = self.show(task)
            self.assertEqual((t["state"], t["attempts"]), ("done", 0) if task in answered else ("waiting", 1), task)
            self.assertRegex(t["error"] or "", "^$" if task in answered else error)
        for task in set(self.ids) - set(met):
            self.assertEqual(self.state(task), ("done", 0))

    def test_a_child_that_ends(self):
        met = self.many("""
say({"done": ids[1]})
print("the last words", file=sys.stderr, flush=True)
os._exit(3)
""")
        self.broken(met, met[1:2], r"ended while it held tasks: exit status 3 .*: the last words$")

    def test_a_child_that_answers_twice(self):
        met = self.many('say({"done": ids[0]}, {"done": ids[0]}); time.sleep(60)')
        self.broken(met, met[:1], r"broke the protocol: it answers twice for task %d$" % met[0])

    def test_a_child_that_answers_for_others(self):
        met = self.many('say({"done": ids[0]}, {"done": 7000}); time.sleep(60)')
        self.broken(met, met[:1], r"task 7000, which is none of the \d+ that it holds$")

    def test_a_child_that_closes_its_stdout(self):
        met = self.many("os.close(1); time.sleep(60)")
        self.broken(met, [], r"closed its stdout while it held tasks$")

    def test_all_time_out(self):
        met = self.many('say({"done": ids[2]}); time.sleep(60)', timeout="3s")  # the next child has to begin within it, on a loaded machine too
        self.broken(met, met[2:3], r"^timed out after 3 s")

    def test_one_is_cancelled(self):
        """The child is stopped; what it held beside that task goes back as it was, and runs again."""
        ids = self.add_many(40, "60s")
        worker = self.begin("--many", "20", "-j", "1", "--drain", "--keep-done", "forever", "--grace", "0.5s", *self.child(
            CHILD % 'signal.signal(signal.SIGTERM, signal.SIG_IGN); say({"done": ids[0]}); note("told", json.loads(sys.stdin.readline())["cancel"]); time.sleep(60)'))
        self.wait(lambda: self.lines("met"), "a call of several tasks")
        met = json.loads(self.lines("met")[0])
        self.run_nanoq("cancel", str(met[1]))
        self.assertEqual(worker.wait(LIMIT), 0)
        self.assertEqual(self.lines("told"), [str(met[1])])
        self.assertEqual(self.state(met[1])[0], "cancelled")
        for task in set(ids) - {met[1]}:
            self.assertEqual(self.state(task), ("done", 0))

    def test_a_child_that_ends_before_it_reads(self):
        """It costs the tasks nothing: another child gets them."""
        self.many('say(*[{"done": i} for i in ids]); os._exit(0)')
        for task in self.ids:
            self.assertEqual(self.state(task), ("done", 0))


class ManySqlite(ManyTests, StreamBase):
    pass


class ManyMysql(ManyTests, MysqlBase, StreamBase):
    def setUp(self):
        super().setUp()
        self.run_nanoq("migrate")


class ManyOptions(StreamBase):
    def test_bad_options(self):
        self.run_nanoq("work", "--many", "5", "--", "true", code=2)
        self.assertIn("--many belongs to --stream", self.err)
        for n in ("0", "1001", "x"):
            self.run_nanoq("work", "--stream", "--many", n, "--", "true", code=2)
            self.assertIn("--many", self.err)

    def test_one_task_is_a_line_of_one(self):
        task = self.add("t", '{"a": 1}')
        self.stream("--many", "1", *self.child("""
line = sys.stdin.readline()
note("line", line.strip().encode().hex())
say({"done": json.loads(line)["tasks"][0]["id"]})
"""))
        line = bytes.fromhex(self.lines("line")[0]).decode()
        self.assertTrue(line.startswith('{"nanoq":1,"tasks":[{"id":%d,"type":"t",' % task), line)
        self.assertTrue(line.endswith('"payload":{"a": 1}}]}'), line)


if __name__ == "__main__":
    unittest.main()
