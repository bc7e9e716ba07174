#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# nanoq work as a service: limits, what is left after kill -9, signals, systemd's notices, logs.
import datetime
import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import time
import unittest

from test_cli import LIMIT, NANOQ, Base


class ServiceBase(Base):
    def script(self, text):
        return ("--", "sh", "-c", text)

    def work(self, *args, **kwargs):
        return self.run_nanoq("work", "--drain", *args, **kwargs)

    def log(self):
        """The JSON lines of the last run_nanoq."""
        return [json.loads(line) for line in self.err.splitlines()]

    def alive(self, pid):
        try:
            with open("/proc/%s/stat" % pid, encoding="latin-1") as f:
                return f.read().rpartition(")")[2].split()[0] not in "ZX"
        except (FileNotFoundError, ProcessLookupError):
            return False

    def said(self, worker, what):
        """Read the worker's stderr up to the line with that; what was read."""
        seen = b""
        while what not in seen:
            line = worker.stderr.readline()
            self.assertNotEqual(line, b"", seen)
            seen += line
        return seen

    def children(self, pid):
        """Of a process: (pid, state, name) of each child, zombies too."""
        found = []
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                try:
                    with open("/proc/%s/stat" % entry, encoding="latin-1") as f:
                        before, _, after = f.read().rpartition(")")
                except (FileNotFoundError, ProcessLookupError):
                    continue
                if after.split()[1] == str(pid):
                    found.append((int(entry), after.split()[0], before.partition("(")[2]))
        return found


class Headers(ServiceBase):
    def test_a_command_finds_the_trace_of_its_task_alone(self):
        self.add("a", "1", "--header", "traceparent=00-a-b-01", "--header", "tracestate=x=1")
        self.add("b", "1")
        self.env["TRACEPARENT"] = "of the worker"
        out = self.work("-j", "1", "--log", "json", *self.script('cat > /dev/null; echo "$NANOQ_TYPE $TRACEPARENT $TRACESTATE."'))
        self.assertEqual(out.decode().split("\n"), ["a 00-a-b-01 x=1.", "b  .", ""])
        ended = {line["type"]: line for line in self.log() if line.get("verdict") == "done"}
        self.assertEqual((ended["a"]["traceparent"], "traceparent" in ended["b"]), ("00-a-b-01", False))

    def test_an_expired_task_is_not_started(self):
        for command in (self.script("cat > /dev/null; touch ran"), ("--stream", *self.script("touch ran"))):
            task = self.add("late", "--expires", "1ms", "--no-unique")
            self.wait(lambda t=task: self.show(t)["expires_at"] < datetime.datetime.utcnow().isoformat(), "it to expire")
            self.work(*command, code=5)
            self.assertIn("task %d late: not started, now dead: expired" % task, self.err)
            ended = self.show(task)
            self.assertEqual((ended["state"], ended["error"], ended["attempts"]), ("dead", "expired", 0))
        self.assertFalse(os.path.exists(self.path("ran")))


class Limits(ServiceBase):
    def test_a_claim_is_bounded_in_bytes(self):
        self.run_nanoq("work", "--claim-bytes", "0", "--", "true", code=2)
        self.assertIn("less than 1", self.err)
        self.run_nanoq("work", "--claim-bytes", "8x", "--", "true", code=2)
        for i in range(3):  # each is above the bound, and claimed by itself
            self.add("t", json.dumps(str(i) * 5000))
        self.run_nanoq("work", "--claim-bytes", "1K", "--drain", "--", "sh", "-c", "wc -c >> %s" % self.path("sizes"))
        self.assertEqual(self.lines("sizes"), ["5002"] * 3)

    def test_memory(self):
        task = self.add("t")
        self.work("--memory", "256M", "--", "python3", "-c", "x = bytearray(1 << 30)")
        self.assertIn("MemoryError", self.show(task)["error"])
        self.run_nanoq("retry", str(task))
        self.work("--memory", "2G", "--", "python3", "-c", "x = bytearray(1 << 24)")
        self.run_nanoq("show", str(task), code=3)

    # The kernel counts to the second, and by ticks: 1 s, and what was used before, is given as 2 s, ended at 1.99 to 2.01.
    def test_cpu(self):
        task = self.add("t")
        begin = time.monotonic()
        self.work("--cpu", "1s", *self.script("while :; do :; done"))
        self.assertLess(time.monotonic() - begin, 30)
        self.assertRegex(self.show(task)["error"], r"killed by signal 24 \(SIGXCPU: CPU time limit\) after [12]\.\d+ s of CPU")

    def test_cpu_of_who_catches_it(self):
        task = self.add("t")
        self.work("--cpu", "1s", *self.script("trap '' XCPU; while :; do :; done"))
        self.assertRegex(self.show(task)["error"], r"killed by signal 9 \(SIGKILL\) after [23]\.\d+ s")

    def test_no_new_privs(self):
        for options, flag in (((), b"0"), (("--no-new-privs",), b"1")):
            self.add("t")
            out = self.work(*options, "--", "grep", "NoNewPrivs", "/proc/self/status")
            self.assertEqual(out.split()[1], flag)


