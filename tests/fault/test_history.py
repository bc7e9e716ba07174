#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The checker itself: a good history passes, and each bad one that is made of it by hand is caught."""
import os
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import history  # noqa: E402
import history_results  # noqa: E402

LEASE_A, LEASE_B = (1 << 36) + 1, (2 << 36) + 1
PID_A, PID_B = 101, 102


def line(kind, pid, ms, text="-"):
    return f"{kind} {pid} {ms * 1000} {ms * 1000} {text}"


def change(what, task, gen, ms, **more):
    base = {"seq": 0, "at": ms * 1000, "what": what, "id": task, "gen": gen, "lease": 0, "attempts": 0, "crashes": 0,
            "run_at": 0, "was_state": None, "was_lease": None, "was_run_at": 0, "ukey": None, "name": None}
    return {**base, **more}


def claim(task, gen, ms, lease, **more):
    return change("claim", task, gen, ms, lease=lease, was_state=0, was_lease=0, **more)


def back(task, gen, ms, lease, **more):
    return change("back", task, gen, ms, was_state=1, was_lease=lease, **more)


def done(task, gen, ms, lease, what="done", **more):
    return [change(what, task, gen, ms, **more),
            change("delete", task, gen, ms, lease=lease, was_state=1, was_lease=lease, ukey=f"k{task}")]


class Good(unittest.TestCase):
    """Task 1 is simply done; task 2 fails once and comes again after 50 ms."""

    def setUp(self):
        self.lines = [
            line("INVOKE", 7, 10, "key=a op=own delay=0"), line("OK", 7, 11, "key=a id=1 code=0"),
            line("START", PID_A, 20, "id=1 gen=1 good=1 key=a"), line("END", PID_A, 30, "id=1 gen=1 verdict=d delay=0"),
            line("INVOKE", 7, 12, "key=b op=tx delay=5000"), line("OK", 7, 13, "key=b id=2 code=0"),
            line("START", PID_A, 22, "id=2 gen=1 good=1 key=b"),
            line("END", PID_A, 30, "id=2 gen=1 verdict=r delay=50000"),
            line("START", PID_B, 90, "id=2 gen=2 good=1 key=b"), line("END", PID_B, 95, "id=2 gen=2 verdict=d delay=0"),
        ]
        self.audit = [
            change("join", 1, 0, 1, name=f"host:{PID_A}"), change("join", 2, 0, 1, name=f"host:{PID_B}"),
            change("insert", 1, 0, 11, ukey="k1"), claim(1, 1, 19, LEASE_A), *done(1, 1, 31, LEASE_A),
            change("insert", 2, 0, 13, ukey="k2"), claim(2, 1, 21, LEASE_A),
            back(2, 1, 31, LEASE_A, attempts=1, run_at=81_000),
            claim(2, 2, 88, LEASE_B, was_run_at=81_000, attempts=1), *done(2, 2, 96, LEASE_B, attempts=1),
        ]
        self.live = []
        self.finished = [{"id": i, "state": 2, "gen": i, "attempts": i - 1, "crashes": 0, "lease": 0} for i in (1, 2)]
        self.orders = {"b"}
        self.options = {}

    def check(self):
        return history.Check(history.parse("\n".join(self.lines)), self.audit, self.live, self.finished, self.orders,
                             **self.options)

    def caught(self, rule):
        check = self.check()
        self.assertIn(rule, check.seen, check.violations)

    def replace(self, old, new):
        hits = [i for i, text in enumerate(self.lines) if old in text]
        self.assertTrue(hits)
        self.lines[hits[0]] = self.lines[hits[0]].replace(old, new)

    def crash(self, gen=1):
        """Task 2's first claim ends by the death of A instead."""
        for a in self.audit:
            if a["what"] == "back":
                a.update(crashes=1, run_at=a["at"])
        self.audit[-2]["crashes"] = self.finished[1]["crashes"] = 1
        self.lines = [text for text in self.lines if "id=2 gen=1 verdict" not in text]

    def forget(self, task):
        self.audit = [a for a in self.audit if a["what"] != "done" or a["id"] != task]
        self.finished = [row for row in self.finished if row["id"] != task]


