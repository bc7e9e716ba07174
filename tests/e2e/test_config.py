#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# The configuration (files, environment, command line), the topics of the help, and what programs read of the tables
# of options.
import glob
import json
import os
import re
import socket
import sqlite3
import subprocess
import time
import unittest

from test_cli import NANOQ, Base

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
DASHBOARD = os.path.join(os.path.dirname(NANOQ), "nanoq-dashboard")


class Config(Base):
    def setUp(self):
        super().setUp()
        self.env["XDG_CONFIG_HOME"] = self.path("etc")

    def write(self, text, mode=0o600, name="etc/nanoq/config"):
        path = self.path(name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as f:
            f.write(text if isinstance(text, bytes) else text.encode())
        os.chmod(path, mode)
        return path

    def held(self, *args, env=None):
        out = self.run_nanoq("config", "--format", "json", *args, env=env)
        return {row["key"]: (row["value"], row["source"]) for row in json.loads(out)}

    def refused(self, text, *words, mode=0o600, args=("stats",)):
        path = self.write(text, mode)
        self.run_nanoq(*args, code=2)
        for word in (path, *words):
            self.assertIn(word, self.err)
        self.assertNotIn("s3cret", self.err)
        self.assertFalse(os.path.exists(self.path("state")), "a database was made")

    def test_the_command_line_goes_before_the_environment_and_that_before_the_file(self):
        path = self.write("# ours\n\n  db = sqlite:%s  \r\nqueue=mail\njobs = 3\n" % self.path("a.db"))
        held = self.held()
        self.assertEqual(held["db"], ("sqlite:" + self.path("a.db"), path + ":3"))
        self.assertEqual(held["queue"], ("mail", path + ":4"))
        self.assertEqual(held["jobs"], ("3", path + ":5"))
        self.assertEqual(held["log"], ("text", "default"))
        held = self.held(env={"NANOQ_DB": "sqlite:b.db", "NANOQ_DEFAULT_QUEUE": "post", "NANOQ_LOG": ""})
        self.assertEqual(held["db"], ("sqlite:b.db", "NANOQ_DB"))
        self.assertEqual(held["queue"], ("post", "NANOQ_DEFAULT_QUEUE"))
        self.assertEqual(held["log"], ("text", "default"))
        held = self.held("--db", "sqlite:c.db", env={"NANOQ_DB": "sqlite:b.db"})
        self.assertEqual(held["db"], ("sqlite:c.db", "--db"))
        self.assertEqual(held["format"], ("json", "--format"))
        self.assertEqual(held["config"], (path, "default: read"))

    def test_tasks_go_where_it_says(self):
        self.write("db = sqlite:%s\nqueue = mail\nformat = json\n" % self.path("a.db"))
        self.run_nanoq("migrate")
        self.assertEqual(json.loads(self.run_nanoq("add", "x"))["id"], 1)
        self.assertEqual(self.run_nanoq("add", "y", "--format", "table"), b"2\n")
        self.run_nanoq("add", "z", "--queue", "other", "--db", "sqlite:" + self.path("a.db"))
        self.run_nanoq("cron", "add", "nightly", "@daily", "report")
        self.assertEqual(json.loads(self.run_nanoq("cron", "show", "nightly"))["queue"], "mail")
        self.run_nanoq("work", "--drain", "--quiet", "--", "true")
        # It names no queue for what looks or deletes: all of them are meant.
        self.assertEqual([task["queue"] for task in json.loads(self.run_nanoq("list"))], ["other"])
        self.run_nanoq("work", "--drain", "--quiet", "--", "true", env={"NANOQ_DEFAULT_QUEUE": "other"})
        self.assertEqual(json.loads(self.run_nanoq("list")), [])

    def test_a_file_of_ones_own_in_place_of_both(self):
        self.write("no such line\n")
        other = self.write("queue = night\n", name="other", mode=0o644)
        for args, env in ((["--config", other], {}), ([], {"NANOQ_CONFIG": other})):
            held = self.held(*args, env=env)
            self.assertEqual(held["queue"], ("night", other + ":1"))
            self.assertEqual(held["config"][0], other)
        self.run_nanoq("--config", other, "stats")
        self.run_nanoq("--config=/dev/null", "stats")
        self.run_nanoq("stats", "--config", self.path("none"), code=2)
        self.assertRegex(self.err, "--config: .*/none: No such file")
        self.run_nanoq("stats", code=2, env={"NANOQ_CONFIG": self.path("none")})
        self.assertIn("NANOQ_CONFIG: ", self.err)
        self.run_nanoq("stats", code=2, env={"NANOQ_CONFIG": self.dir})
        self.assertIn("Is a directory", self.err)

    def test_a_mistake_is_named_with_its_line(self):
        self.refused("queue = mail\n\nfromat = json\n", ":3: unknown key 'fromat'; did you mean format",
                     "Allowed: db, format, queue, jobs, log")
        self.refused("password = s3cret\n", ":1: unknown key 'password'")
        self.refused("format = xml\n", ":1: format must be table, json or tsv")
        self.refused("jobs = 0\n", ":1: jobs must be a whole number from 1 to 1024")
        self.refused("jobs = 12345678901234567890\n", "1 to 1024")
        self.refused("log =\n", ":1: log must be text or json")
        self.refused("queue = a b\n", ":1: queue must be the name of a queue")
        self.refused("db = s3cret\n", ":1: db must be a URL")
        self.refused("db = mysql://app@h/d?tsl=off\n", ":1", "tsl", "that is the database of")
        self.refused("db\n", ":1: a line is 'key = value'")
        self.refused("log = text\nlog = json\n", ":2: log is given twice", ":1 too")
        self.refused(b"log = text\n\0\n", ":2: has a NUL")
        self.refused("#" * 70000, "longer than 65536 bytes")
        for name, value in (("NANOQ_FORMAT", "xml"), ("NANOQ_JOBS", "x"), ("NANOQ_LOG", "loud"), ("NANOQ_DEFAULT_QUEUE", "a b")):
            self.run_nanoq("stats", code=2, env={"XDG_CONFIG_HOME": self.path("no"), name: value})
            self.assertIn("%s: must be " % name, self.err)

    def test_a_file_that_others_could_read_or_write_is_refused(self):
        secret = "db = mysql://app:s3cret@127.0.0.1:1/shop\n"
        self.refused(secret, "there is a password in it", "0644", mode=0o644)
        self.refused(secret, "there is a password in it", mode=0o660)
        self.refused("queue = mail\n", "everybody may write it", mode=0o646)
        for mode in (0o600, 0o640, 0o400):
            self.write(secret, mode)
            self.run_nanoq("stats", code=69)
            self.assertNotIn("s3cret", self.err)
            self.assertEqual(self.held()["db"][0], "mysql://app:xxxxxx@127.0.0.1:1/shop")
        self.write("queue = mail\n", 0o664)
        self.assertEqual(self.held()["queue"][0], "mail")

    @unittest.skipIf(os.geteuid() != 0, "only root can give files away, and put a directory over /etc")
    def test_another_users_file_and_the_hosts(self):
        path = self.write("queue = mail\n")
        os.chown(path, 12345, 12345)
        self.run_nanoq("stats", code=2)
        self.assertIn("is owned by another user (12345)", self.err)
        self.run_nanoq("stats", "--config", path)
        os.chown(path, 0, 0)
        script = ("mount -t tmpfs none /etc && mkdir /etc/nanoq && printf 'queue = host\\nlog = json\\n' > /etc/nanoq/config"
                  " && exec '%s' config --format json" % NANOQ)
        done = subprocess.run(["unshare", "--mount", "sh", "-c", script], env=self.env, capture_output=True, timeout=60, check=False)
        if b"unshare failed" in done.stderr or b"mount:" in done.stderr:
            self.skipTest("no mount namespace here: " + done.stderr.decode())
        self.assertEqual(done.returncode, 0, done.stderr)
        held = {row["key"]: (row["value"], row["source"]) for row in json.loads(done.stdout)}
        self.assertEqual(held["queue"], ("mail", path + ":1"))
        self.assertEqual(held["log"], ("json", "/etc/nanoq/config:2"))

    @unittest.skipUnless(os.path.exists(DASHBOARD), "nanoq-dashboard is not built")
    def test_the_dashboard_reads_it_too(self):
        self.write("quue = mail\n")
        for args in ([DASHBOARD], [NANOQ, "dashboard"]):
            done = subprocess.run(args, env=self.env, capture_output=True, timeout=60, check=False)
            self.assertEqual((done.returncode, b"unknown key 'quue'" in done.stderr), (2, True), done.stderr)
        done = subprocess.run([NANOQ, "--config", self.path("none"), "dashboard"], env=self.env, capture_output=True, timeout=60,
                              check=False)
        self.assertIn(b"--config: " + self.path("none").encode(), done.stderr)


class Tables(Base):
    def setUp(self):
        super().setUp()
        self.all = json.loads(self.run_nanoq("help", "--json"))

    def commands(self):
        for command in self.all["commands"]:
            yield command
            yield from command["commands"]

    def test_a_letter_means_one_thing_in_every_command(self):
        letters = {}
        for command in self.commands():
            for option in command["options"]:
                if option["letter"]:
                    letters.setdefault(option["letter"], set()).add(option["name"])
        several = {letter: names for letter, names in letters.items() if len(names) > 1}
        # -n is how many, of what is listed.
        self.assertEqual(several, {"n": {"limit", "count"}})
        self.assertEqual((letters["t"], letters["r"]), ({"type"}, {"max-retries"}))

    def test_what_programs_read_is_what_people_read(self):
        out = self.run_nanoq("help").decode()
        for command in self.all["commands"]:
            self.assertIn("  %-9s %s" % (command["name"], command["summary"]), out)
            if command["name"] not in ("cron", "dashboard"):
                self.assertEqual(json.loads(self.run_nanoq(command["name"], "--help=json")), command)
        for command in self.commands():
            shown = self.run_nanoq("help", *command["name"].split()).decode()
            if command["name"] == "cron":
                continue
            for option in command["options"]:
                self.assertIn("--" + option["name"], shown)
                self.assertIn(option["help"], shown)
        self.run_nanoq("add", "--help=xml", code=2)
        self.assertIn("is not json", self.err)

    def test_the_topics(self):
        names = [topic["name"] for topic in self.all["topics"]]
        self.assertEqual(sorted(names), sorted(os.path.splitext(os.path.basename(path))[0]
                                               for path in glob.glob(os.path.join(TOP, "docs", "topics", "*.md"))))
        for topic in self.all["topics"]:
            out = self.run_nanoq("help", topic["name"]).decode()
            self.assertIn(topic["title"] + "\n\n", out)
            self.assertNotRegex(out, "`|{{")
            self.assertLessEqual(max(map(len, out.splitlines())), 110)
            # Commands and options that it names are there.
            commands = {command["name"]: command for command in self.commands()}
            for line in re.findall(r"`nanoq\s((?:cron )?[a-z-]+)", topic["text"]):
                self.assertIn(line if line in commands else line.split()[0], [*commands, "help"], (topic["name"], line))
            options = {option["name"] for command in commands.values() for option in command["options"]}
            for option in re.findall(r"--([a-z]+[a-z-]*)", topic["text"]):
                self.assertIn(option, options, topic["name"])

    def test_a_word_that_is_no_topic(self):
        self.run_nanoq("help", "exitcodes", code=2)
        self.assertIn("nor is it a topic; did you mean exit-codes. Allowed: urls, config, env,", self.err)

    def test_the_exit_codes_are_those_of_the_documents(self):
        with open(os.path.join(TOP, "docs", "operations.md"), encoding="utf-8") as f:
            table = f.read().split("## Exit codes of the tool")[1].split("\n\n")[1]
        self.assertEqual([int(n) for n in re.findall(r"^\| (\d+) \|", table, re.M)], [row["code"] for row in self.all["exits"]])

    def test_names_for_completions(self):
        self.assertEqual(self.run_nanoq("complete", "queues"), b"")
        self.assertFalse(os.path.exists(self.path("state")), "it made a database")
        self.env["NANOQ_DB"] = "sqlite:" + self.path("a.db")
        self.run_nanoq("migrate")
        self.run_nanoq("add", "email", "--queue", "mail", "--group", "42")
        self.run_nanoq("add", "two words", "1", "--raw")
        self.run_nanoq("limit", "night", "--running", "1")
        self.run_nanoq("cron", "add", "nightly", "@daily", "report")
        hostile = "INSERT INTO nanoq_tasks (type, payload) VALUES ('a' || char(10) || 'b', ''), ('\u202e', '')"
        with sqlite3.connect(self.path("a.db")) as db:
            db.execute(hostile)
        db.close()
        self.assertEqual(self.run_nanoq("complete", "queues"), b"default\nmail\nnight\n")
        self.assertEqual(self.run_nanoq("complete", "types"), b"two words\nemail\n")
        self.assertEqual(self.run_nanoq("complete", "schedules"), b"nightly\n")
        self.assertEqual(self.run_nanoq("complete", "ids").splitlines()[-2:], [b"2\ttwo words, waiting", b"1\temail, waiting"])
        for args in (["complete"], ["complete", "nothing"], ["complete", "--no", "ids"],
                     ["complete", "ids", "--db", "mysql://u@127.0.0.1:1/x"], ["complete", "ids", "--config", "/none"]):
            self.assertEqual((self.run_nanoq(*args), self.err), (b"", ""), args)
        # A server that takes the connection and says nothing is waited for no longer than two seconds.
        with socket.create_server(("127.0.0.1", 0)) as silent:
            before = time.monotonic()
            self.run_nanoq("complete", "ids", "--db", "mysql://u@127.0.0.1:%d/x" % silent.getsockname()[1])
            self.assertLess(time.monotonic() - before, 4)

    def test_every_variable_that_is_read_is_in_the_topic_of_variables(self):
        text = self.run_nanoq("help", "env").decode()
        for path in glob.glob(os.path.join(TOP, "cli", "**", "*.[ch]"), recursive=True):
            with open(path, encoding="utf-8") as f:
                source = f.read()
            names = re.findall(r'getenv\("([A-Z_]+)"\)', source) + re.findall(r'"(NANOQ_[A-Z_]+)[="]', source)
            for name in names:
                self.assertIn(name, text, path)

    def test_the_options_of_urls_are_those_that_the_library_takes(self):
        text = self.run_nanoq("help", "urls").decode()
        with open(os.path.join(TOP, "include", "nanoq.h"), encoding="utf-8") as f:
            header = f.read()
        contract = header[header.index("Options of both:"):header.index("Errors: NQ_EURL")]
        for name in re.findall(r"\b([a-z_]+)=", contract):
            self.assertIn(name + "=", text)


if __name__ == "__main__":
    unittest.main()