class Left(ServiceBase):
    """A keeper stands between the worker and each command: nothing of a command is left, however it ends."""

    DAEMON = ("setsid sh -c 'echo $$ >> %s; exec sleep 300' & "
              "sh -c 'trap \"\" TERM HUP; echo $$ >> %s; exec sleep 300' & ")

    def keepers(self, worker):
        return [(pid, state) for pid, state, name in self.children(worker.pid) if name == "nanoq-keeper"]

    def begun(self, then, *args):
        """Start a task that leaves something behind twice; what it started, itself last."""
        script = self.DAEMON % (self.path("pids"), self.path("pids")) + (
            "while [ $(wc -l < %s) -lt 2 ]; do sleep .05; done; echo $$ >> %s; %s" % (self.path("pids"), self.path("pids"), then))
        open(self.path("pids"), "w", encoding="utf-8").close()
        self.add("t", "--timeout", "1s" if "300" in then and args else "60s", "--max-retries", "0")
        worker = self.start("work", "-j", "1", *args, *self.script(script))
        self.wait(lambda: len(self.lines("pids")) == 3, "the task to start")
        return worker, [int(pid) for pid in self.lines("pids")]

    def gone(self, pids):
        for pid in pids:
            self.wait(lambda pid=pid: not self.alive(pid), "%d to end" % pid)

    def test_kill_9_of_the_worker_leaves_nothing(self):
        worker, pids = self.begun("sleep 300")
        pids += [pid for pid, _ in self.keepers(worker)]
        self.assertEqual(len(pids), 4)
        worker.kill()
        worker.wait()
        self.gone(pids)

    def test_a_command_that_ended_leaves_nothing(self):
        worker, pids = self.begun("exit 0")
        self.gone(pids)
        self.wait(lambda: not self.children(worker.pid), "the keeper to be reaped")
        worker.terminate()
        self.assertEqual(worker.wait(LIMIT), 0)

    def test_a_timeout_leaves_nothing(self):
        worker, pids = self.begun("sleep 300", "--grace", "0.2s")
        self.gone(pids)
        self.wait(lambda: self.json("list")[0]["state"] == "dead", "the task to be dead")
        self.assertRegex(self.json("list")[0]["error"], "^timed out after 1 s")
        worker.terminate()
        self.assertEqual(worker.wait(LIMIT), 0)

    def test_a_keeper_stands_signals_and_holds_nothing_open(self):
        worker, pids = self.begun("sleep 300")
        (keeper, _), = self.keepers(worker)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            os.kill(keeper, number)
        names = [os.readlink("/proc/%d/fd/%s" % (keeper, fd)) for fd in os.listdir("/proc/%d/fd" % keeper)]
        self.assertEqual(sorted(n.partition(":")[0] for n in names),
                         ["/dev/null"] * 3 + ["anon_inode", "socket"])
        worker.kill()
        self.assertEqual(worker.communicate(timeout=LIMIT)[0], b"")
        self.gone(pids)

    def test_a_keeper_that_was_killed_takes_its_command_along(self):
        worker, pids = self.begun("exec sleep 300")
        os.kill(self.keepers(worker)[0][0], signal.SIGKILL)
        self.addCleanup(lambda: [os.path.exists("/proc/%d" % pid) and os.kill(pid, signal.SIGKILL) for pid in pids])
        self.wait(lambda: self.json("list")[0]["state"] == "dead", "the task to be dead")
        self.assertRegex(self.json("list")[0]["error"], r"killed by signal 9")
        self.assertFalse(self.alive(pids[2]))
        for pid in pids[:2]:  # they belong to nobody any more, and hold our stderr
            os.kill(pid, signal.SIGKILL)
        worker.terminate()
        self.assertEqual(worker.wait(LIMIT), 0)

    def test_a_large_command_whose_keeper_was_killed_is_gone_when_its_task_has_failed(self):
        """It gives back its memory first, which takes a while; a retry would run beside it."""
        worker, pids = self.begun("exec python3 -c \"import time; x = b'x' * (1 << 29); open('%s', 'w').close(); time.sleep(300)\"" %
                                  self.path("large"))
        self.wait(lambda: os.path.exists(self.path("large")), "the command to be large")
        os.kill(self.keepers(worker)[0][0], signal.SIGKILL)
        self.said(worker, b"killed by signal 9")
        there = self.alive(pids[2])
        for pid in pids[:2]:  # they belong to nobody any more, and hold our stderr
            os.kill(pid, signal.SIGKILL)
        self.assertFalse(there)