class Checker(Good):
    def test_a_task_may_be_claimed_as_it_is_inserted(self):
        self.audit[2] = change("insert", 1, 1, 11, ukey="k1", lease=LEASE_A)
        del self.audit[3]
        check = self.check()
        self.assertEqual(check.violations, [])
        self.assertEqual(check.n["handed over"], 1)

    def test_a_task_is_inserted_as_a_later_claim(self):
        self.audit[2] = change("insert", 1, 2, 11, ukey="k1", lease=LEASE_A)
        del self.audit[3]
        self.caught("one claim a generation")

    def test_good_one_passes(self):
        check = self.check()
        self.assertEqual(check.violations, [])
        self.assertEqual((check.n["done"], check.n["retries"], check.n["claims"]), (2, 1, 3))

    def test_done_and_not_kept_is_good(self):
        self.forget(1)
        self.assertEqual(self.check().violations, [])

    def test_lost(self):
        self.forget(1)
        for a in self.audit:
            if a["what"] == "delete" and a["id"] == 1:
                a["was_state"] = 0
        self.caught("lost")

    def test_deleted_under_another_lease(self):
        self.forget(2)
        self.audit[-1]["was_lease"] = LEASE_A
        self.caught("fencing")

    def test_deleted_by_a_stale_worker(self):
        self.forget(2)
        self.lines = [text for text in self.lines if "id=2 gen=2 verdict" not in text]
        self.caught("stale completion")

    def test_not_drained(self):
        self.live.append({"id": 3, "state": 1, "gen": 1, "attempts": 0, "crashes": 0, "lease": LEASE_A})
        self.caught("not drained")

    def test_failed_yet_there(self):
        self.replace("OK 7 11000 11000 key=a id=1", "FAIL 7 11000 11000 key=a id=0")
        self.caught("failed, yet there")

    def test_failed_then_found_as_duplicate(self):
        self.replace("OK 7 11000 11000 key=a id=1", "FAIL 7 11000 11000 key=a id=0")
        self.lines.append(line("DUP", 7, 15, "key=a id=1 code=-5"))
        self.caught("failed, yet there")

    def test_unknown_then_found_is_right(self):
        self.replace("OK 7 11000 11000 key=a id=1", "UNKNOWN 7 11000 11000 key=a id=0")
        self.lines.append(line("DUP", 7, 15, "key=a id=1 code=-5"))
        self.assertEqual(self.check().violations, [])

    def test_rolled_back_yet_run(self):
        self.replace("OK 7 13000 13000 key=b", "BACK 7 13000 13000 key=b")
        self.caught("failed, yet there")

    def test_row_without_its_task(self):
        self.orders = set()
        self.caught("one transaction")

    def test_two_starts_of_one_generation(self):
        self.lines.append(line("START", PID_B, 25, "id=1 gen=1 good=1 key=a"))
        self.caught("one claim a generation")

    def test_two_claims_of_one_generation(self):
        self.audit.insert(4, claim(1, 1, 19, LEASE_B))
        self.caught("one claim a generation")

    def test_claim_of_a_running_task(self):
        self.audit.insert(4, claim(1, 2, 20, LEASE_B) | {"was_state": 1})
        self.caught("one claim a generation")

    def test_start_without_a_committed_claim(self):
        self.lines.append(line("START", PID_B, 25, "id=1 gen=2 good=1 key=a"))
        self.caught("start before commit")

    def test_completed_twice(self):
        self.audit += [claim(1, 2, 40, LEASE_B), *done(1, 2, 50, LEASE_B)]
        self.caught("completed twice")

    def test_stale_completion(self):
        self.lines = [text for text in self.lines if "id=2 gen=2 verdict" not in text]
        self.caught("stale completion")

    def test_stale_completion_while_its_successor_runs(self):
        self.replace("END 102 95000 95000", "END 102 99000 99000")
        self.caught("stale completion")

    def test_stale_retry(self):
        self.lines = [text for text in self.lines if "id=2 gen=1 verdict" not in text]
        self.caught("stale completion")

    def test_completion_under_another_lease(self):
        self.audit[-1]["was_lease"] = LEASE_A
        self.caught("fencing")

    def test_early_retry_by_the_database(self):
        self.audit[-4].update(run_at=40_000)
        self.caught("early")

    def test_late_trigger_is_not_early(self):
        for a in self.audit:
            if a["what"] == "back":
                a["at"] += 9_000
        self.caught("early")
        self.options = {"exact_at": False}
        self.assertEqual(self.check().violations, [])

    def test_early_claim(self):
        self.audit[-3].update(was_run_at=120_000)
        self.caught("early")

    def test_claim_while_the_clock_was_set_back_is_not_early(self):
        self.audit[-3].update(was_run_at=88_000 + 2_000_000)
        self.caught("early")
        self.lines += [line("STEP", 1, 50, "by=2"), line("STEP", 1, 87, "by=0")]
        self.assertEqual(self.check().violations, [])
        self.audit[-3].update(was_run_at=88_000 + 3_000_000)
        self.caught("early")

    def test_early_retry_by_the_monotonic_clock(self):
        self.replace("START 102 90000 90000", "START 102 60000 90000")
        self.caught("early")

    def test_early_first_run(self):
        self.replace("delay=5000", "delay=50000")
        self.caught("early")

    def test_a_call_that_failed_says_nothing_of_when(self):
        self.lines[:0] = [line("INVOKE", 7, 8, "key=a op=own delay=900000"), line("FAIL", 7, 9, "key=a id=0 code=-9")]
        self.assertEqual(self.check().violations, [])

    def test_other_payload(self):
        self.replace("good=1", "good=0")
        self.caught("payload")

    def test_taken_from_the_living(self):
        self.crash()
        self.caught("alive, yet reclaimed")

    def test_taken_from_the_dead_is_right_and_is_timed(self):
        self.crash()
        self.lines.append(line("KILL", 1, 28, f"pid={PID_A}"))
        check = self.check()
        self.assertEqual(check.violations, [])
        self.assertEqual(check.latency, [62_000])

    def test_taken_after_a_short_stop(self):
        self.crash()
        self.lines += [line("STOP", 1, 28, f"pid={PID_A}"), line("CONT", 1, 80, f"pid={PID_A}")]
        self.options = {"lease_us": 3_000_000}
        self.caught("alive, yet reclaimed")

    def test_crash_without_an_attempt(self):
        self.crash()
        self.lines.append(line("KILL", 1, 28, f"pid={PID_A}"))
        self.audit[-4]["attempts"] = 0
        self.caught("crash counts")

    def test_goes_on_after_too_many_crashes(self):
        self.crash()
        self.lines.append(line("KILL", 1, 28, f"pid={PID_A}"))
        self.options = {"max_crashes": 0}
        self.caught("crash counts")

    def test_final_count_of_crashes(self):
        self.finished[0]["crashes"] = 2
        self.caught("crash counts")

    def test_two_live_with_one_key(self):
        self.audit.insert(3, change("insert", 9, 0, 12, ukey="k1"))
        self.caught("two live with one key")

    def test_claimed_after_the_signal(self):
        self.lines.append(line("TERM", 1, 2, f"pid={PID_B}"))
        self.replace("START 102 90000", "START 102 990000")
        self.caught("claimed after the signal")

    def test_held_after_the_exit(self):
        self.lines += [line("TERM", 1, 200, f"pid={PID_B}"), line("EXIT", PID_B, 210, "role=work code=0")]
        self.live.append({"id": 3, "state": 1, "gen": 1, "attempts": 0, "crashes": 0, "lease": LEASE_B})
        self.caught("held after exit")

    def test_too_few_faults(self):
        self.options = {"expect": {"KILL": 1}}
        self.caught("too little happened")

    def test_nothing_seen(self):
        self.options = {"expect": {"UNKNOWN": 1}}
        self.caught("too little happened")


