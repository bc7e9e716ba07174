#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What order.py, letters.py and tool.py look for: found in histories that are bad, and not in one that is good."""
import os
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import history  # noqa: E402
import letters  # noqa: E402
import order  # noqa: E402
import tool  # noqa: E402
from test_history import LEASE_A, LEASE_B, PID_A, PID_B, back, change, claim, done, line  # noqa: E402

GROUP = {1: "g0", 2: "g0", 3: "h0", 4: "h0"}


class Order(unittest.TestCase):
    """Task 1 fails once, then it and task 2 are done. Task 3 dies, is deleted, and task 4 is done."""

    def setUp(self):
        self.lines = [
            line("START", PID_A, 20, "id=1 gen=1 good=1 key=a"), line("END", PID_A, 30, "id=1 gen=1 verdict=r delay=0"),
            line("START", PID_B, 40, "id=1 gen=2 good=1 key=a"), line("END", PID_B, 50, "id=1 gen=2 verdict=d delay=0"),
            line("START", PID_A, 60, "id=2 gen=1 good=1 key=b"), line("END", PID_A, 70, "id=2 gen=1 verdict=d delay=0"),
            line("START", PID_A, 20, "id=3 gen=1 good=1 key=c"), line("END", PID_A, 30, "id=3 gen=1 verdict=x delay=0"),
            line("STEER", 9, 80, "what=delete id=3"), line("STEERED", 9, 81, "what=delete id=3 code=0"),
            line("START", PID_B, 90, "id=4 gen=1 good=1 key=d"), line("END", PID_B, 95, "id=4 gen=1 verdict=d delay=0"),
        ]
        self.audit = [
            *(change("insert", task, 0, 10, ukey=f"k{task}") for task in GROUP),
            claim(1, 1, 19, LEASE_A), back(1, 1, 31, LEASE_A, attempts=1, run_at=31_000),
            claim(1, 2, 39, LEASE_B, attempts=1), *done(1, 2, 51, LEASE_B, attempts=1),
            claim(2, 1, 59, LEASE_A), *done(2, 1, 71, LEASE_A),
            claim(3, 1, 19, LEASE_A), *done(3, 1, 31, LEASE_A, what="dead"),
            claim(4, 1, 89, LEASE_B), *done(4, 1, 96, LEASE_B),
        ]

    def seen(self):
        check = history.Check(history.parse("\n".join(self.lines)), self.audit, [], [], set())
        return (*order.by_log(check, GROUP), *order.by_audit(check, GROUP)[:3])

    def test_a_good_one(self):
        self.assertEqual(self.seen(), (0, 0, 0, 0, 0))

    def test_two_at_once(self):
        self.lines[4] = line("START", PID_A, 45, "id=2 gen=1 good=1 key=b")
        self.assertEqual(self.seen()[0], 1)

    def test_two_at_once_where_one_was_killed(self):
        del self.lines[3]  # it never came to its end, and its lease was taken when it was dead
        self.lines.append(line("KILL", 9, 65, f"pid={PID_B}"))
        self.audit[7:9] = done(1, 2, 80, LEASE_B, attempts=1)
        self.assertEqual(self.seen()[0], 1)

    def test_a_lost_lease_counts_for_nothing(self):
        self.lines[1] = line("END", PID_A, 300, "id=1 gen=1 verdict=d delay=0")
        self.assertEqual(self.seen(), (0, 0, 0, 0, 0))

    def test_out_of_order(self):
        self.lines[4:6] = [line("START", PID_A, 12, "id=2 gen=1 good=1 key=b"),
                           line("END", PID_A, 13, "id=2 gen=1 verdict=d delay=0")]
        self.assertEqual(self.seen()[:2], (0, 2))

    def test_a_claim_while_one_before_lives(self):
        self.audit[4:4] = [claim(2, 1, 11, LEASE_A), *done(2, 1, 14, LEASE_A)]
        self.assertEqual(self.seen()[3], 1)

    def test_two_claimed(self):
        self.audit[5:5] = [claim(2, 1, 25, LEASE_A)]
        self.assertEqual(self.seen()[2], 1 + 2)

    def test_halted_and_gone_on(self):
        for at in (8, 9):
            self.lines[at] = self.lines[at].replace("id=3", "id=1")
        self.assertEqual(self.seen()[4], 1)

    def test_released_too_late(self):
        self.lines[8] = line("STEER", 9, 92, "what=delete id=3")
        self.assertEqual(self.seen()[4], 1)


class Letters(unittest.TestCase):
    def test_judge(self):
        good = [(7, b"l7 x 1"), (7, b"l7 x 1"), (8, b"l8 d 2")]
        self.assertEqual(letters.judge([7, 8, 7], good), (0, 0, 0))
        self.assertEqual(letters.judge([7, 8, 7, 9], good), (1, 0, 0))
        self.assertEqual(letters.judge([7, 8], good), (0, 1, 0))
        self.assertEqual(letters.judge([7, 7, 8], good[:2] + [(8, b"l9 d 2")]), (0, 0, 1))


class Tool(unittest.TestCase):
    """Task 1 is run by process 11, then by 12."""

    def seen(self, *journal):
        ends, inside = tool.runs_of(journal)
        return ends[1], inside

    def test_one_after_the_other(self):
        self.assertEqual(self.seen("begin 1 11", "begin 2 21", "end 1 11", "begin 1 12", "end 1 12", "end 2 21"), (2, []))

    def test_beside_one_that_was_killed(self):
        self.assertEqual(self.seen("begin 1 11", "begin 1 12", "end 1 12"), (1, []))

    def test_beside_one_that_goes_on(self):
        self.assertEqual(self.seen("begin 1 11", "begin 1 12", "end 1 11"), (1, [(1, "12")]))
        self.assertEqual(self.seen("begin 1 11", "begin 1 12", "end 1 12", "end 1 11"), (2, [(1, "12")]))


if __name__ == "__main__":
    unittest.main()