class FirstProcess(ServiceBase):
    """As pid 1, of a container say, a worker inherits who loses its parent."""

    NAMESPACE = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"] + (
        [] if os.getuid() == 0 else ["--user", "--map-root-user"])

    def test_what_it_inherits_is_reaped(self):
        if subprocess.run([*self.NAMESPACE, "true"], capture_output=True, timeout=LIMIT, check=False).returncode != 0:
            self.skipTest("no namespaces of processes here")
        for i in range(3):
            self.add("leave", str(i), "--max-retries", "0")
            self.add("end", str(i))
        # The keeper would end what its command leaves; so it goes too, and with it the command.
        command = self.script('[ "$NANOQ_TYPE" = end ] || { (sleep 0.2 &); (sleep 0.2 &); kill -9 $PPID; exec sleep 300; }')
        worker = subprocess.Popen([*self.NAMESPACE, NANOQ, "work", *command], env=self.env, stdout=subprocess.DEVNULL,
                                  stderr=subprocess.PIPE)
        self.started.append(worker)
        self.wait(lambda: [task["state"] for task in self.json("list")] == ["dead"] * 3, "three tasks to be dead, three to be done")
        self.assertIn("killed by signal 9", self.json("list")[0]["error"])
        (first, _, _), = self.children(worker.pid)
        self.wait(lambda: not self.children(first), "everything to be reaped")
        os.kill(first, signal.SIGTERM)
        self.assertEqual(worker.wait(LIMIT), 0)


class Queues(ServiceBase):
    """--queue NAME,concurrency=N,weight=N"""

    def overlaps(self, *args):
        """Whether two tasks of the queue few ever ran at once; and of many."""
        for i in range(6):
            self.add("t", str(i), "--queue", "few")
            self.add("t", str(100 + i), "--queue", "many")
        self.work("-j", "4", "--queue", "few,concurrency=1,weight=2", "--queue", "many", *args, code=0)
        self.assertEqual(self.json("list"), [])
        found = {}
        for queue in ("few", "many"):
            with open(self.path(queue), encoding="utf-8") as f:
                depth = [0]
                for line in f:
                    depth.append(depth[-1] + (1 if line == "begin\n" else -1))
            self.assertEqual(len(depth), 13)
            found[queue] = max(depth)
        return found

    def test_a_limit_of_a_queue(self):
        found = self.overlaps(*self.script(
            "cat > /dev/null; echo begin >> %s/$NANOQ_QUEUE; sleep 0.2; echo end >> %s/$NANOQ_QUEUE"
            % (self.dir, self.dir)))
        self.assertEqual(found["few"], 1)
        self.assertGreater(found["many"], 1)

    def test_a_limit_of_a_queue_with_stream(self):
        with open(self.path("child.py"), "w", encoding="utf-8") as f:
            f.write("import json, sys, time\n"
                    "def note(queue, what):\n"
                    "    with open('%s/' + queue, 'a') as f:\n"
                    "        f.write(what)\n"
                    "for line in sys.stdin:\n"
                    "    task = json.loads(line)\n"
                    "    note(task['queue'], 'begin\\n')\n"
                    "    time.sleep(0.2)\n"
                    "    note(task['queue'], 'end\\n')\n"
                    "    print(json.dumps({'done': task['id']}), flush=True)\n" % self.dir)
        found = self.overlaps("--stream", "--", "python3", self.path("child.py"))
        self.assertEqual(found["few"], 1)
        self.assertGreater(found["many"], 1)

    def test_wrong_settings_are_named(self):
        for value, why in (("mail,concurency=2", "--queue mail: 'concurency=2' is none of concurrency=N, weight=N"),
                           ("mail,", "--queue mail: '' is none of concurrency=N, weight=N"),
                           ("mail,concurrency=0", "--queue mail: concurrency: '0' is not a whole number from 1 to 1024"),
                           ("mail,concurrency=", "--queue mail: concurrency: '' is not a whole number from 1 to 1024"),
                           ("mail,weight=1001", "--queue mail: weight: '1001' is not a whole number from 1 to 1000"),
                           ("mail,weight=2x", "--queue mail: weight: '2x' is not a whole number from 1 to 1000"),
                           ("mail,weight=2,weight=3", "--queue mail: weight is given twice"),
                           (",weight=2", "--queue: needs a name")):
            with self.subTest(value=value):
                self.run_nanoq("work", "--queue", value, "--", "true", code=2)
                self.assertIn(why, self.err if isinstance(self.err, str) else self.err.decode())


