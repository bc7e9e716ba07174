# SPDX-License-Identifier: MIT
"""Checks a history against the database's own audit and its final tables: invariants 1 to 11 of a task queue.

A history has one record a line (load.h). Roles write INVOKE before an enqueue and then OK, DUP, FAIL, BACK (rolled
back) or UNKNOWN; START and END in a handler; EXIT. The run writes the faults: KILL, STOP, CONT, TERM, EXCUSE, ...
"""
import collections

import history_results

WORKER_SHIFT = 36  # of a lease: docs/design.md, "Fencing"
TICK_US = 1100        # SQLite's clock in SQL has milliseconds
STOP_SLACK_US = 150_000


class Record:
    __slots__ = ("kind", "pid", "mono", "real", "at")

    def __init__(self, line):
        kind, pid, mono, real, rest = line.split(" ", 4)
        self.kind, self.pid, self.mono, self.real = kind, int(pid), int(mono), int(real)
        self.at = {}
        for word in rest.split(" "):
            name, equals, value = word.partition("=")
            if equals and name not in self.at:
                self.at[name] = int(value) if value.lstrip("-").isdigit() else value


def parse(text):
    return [Record(line) for line in text.splitlines() if line]


class Check:
    """violations: [(rule, text)]; n: how often what happened; latency: of takeovers, in microseconds."""

    def __init__(self, records, audit, live, finished, orders, lease_us=5_000_000, max_crashes=3,
                 steady_clock=True, one_clock=True, drained=True, exact_at=True, expect=None, results=None,
                 wait_bound_us=1_000_000):
        self.records, self.audit, self.live, self.finished, self.orders = records, audit, live, finished, orders
        self.lease_us, self.max_crashes, self.steady = lease_us, max_crashes, steady_clock
        self.one_clock = one_clock and steady_clock  # processes and database read the same one
        self.exact_at = exact_at  # the audit's `at` is the very time that the statement reckoned with
        self.violations = []
        self.n = collections.Counter(r.kind for r in records)
        self.latency = []
        self.seen = collections.defaultdict(int)
        self.index()
        self.chain()
        self.enqueued()
        self.handlers()
        self.deaths()
        self.unique()
        self.stopped()
        if results is not None:
            history_results.left(self, results)
            history_results.waited(self, wait_bound_us)
        if drained:
            for row in live:
                self.bad("not drained", f"task {row['id']} is left in state {row['state']}, generation {row['gen']}")
        for what, least in (expect or {}).items():
            if self.n[what] < least:
                self.bad("too little happened", f"{what}: {self.n[what]}, and {least} are needed to see a fault")

    def bad(self, rule, text):
        self.seen[rule] += 1
        if self.seen[rule] <= 5:
            self.violations.append((rule, text))

    # ---- What there is

    def index(self):
        self.starts, self.ends, self.keys = {}, {}, collections.defaultdict(list)
        self.started_keys, self.expiring = set(), set()
        for r in self.records:
            if r.kind == "START":
                at = (r.at["id"], r.at["gen"])
                if at in self.starts:
                    self.bad("one claim a generation", f"task {at[0]} generation {at[1]} started twice")
                self.starts[at] = r
                self.started_keys.add(r.at["key"])
                if r.at["good"] != 1:
                    self.bad("payload", f"task {at[0]} came with other bytes than were enqueued")
            elif r.kind == "EXPIRES":
                self.expiring.add(r.at["id"])
            elif r.kind == "END":
                self.ends[(r.at["id"], r.at["gen"])] = r
            elif r.kind in ("INVOKE", "OK", "DUP", "FAIL", "BACK", "UNKNOWN"):
                self.keys[r.at["key"]].append(r)
        self.workers = {}
        for a in self.audit:
            if a["what"] == "join":
                self.workers[a["id"]] = int(a["name"].rpartition(":")[2])
        self.faults = collections.defaultdict(list)
        for r in self.records:
            if r.kind in ("KILL", "STOP", "CONT", "TERM"):
                self.faults[r.at["pid"]].append(r)

    def pid_of(self, lease):
        return self.workers.get((lease or 0) >> WORKER_SHIFT)

    # ---- 1, 9, 10: durable, or never visible

    def enqueued(self):
        there = {row["id"] for row in self.live} | {row["id"] for row in self.finished}
        there |= {task for task, t in self.tasks.items() if t["ended"]}
        for key, records in self.keys.items():
            answers = [r.kind for r in records if r.kind != "INVOKE"]
            doubt = "UNKNOWN" in answers or len(answers) < sum(r.kind == "INVOKE" for r in records)
            shared = key.startswith(("hot-", "race-"))
            before = False
            for r in records:
                before = before or r.kind in ("UNKNOWN", "OK")
                if r.kind == "OK" and r.at["id"] not in there:
                    self.bad("lost", f"task {r.at['id']} ({key}) was acknowledged and is nowhere")
                if r.kind == "DUP" and not shared and not before:
                    self.bad("failed, yet there", f"{key} was reported as failed and was there afterwards")
            if "OK" in answers or "DUP" in answers or doubt or shared:
                continue
            if key in self.started_keys:
                self.bad("failed, yet there", f"{key} ran, and was answered {' '.join(answers)}")
        ops = {key: records[0].at.get("op") for key, records in self.keys.items()}
        for key, op in ops.items():
            if op in ("tx", "rollback") and (key in self.orders) != (key in self.started_keys):
                self.bad("one transaction", f"{key}: row {key in self.orders}, task ran {key in self.started_keys}")

    # ---- 2, 3, 5, 6: the chain of changes of each task, as the database committed them

    def chain(self):
        tasks = {}
        for a in self.audit:
            what, task = a["what"], a["id"]
            if what == "insert":
                # one that was retried by hand keeps its generation
                tasks[task] = {"gen": 0 if a["lease"] else a["gen"], "lease": 0, "attempts": 0, "crashes": 0, "ended": None}
                if a["lease"]:
                    self.born(a, tasks[task])
            t = tasks.get(task)
            if what in ("join", "gone", "insert") or t is None:
                continue
            if what == "claim":
                self.claimed(a, t)
            elif what == "back":
                self.back(a, t)
            elif what in ("done", "dead"):
                self.ended(a, t)
            elif what == "delete" and a["was_state"] == 1 and not t["ended"]:
                self.ended({**a, "what": "done"}, t)  # and no record is kept
            if what == "delete" and a["was_state"] == 1 and a["was_lease"] != t["lease"]:
                self.bad("fencing", f"task {task}: ended under lease {a['was_lease']}, claimed under {t['lease']}")
        self.claims = {(a["id"], a["gen"]): a for a in self.audit
                       if a["what"] == "claim" or (a["what"] == "insert" and a["lease"])}
        for row in self.finished:
            t = tasks.get(row["id"])
            if t and row["crashes"] != t["crashes"]:
                self.bad("crash counts", f"task {row['id']}: {row['crashes']} crashes, {t['crashes']} were seen")
        self.tasks = tasks

    def born(self, a, t):
        """A task that was inserted for an idle worker, and is its claim."""
        self.n["claims"] += 1
        self.n["handed over"] += 1
        if a["gen"] != 1:
            self.bad("one claim a generation", f"task {a['id']}: inserted as a claim of generation {a['gen']}")
        t.update(gen=a["gen"], lease=a["lease"])

    def claimed(self, a, t):
        self.n["claims"] += 1
        if a["gen"] != t["gen"] + 1 or a["was_state"] != 0:
            self.bad("one claim a generation",
                     f"task {a['id']}: claim of generation {a['gen']} after {t['gen']}, state {a['was_state']}")
        if t["ended"]:
            self.bad("completed twice", f"task {a['id']} was claimed after it had ended")
        if a["at"] + TICK_US < a["was_run_at"] and not self.stepped_back(a):
            self.bad("early", f"task {a['id']} was claimed {a['was_run_at'] - a['at']} us before it was due")
        t.update(gen=a["gen"], lease=a["lease"])

    def stepped_back(self, a):
        """Was the database's clock set back between the decision to claim and the audit's look at it?"""
        before = 0
        for step in (r for r in self.records if r.kind == "STEP"):
            now, back = step.real + step.at["by"] * 1_000_000, (before - step.at["by"]) * 1_000_000
            if abs(a["at"] - now) < 500_000 and a["was_run_at"] - a["at"] <= back + TICK_US:
                return True
            before = step.at["by"]
        return False

    def end_before(self, a):
        """What the handler of that generation said, if it had by then."""
        end = self.ends.get((a["id"], a["gen"]))
        return None if end and self.one_clock and end.real > a["at"] + TICK_US else end

    def back(self, a, t):
        if a["was_state"] == 0:
            return
        end = self.end_before(a)
        crashed, failed = a["crashes"] > t["crashes"], a["attempts"] > t["attempts"]
        moved = a["run_at"] != a["was_run_at"]
        if a["was_lease"] != t["lease"]:
            self.bad("fencing", f"task {a['id']}: put back under lease {a['was_lease']}, claimed under {t['lease']}")
        if crashed:
            self.crashed(a, t)
        elif failed or moved:
            verdict = "r" if failed else "s"
            if not end or end.at["verdict"] != verdict:
                self.bad("stale completion", f"task {a['id']} generation {a['gen']}: put off, and its handler had not said so")
            elif a["run_at"] - (a["at"] if self.exact_at else min(a["at"], end.real)) + TICK_US < end.at["delay"]:
                self.bad("early", f"task {a['id']}: due {a['run_at'] - a['at']} us after, asked for {end.at['delay']}")
            self.n["retries" if failed else "snoozes"] += 1
        else:
            self.n["releases"] += 1
        t.update(attempts=a["attempts"], crashes=a["crashes"], lease=0)

    def ended(self, a, t):
        end = self.end_before(a)
        if t["ended"]:
            self.bad("completed twice", f"task {a['id']} ended twice: {t['ended']}, {a['what']}")
        t["ended"] = a["what"]
        if a["gen"] != t["gen"] or t["lease"] == 0:
            self.bad("completed twice", f"task {a['id']} ended in generation {a['gen']} without a claim of it")
        if a["what"] == "dead" and a["crashes"] > t["crashes"]:
            self.crashed(a, t)
            t.update(crashes=a["crashes"])
        elif a["what"] == "dead" and a["id"] in self.expiring and (a["id"], a["gen"]) not in self.starts:
            self.n["expired"] += 1
        elif not end or end.at["verdict"] not in ("d" if a["what"] == "done" else "xr"):
            self.bad("stale completion",
                     f"task {a['id']} generation {a['gen']}: {a['what']}, and its handler had not said so")
        self.n[a["what"]] += 1

    def crashed(self, a, t):
        self.n["crashes"] += 1
        lease = a["was_lease"] if a["what"] == "back" else t["lease"]
        a["pid"] = self.pid_of(lease)
        if a["crashes"] != t["crashes"] + 1 or a["attempts"] != t["attempts"] + 1:
            self.bad("crash counts", f"task {a['id']}: crashes {t['crashes']} to {a['crashes']}")
        if (a["crashes"] > self.max_crashes) != (a["what"] == "dead") and a["what"] == "back":
            self.bad("crash counts", f"task {a['id']} goes on after {a['crashes']} crashes")

    # ---- 2, 6: handlers against what was committed

    def handlers(self):
        last = {}
        for (task, gen), start in sorted(self.starts.items()):
            if (task, gen) not in self.claims:
                self.bad("start before commit", f"task {task} started in generation {gen}, of which no claim was committed")
            end = self.ends.get((task, gen - 1))
            if self.steady and end and end.at["verdict"] in "rs" and start.mono - end.mono < end.at["delay"] and \
                    self.put_off(task, gen - 1):
                self.bad("early", f"task {task} ran again after {start.mono - end.mono} us, not {end.at['delay']}")
            last.setdefault(start.at["key"], start)
        for key, start in last.items():
            invoke = self.call_of(key)
            if self.steady and invoke and not key.startswith(("hot-", "race-")) and \
                    start.mono - invoke.mono < invoke.at.get("delay", 0):
                self.bad("early", f"{key} ran {start.mono - invoke.mono} us after its enqueue, not {invoke.at['delay']}")

    def call_of(self, key):
        """Of the calls that may have made its task, the one whose task is due first."""
        records = self.keys.get(key, [])
        calls = [a for a, b in zip(records, records[1:] + [None])
                 if a.kind == "INVOKE" and not (b and b.kind in ("FAIL", "BACK"))]
        return min(calls, key=lambda r: r.mono + r.at.get("delay", 0), default=None)

    def put_off(self, task, gen):
        """Did that generation's outcome take effect? Else the task came back another way."""
        for a in self.audit_of(task):
            if a["what"] == "back" and a["gen"] == gen:
                return a["crashes"] == self.claims[(task, gen)]["crashes"] and a["run_at"] != a["was_run_at"]
        return False

    def audit_of(self, task):
        if not hasattr(self, "by_task"):
            self.by_task = collections.defaultdict(list)
            for a in self.audit:
                self.by_task[a["id"]].append(a)
        return self.by_task[task]

    # ---- 4, 5: who was taken for dead, and how soon

    def deaths(self):
        excused = self.n["EXCUSE"] > 0
        for a in self.audit:
            if "pid" not in a:
                continue
            faults = self.faults.get(a["pid"], [])
            kill = next((f for f in faults if f.kind == "KILL"), None)
            if not kill and not excused and not self.long_stop(faults):
                self.bad("alive, yet reclaimed", f"task {a['id']} was taken from process {a['pid']}, which lived")
            # The first crash is retried at once; later ones wait for the policy.
            start = self.starts.get((a["id"], a["gen"] + 1)) if a["crashes"] == 1 else None
            before = [f.mono for f in faults if f.kind in ("KILL", "STOP") and start and f.mono < start.mono]
            if before:
                self.latency.append(start.mono - max(before))

    def long_stop(self, faults):
        stop = None
        for f in faults:
            if f.kind == "STOP":
                stop = f.mono
            elif f.kind == "CONT" and stop and f.mono - stop >= 0.6 * self.lease_us:
                return True
        return False

    # ---- 8, 11

    def unique(self):
        live = {}
        for a in self.audit:
            if a["ukey"] is None or a["what"] not in ("insert", "delete"):
                continue
            if a["what"] == "delete":
                live.pop(a["ukey"], None)
            elif a["ukey"] in live:
                self.bad("two live with one key", f"tasks {live[a['ukey']]} and {a['id']}")
            else:
                live[a["ukey"]] = a["id"]

    def stopped(self):
        term = {r.at["pid"]: r.mono for r in self.records if r.kind == "TERM"}
        exits = {r.pid: r for r in self.records if r.kind == "EXIT"}
        held = collections.defaultdict(list)
        for row in self.live:
            if row["state"] == 1:
                held[self.pid_of(row["lease"])].append(
                    f"{row['id']}: lease {row['lease']:x}, generation {row['gen']}, crashes {row['crashes']}")
        for start in self.starts.values():
            if start.pid in term and start.mono > term[start.pid] + STOP_SLACK_US:
                self.bad("claimed after the signal", f"task {start.at['id']} started {start.mono - term[start.pid]} us later")
        for pid in term:
            if pid in exits and held[pid]:
                self.bad("held after exit", f"process {pid} left {len(held[pid])} task(s) running ({'; '.join(held[pid][:20])})")


def report(check, seed):
    """Lines for people: the seed, what happened, what is wrong."""
    n = check.n
    shown = ("INVOKE", "OK", "DUP", "UNKNOWN", "FAIL", "BACK", "START", "claims", "handed over", "done", "dead", "retries",
             "snoozes", "releases", "crashes", "expired", "STEERED", "KILL", "STOP", "TERM", "DECLARED", "SERVERKILL", "LOCKED", "CUT", "STEP", "results", "waits",
             "waits in time", "time-outs")
    lines = [f"  seed {seed}: " + ", ".join(f"{name.lower()} {n[name]}" for name in shown if n[name])]
    lines += [f"  VIOLATION {rule}: {text}" for rule, text in check.violations]
    lines += [f"  VIOLATION {rule}: {count} in all" for rule, count in check.seen.items() if count > 5]
    return lines