def result(key, gen, n=3):
    name = f"{key}@{gen}"
    return f"{name} R 0 0 {n}\n".encode() + history_results.fill(name, n)


class Results(Good):
    """Task 1 left a result and task 2 did; a waiter waited for both, another one for task 1 and gave up."""

    def setUp(self):
        super().setUp()
        self.results = {1: result("a", 1), 2: result("b", 2)}
        for old, new in (("id=1 gen=1 verdict=d delay=0", "result=1"), ("id=2 gen=1 verdict=r delay=50000", "result=1"),
                         ("id=2 gen=2 verdict=d delay=0", "result=1")):
            self.replace(old, f"{old} {new}")
        self.write(1, 31)
        self.write(2, 96)
        self.lines += [
            line("WAIT", 8, 13, "any=0 timeout=200000 ids=i1,2"), line("SAW", 8, 32, "id=1 state=2 gen=1 result=1 good=1 of=a@1"),
            line("SAW", 8, 97, "id=2 state=2 gen=2 result=1 good=1 of=b@2"),
            line("WAITED", 8, 98, "code=NQ_OK took=85000 away=0"),
            line("WAIT", 9, 13, "any=0 timeout=10000 ids=i1"), line("WAITED", 9, 24, "code=NQ_ETIMEOUT took=11000 away=0"),
        ]

    def write(self, task, ms):
        self.audit.append(change("result", task, 0, ms, name=self.results[task][:100].hex()))

    def check(self):
        self.options["results"] = self.results
        return super().check()

    def test_good_one_passes(self):
        check = self.check()
        self.assertEqual(check.violations, [])
        self.assertEqual((check.n["results"], check.n["waits in time"], check.n["time-outs"]), (2, 1, 1))

    def test_a_result_of_a_task_that_is_not_kept(self):
        self.forget(1)
        self.caught("result lost")

    def unwritten(self, task):
        self.audit = [a for a in self.audit if a["what"] != "result" or a["id"] != task]
        self.results.pop(task)

    def test_result_that_was_not_written(self):
        self.unwritten(1)
        self.caught("result lost")

    def test_result_of_none(self):
        self.replace("id=1 gen=1 verdict=d delay=0 result=1", "id=1 gen=1 verdict=d delay=0 result=0")
        self.caught("result of another run")

    def test_result_of_another_run(self):
        self.unwritten(2)
        self.results[2] = result("b", 1)
        self.write(2, 96)
        self.caught("result of another run")

    def test_result_twice(self):
        self.write(2, 97)
        self.caught("result written twice")

    def test_result_that_went(self):
        self.results.pop(1)
        self.caught("result lost")

    def test_result_of_a_dead_one(self):
        for a in self.audit:
            if a["what"] == "done" and a["id"] == 1:
                a["what"] = "dead"
        self.caught("result of no success")

    def test_result_with_another_byte(self):
        self.results[1] = self.results[1][:-1] + b"?"
        self.caught("result damaged")

    def test_told_of_another_result(self):
        self.replace("result=1 good=1 of=b@2", "result=1 good=1 of=b@1")
        self.caught("told a lie")

    def test_told_of_another_end(self):
        self.replace("id=2 state=2 gen=2", "id=2 state=3 gen=2")
        self.caught("told a lie")

    def test_told_too_early(self):
        self.replace("SAW 8 97000 97000", "SAW 8 90000 90000")
        self.caught("told a lie")

    def test_ended_well_and_saw_too_few(self):
        self.lines = [text for text in self.lines if not text.startswith("SAW 8 97")]
        self.caught("told a lie")

    def test_given_up_too_early(self):
        self.replace("code=NQ_ETIMEOUT took=11000", "code=NQ_ETIMEOUT took=9000")
        self.caught("told a lie")

    def test_given_up_though_it_had_ended(self):
        self.lines[-2:] = [line("WAIT", 9, 13, "any=0 timeout=5000000 ids=i1"),
                           line("WAITED", 9, 5014, "code=NQ_ETIMEOUT took=5001000 away=0")]
        self.caught("told a lie")
        self.lines.insert(-1, line("CUT", 1, 3000))
        self.assertEqual(self.check().violations, [])

    def test_given_up_because_of_nothing(self):
        self.replace("took=11000 away=0", "took=11000 away=1")
        self.caught("told a lie")

    def test_waited_too_long(self):
        self.replace("code=NQ_OK took=85000", "code=NQ_OK took=1300000")
        self.caught("waited too long")

    def test_waited_in_vain(self):
        self.replace("code=NQ_OK took=85000", "code=NQ_ENOTFOUND took=85000")
        self.caught("waited in vain")

    def test_waits_for_ever(self):
        self.lines.pop()
        self.caught("waits for ever")
        self.lines.append(line("KILL", 1, 99, "pid=9"))
        self.assertEqual(self.check().violations, [])


if __name__ == "__main__":
    unittest.main()