class NotStarted(ServiceBase):
    """A command that cannot be started costs no task an attempt."""

    def command(self, text):
        with open(self.path("run.new"), "w", encoding="utf-8") as f:
            f.write(text)
        os.chmod(self.path("run.new"), 0o755)
        os.rename(self.path("run.new"), self.path("run"))

    def run_gone(self, *args, say):
        self.command("#!/bin/sh\nexit 0\n")
        worker = self.start("work", "-j", "2", *args, "--", self.path("run"))
        self.said(worker, b"working on queue")
        say()
        ids = [self.add("t", str(i), "--max-retries", "0") for i in range(10)]
        seen = self.said(worker, b"tasks are given back")
        self.command("#!/bin/sh\ncat > /dev/null\n" if not args else "#!/bin/sh\nexec python3 %s\n" % self.path("child.py"))
        self.wait(lambda: self.json("list") == [], "all of them to be done")
        worker.terminate()
        seen += worker.communicate(timeout=LIMIT)[1]
        self.assertEqual(worker.returncode, 0)
        self.assertEqual(len(ids), 10)
        self.assertIn(b"10 done, 0 to retry, 0 dead", seen)
        self.assertLess(seen.count(b"tasks are given back"), 6)
        return seen.decode()

    def test_the_command_is_gone(self):
        def away():
            os.unlink(self.path("run"))
        self.assertIn("cannot start %s: No such file" % self.path("run"), self.run_gone(say=away))

    def test_its_interpreter_is_gone(self):
        def away():
            self.command("#!%s\n" % self.path("php8"))
        self.assertIn("cannot start %s: its interpreter %s: No such file" % (self.path("run"), self.path("php8")),
                      self.run_gone(say=away))

    def test_streams_too(self):
        with open(self.path("child.py"), "w", encoding="utf-8") as f:
            f.write("import json, sys\nfor line in sys.stdin:\n    print(json.dumps({'done': json.loads(line)['id']}), flush=True)\n")

        def away():
            os.unlink(self.path("run"))
        self.run_gone("--stream", say=away)

    def test_more_jobs_than_descriptors(self):
        for i in range(60):
            self.add("t", str(i), "--max-retries", "0")
        done = subprocess.run(["sh", "-c", "ulimit -S -n 64; exec \"$@\"", "sh", NANOQ, "work", "--drain", "-j", "40", "--",
                               "sh", "-c", "sleep 0.1; ulimit -S -n >> %s" % self.path("limits")],
                              env=self.env, capture_output=True, timeout=LIMIT, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(set(self.lines("limits")), {"64"})
        self.assertEqual(len(self.lines("limits")), 60)


class Pipes(ServiceBase):
    """Whoever reads our output may stop doing so."""

    def test_nobody_reads_stderr(self):
        self.add("t", "--timeout", "1s", "--max-retries", "0")
        read, write = os.pipe()
        self.addCleanup(os.close, read)
        worker = subprocess.Popen([NANOQ, "work", "-j", "1", "--grace", "0.2s", *self.script(
            "head -c 300000 /dev/zero | tr '\\0' x >&2; echo $$ > %s; sleep 60" % self.path("pid"))], env=self.env,
            stdout=subprocess.DEVNULL, stderr=write)
        self.started.append(worker)
        os.close(write)
        self.wait(lambda: self.json("list")[0]["state"] == "dead", "the timeout to be kept")
        worker.terminate()
        self.assertEqual(worker.wait(LIMIT), 0)

    def test_nobody_reads_stdout(self):
        for i in range(30):
            self.add("t", str(i), "--max-retries", "0")
        worker = self.start("work", "--drain", "-j", "1", *self.script("sleep .02; echo $NANOQ_ID; echo x"))
        worker.stdout.readline()
        worker.stdout.close()
        self.assertEqual(worker.wait(LIMIT), 0)
        self.assertIn(b"nobody reads standard output any more: stopping", worker.stderr.read())
        self.assertEqual(self.json("list", "--state", "dead"), [])

    def test_a_stream_that_logs_without_pause_meets_its_timeout(self):
        task = self.add("t", "--timeout", "1s", "--max-retries", "0")
        worker = self.start("work", "--stream", "-j", "1", "--grace", "0.2s", "--", "yes", '{"log": "xxxxxxxxxxxxxxxx"}')
        read, _ = worker.stderr, None
        until = time.monotonic() + LIMIT
        while self.show(task)["state"] != "dead" and time.monotonic() < until:
            os.read(read.fileno(), 4096)
        self.assertEqual(self.show(task)["state"], "dead")
        self.assertIn("timed out after 1 s", self.show(task)["error"])
        worker.terminate()
        worker.communicate(timeout=LIMIT)


class Signals(ServiceBase):
    def test_blocked_by_who_started_it(self):
        worker = self.start("work", "--", "true", preexec_fn=lambda: signal.pthread_sigmask(
            signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT}))
        self.said(worker, b"working on queue")
        worker.terminate()
        self.assertEqual(worker.wait(LIMIT), 0)

    def test_int_and_term_at_once_are_one_stop(self):
        worker = self.begun()
        worker.send_signal(signal.SIGINT)
        worker.send_signal(signal.SIGTERM)
        self.assertEqual(worker.wait(LIMIT), 0)
        self.assertEqual(self.lines("done"), ["y"])

    def test_a_command_has_no_terminal(self):
        task = self.add("t", "--max-retries", "0")
        pid, fd = os.forkpty()
        if pid == 0:
            os.environ.clear()
            os.environ.update(self.env)
            os.execv(NANOQ, ["nanoq", "work", "--drain", *self.script("exec < /dev/tty")])
        self.wait(lambda: self.show(task)["state"] == "dead", "it to fail")
        os.close(fd)
        os.waitpid(pid, 0)
        self.assertIn("/dev/tty", self.show(task)["error"])

    def test_cancelled_by_hand(self):
        task = self.add("t")
        worker = self.start("work", *self.script("echo $$ > %s; echo so far >&2; sleep 300 & wait" % self.path("pid")))
        self.wait(lambda: self.lines("pid"), "the task to start")
        self.run_nanoq("cancel", str(task))
        self.wait(lambda: self.show(task)["state"] == "cancelled", "the task to be cancelled")
        self.assertEqual(self.show(task)["error"], "cancelled while it ran: so far")
        self.assertFalse(self.alive(self.lines("pid")[0]))
        worker.terminate()
        _, err = worker.communicate(timeout=LIMIT)
        self.assertRegex(err.decode(), "task %d t: cancelled after" % task)

    def begun(self, *args, sleep="0.5"):
        self.add("t")
        worker = self.start("work", *args, *self.script("echo x >> %s; sleep %s; echo y >> %s" % (
            self.path("begun"), sleep, self.path("done"))))
        self.wait(lambda: self.lines("begun"), "the task to start")
        return worker

    def test_sighup_is_said_and_does_no_harm(self):
        worker = self.begun()
        worker.send_signal(signal.SIGHUP)
        self.wait(lambda: self.lines("done"), "the task to end")
        self.add("t", "2")
        self.wait(lambda: len(self.lines("done")) == 2, "the next task to end")
        worker.terminate()
        _, err = worker.communicate(timeout=LIMIT)
        self.assertEqual(worker.returncode, 0)
        self.assertEqual(err.count(b"SIGHUP: there is nothing to reload"), 1)

    def test_a_lost_terminal_stops_it_in_order(self):
        self.add("t")
        pid, fd = os.forkpty()
        if pid == 0:
            os.environ.clear()
            os.environ.update(self.env)
            signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests themselves may run under nohup
            os.execv(NANOQ, [
                "nanoq", "work", *self.script("echo x > %s; sleep 1; echo y > %s" % (self.path("begun"), self.path("done")))])
        self.wait(lambda: self.lines("begun"), "the task to start")
        os.close(fd)
        ended = []
        self.wait(lambda: ended.append(os.waitpid(pid, os.WNOHANG)) or ended[-1][0] == pid, "it to end")
        self.assertEqual(ended[-1][1], 0)
        self.assertEqual(self.lines("done"), ["y"])

    def test_forced_stop(self):
        worker = self.begun("--grace", "0.5s", sleep="100")
        worker.terminate()
        worker.terminate()
        begin = time.monotonic()
        self.wait(lambda: worker.poll() is not None or (time.monotonic() - begin > 1 and worker.terminate() is None), "it to end")
        _, err = worker.communicate(timeout=LIMIT)
        self.assertEqual(worker.returncode, 0)
        self.assertIn(b"stopping: no more claims", err)
        self.assertEqual(self.json("list")[0]["state"], "waiting")


