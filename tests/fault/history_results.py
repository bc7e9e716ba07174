# SPDX-License-Identifier: MIT
"""What tasks left, and what those who waited for them were told, against what the database committed.

A worker's END says result=1 where the handler called nq_ctx_result, whatever its verdict. The result's first line
begins with "KEY@GENERATION" of the run that left it. A waiter writes WAIT, a SAW for each task it was told of, and
WAITED; the run writes SERVERKILL, LOCKED and CUT when the database goes away.
"""
import collections

STATES = {2: "done", 3: "dead", 4: "cancelled"}
LOOK_US = 1_000_000   # a look that finds nothing may be so old when the waiter gives up
FAULT_US = 10_000_000  # so long after a fault a call may still meet what it broke
MASK = (1 << 64) - 1


def fill(key, n):
    """As load_fill in load.c."""
    x = 1469598103934665603
    for byte in key.encode():
        x = (x ^ byte) * 1099511628211 & MASK
    out = bytearray()
    for _ in range(n):
        x = (x * 6364136223846793005 + 1442695040888963407) & MASK
        out.append(x >> 56)
    return bytes(out)


def whole(result):
    """Are these all the bytes that a run left?"""
    line, _, rest = result.partition(b"\n")
    words = line.decode(errors="replace").split(" ")
    return len(words) == 5 and words[4].isdigit() and len(rest) == int(words[4]) and rest == fill(words[0], len(rest))


def run_of(result):
    """The generation that left it; -1: that cannot be read."""
    key = result.split(b" ", 1)[0]
    gen = key.rpartition(b"@")[2]
    return int(gen) if gen.isdigit() else -1


def ends(check):
    """{task: (how, generation, when, is there a record)} as committed."""
    out = {}
    for a in check.audit:
        if a["what"] in ("done", "dead", "cancelled"):
            out[a["id"]] = (a["what"], a["gen"], a["at"], True)
        elif a["what"] == "delete" and a["was_state"] == 1 and a["id"] not in out and a["id"] in check.tasks:
            out[a["id"]] = ("done", check.tasks[a["id"]]["gen"], a["at"], False)
    return out


def left(check, results):
    """A result is there if and only if its attempt ended done, once, and it is that attempt's."""
    check.committed = ends(check)
    written = collections.defaultdict(list)
    for a in check.audit:
        if a["what"] == "result" and a["name"] is not None:
            written[a["id"]].append(bytes.fromhex(a["name"]))
    check.written = written
    for task, texts in written.items():
        how, gen, _, _ = check.committed.get(task, ("nothing", 0, 0, False))
        check.n["results"] += 1
        if how != "done":
            check.bad("result of no success", f"task {task} ended {how}, and a result was written")
        elif any(run_of(text) != gen for text in texts):
            check.bad("result of another run", f"task {task} was done by run {gen}, its result is of "
                                               f"{', '.join(str(run_of(text)) for text in texts)}")
        if len(texts) > 1:
            check.bad("result written twice", f"task {task}: {len(texts)} times")
        if results.get(task, b"")[:100] != texts[-1]:
            check.bad("result lost", f"task {task}: its result was committed and is not there any more")
    for task, (how, gen, _, record) in check.committed.items():
        end = check.ends.get((task, gen))
        if how != "done" or not end:
            continue
        if end.at.get("result") == 1 and (task not in written or not record):
            check.bad("result lost", f"task {task} was done by run {gen}, which left a result, and there is none")
        elif end.at.get("result") == 0 and task in written:
            check.bad("result of another run", f"task {task} was done by run {gen}, which left none, and there is one")
    for task, result in results.items():
        if not whole(result):
            check.bad("result damaged", f"task {task}: not the bytes that were left")
        if task not in written:
            check.bad("result of no success", f"task {task} has a result whose writing nobody saw")


class Wait:
    def __init__(self, record):
        self.record, self.seen = record, {}
        self.ids = [int(word) for word in str(record.at["ids"]).lstrip("i").split(",")]


def waited(check, bound_us):
    """Each wait ended in time, and with the truth."""
    check.waits, open_waits = [], {}
    faults = [r for r in check.records if r.kind in ("SERVERKILL", "LOCKED", "CUT")]
    for r in check.records:
        if r.kind == "WAIT":
            open_waits[r.pid] = Wait(r)
        elif r.kind == "SAW":
            saw(check, open_waits[r.pid], r)
        elif r.kind == "WAITED":
            over(check, open_waits.pop(r.pid), r, bound_us, faults)
    for pid, wait in open_waits.items():
        if not any(f.kind == "KILL" for f in check.faults.get(pid, [])):
            check.bad("waits for ever", f"process {pid} waits for {wait.ids} and has not come back")


def saw(check, wait, r):
    task = r.at["id"]
    how, gen, at, _ = check.committed.get(task, ("nothing", 0, 0, False))
    if task in wait.seen or task not in wait.ids:
        check.bad("told a lie", f"task {task} was shown {'twice' if task in wait.seen else 'and not waited for'}")
    wait.seen[task] = r
    if STATES.get(r.at["state"]) != how or r.at["gen"] != gen:
        check.bad("told a lie", f"task {task}: {STATES.get(r.at['state'], 'live')} by run {r.at['gen']} was said, "
                                f"{how} by {gen} was committed")
    elif check.one_clock and at > r.real + 1100:
        check.bad("told a lie", f"task {task}: said to have ended {at - r.real} us before it did")
    texts = check.written.get(task, [])
    if r.at["good"] != 1 or r.at["result"] != (1 if texts else 0) or \
            (texts and str(r.at["of"]).encode() != texts[-1].split(b" ", 1)[0]):
        check.bad("told a lie", f"task {task}: another result was shown than it left: {r.at['of']}")


def over(check, wait, r, bound_us, faults):
    any_of, timeout, code = wait.record.at["any"], wait.record.at["timeout"], r.at["code"]
    enough = 1 if any_of else len(wait.ids)
    check.n["waits"] += 1
    late = r.at["took"] - timeout
    if late > bound_us:
        check.bad("waited too long", f"{r.at['took']} us, and {timeout} were allowed")
    if code == "NQ_OK":
        check.n["waits in time"] += 1
        if len(wait.seen) < enough:
            check.bad("told a lie", f"a wait for {wait.ids} ended well, and {len(wait.seen)} of them were seen")
        check.waits.append((r.mono, max((check.committed[t][2] for t in wait.seen if t in check.committed), default=0),
                            r.real))
    elif code == "NQ_ETIMEOUT":
        check.n["time-outs"] += 1
        if late < 0 or len(wait.seen) >= enough:
            check.bad("told a lie", f"a wait for {wait.ids} gave up after {r.at['took']} us of {timeout}")
        met = any(wait.record.mono - FAULT_US < f.mono < r.mono for f in faults)
        ended = [t for t in wait.ids if t in check.committed and check.committed[t][2] < r.real - LOOK_US]
        if not met and check.one_clock and len(ended) >= enough:
            check.bad("told a lie", f"a wait for {wait.ids} gave up, and {ended} had ended for {LOOK_US} us")
        if r.at["away"] and not met:
            check.bad("told a lie", f"a wait for {wait.ids} gave up because of the database, which was there")
    else:
        check.bad("waited in vain", f"a wait for {wait.ids} ended with {code}")