class Notify(ServiceBase):
    """With a real datagram socket in the place of systemd's."""

    def listen(self, abstract=False):
        name = "\0nanoq-test-%d" % os.getpid() if abstract else self.path("notify")
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(self.socket.close)
        self.socket.bind(name)
        self.socket.settimeout(LIMIT)
        self.env["NOTIFY_SOCKET"] = name.replace("\0", "@")

    def told(self, start, seconds=LIMIT):
        """Wait for a notice with a line that starts so; the lines of that notice."""
        until = time.monotonic() + seconds
        while True:
            self.socket.settimeout(max(until - time.monotonic(), 0.001))
            lines = self.socket.recv(4096).decode().split("\n")
            if any(line.startswith(start) for line in lines):
                return lines

    def test_ready_status_reload_stopping(self):
        for abstract in (False, True):
            self.listen(abstract)
            worker = self.start("work", *self.script("env | grep -c NOTIFY >> %s; true" % self.path("ran")))
            self.told("READY=1")
            self.told("STATUS=0 running, 0 done")
            self.add("t")
            self.told("STATUS=0 running, 1 done, 0 to retry, 0 dead")
            before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
            worker.send_signal(signal.SIGHUP)
            lines = self.told("RELOADING=1")
            when = int(next(line for line in lines if line.startswith("MONOTONIC_USEC=")).partition("=")[2])
            self.assertTrue(before <= when <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000)
            self.told("READY=1")
            worker.terminate()
            self.told("STOPPING=1")
            self.assertEqual(worker.wait(LIMIT), 0)
            self.socket.close()
        self.assertEqual(self.lines("ran"), ["0", "0"])

    def test_not_ready_where_the_database_is_not(self):
        self.listen()
        self.run_nanoq("work", "--db", "sqlite:" + self.path("absent/x.db"), "--", "true", code=1)
        self.socket.settimeout(0.1)
        self.assertRaises(socket.timeout, self.socket.recv, 4096)

    def test_a_drained_worker_says_that_it_stops(self):
        self.listen()
        self.add("t")
        self.work("--", "true")
        self.told("READY=1")
        self.told("STOPPING=1")

    def test_watchdog_follows_the_worker(self):
        """Fed while it idles and while a task runs; not while a database call hangs; again when it goes on."""
        self.listen()
        self.env.update(WATCHDOG_USEC="7000000", NANOQ_DB="sqlite:%s?busy_timeout=50s" % self.path("w.db"))
        self.run_nanoq("migrate")
        worker = self.start("work", *self.script("echo x >> %s; sleep 5" % self.path("begun")))
        self.told("READY=1")
        self.told("WATCHDOG=1")
        self.add("t")
        self.wait(lambda: self.lines("begun"), "the task to start")
        self.told("WATCHDOG=1", 5)
        db = sqlite3.connect(self.path("w.db"), isolation_level=None)
        db.execute("BEGIN IMMEDIATE")
        begin = time.monotonic()
        with self.assertRaises((socket.timeout, BlockingIOError)):
            while time.monotonic() - begin < 30:
                self.told("WATCHDOG=1", 5)
        db.execute("ROLLBACK")
        db.close()
        self.told("WATCHDOG=1")
        worker.terminate()
        self.assertEqual(worker.wait(LIMIT), 0)
        self.assertIn(b"not telling the watchdog", worker.communicate()[1])

    def test_the_watchdog_of_another_process_is_not_ours(self):
        self.listen()
        self.env.update(WATCHDOG_USEC="200000", WATCHDOG_PID="1")
        worker = self.start("work", "--", "true")
        self.told("READY=1")
        with self.assertRaises((socket.timeout, BlockingIOError)):
            self.told("WATCHDOG=1", 1)
        worker.terminate()


class UnitFile(ServiceBase):
    UNIT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "examples", "nanoq-worker.service")

    def setUp(self):
        super().setUp()
        with open(self.UNIT, encoding="utf-8") as f:
            self.text = f.read()

    def test_its_command_is_one_that_nanoq_takes(self):
        command = re.search("^ExecStart=(.*)$", self.text, re.M).group(1).split()
        self.add("t")
        self.run_nanoq(command[1], "--drain", *command[2:command.index("--")], "--", "true")
        self.assertEqual([e["verdict"] for e in self.log() if "verdict" in e], ["done"])

    def test_systemd_finds_no_fault(self):
        if not shutil.which("systemd-analyze"):
            self.skipTest("systemd-analyze is not installed: the unit is not verified")
        with open(self.path("nanoq-worker.service"), "w", encoding="utf-8") as f:
            f.write(self.text.replace("/usr/local/bin/nanoq", NANOQ).replace("User=nanoq\n", ""))
        done = subprocess.run(["systemd-analyze", "verify", self.path("nanoq-worker.service")], capture_output=True,
                              timeout=LIMIT, check=False, env={**self.env, "SYSTEMD_LOG_LEVEL": "warning"})
        about = [line for line in done.stderr.decode().splitlines() if "nanoq-worker" in line]
        self.assertEqual(about, [])


class JsonLog(ServiceBase):
    def test_every_line_is_an_object(self):
        done, bad = self.add("good"), self.add("bad", "--max-retries", "0")
        self.work("--log", "json", "--verbose", *self.script(
            '[ $NANOQ_TYPE = good ] || { echo "say \\"no\\"" >&2; printf "open \\377" >&2; exit 3; }'), code=5)
        log = self.log()
        for line in log:
            self.assertRegex(line["time"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")
            self.assertIn(line["level"], ("error", "warn", "info", "debug"))
            self.assertIn("message", line)
        line, = [e for e in log if e.get("verdict") == "done"]
        self.assertEqual((line["task"], line["type"], line["queue"], line["attempt"], line["level"]),
                         (done, "good", "default", 1, "info"))
        self.assertTrue(0 < line["duration"] < LIMIT)
        line, = [e for e in log if e.get("verdict") == "dead"]
        self.assertEqual((line["task"], line["type"], line["attempt"], line["level"]), (bad, "bad", 1, "warn"))
        self.assertEqual(line["error"], 'exit status 3: say "no"\nopen ?')
        self.assertTrue(0 < line["duration"] < LIMIT)
        self.assertEqual([(e["task"], e["message"]) for e in log if e.get("from") == "stderr"],
                         [(bad, 'say "no"'), (bad, "open \ufffd")])

    def test_complaints_too(self):
        self.run_nanoq("work", "--log=json", "--db", "sqlite:" + self.path("absent/x.db"), "--", "true", code=1)
        self.assertEqual(self.log()[-1]["level"], "error")
        self.run_nanoq("work", "--log=json", "no-such-command-here", code=2)
        self.assertIn("command not found", self.log()[-1]["message"])


if __name__ == "__main__":
    unittest.main()
