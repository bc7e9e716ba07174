#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# The completions that the build has made, in the shells themselves: bash, and zsh and fish where they are installed.
import os
import pty
import re
import select
import shutil
import subprocess
import time
import unittest

from test_cli import NANOQ, Base

BUILD = os.path.abspath(os.environ.get("NANOQ_BUILD", os.path.dirname(NANOQ)))
MADE = {shell: os.path.join(BUILD, "docs", name) for shell, name in (("bash", "nanoq"), ("zsh", "_nanoq"), ("fish", "nanoq.fish"))}
LIMIT = 60
# What is typed, and what must be among the answers; None: nothing is.
CASES = [
    ("nanoq ad", "add"),
    ("nanoq help ur", "urls"),
    ("nanoq cron ne", "next"),
    ("nanoq add --que", "--queue"),
    ("nanoq add --queue ma", "mail"),
    ("nanoq list -q ma", "mail"),
    ("nanoq add --until st", "start"),
    ("nanoq list --state de", "dead"),
    ("nanoq list --format j", "json"),
    ("nanoq list --type em", "email"),
    ("nanoq add em", "email"),
    ("nanoq cron pause nig", "nightly"),
    ("nanoq cron add --overlap al", "allow"),
    ("nanoq pause ma", "mail"),
    ("nanoq config --config conf-", "conf-file"),
]


@unittest.skipUnless(os.path.exists(MADE["bash"]), "this build makes no completions: option man")
class Completion(Base):
    shell = None

    def setUp(self):
        super().setUp()
        os.mkdir(self.path("bin"))
        os.symlink(NANOQ, self.path("bin/nanoq"))
        self.env.update(PATH=self.path("bin") + ":" + os.environ["PATH"], NANOQ_DB="sqlite:" + self.path("q.db"), TERM="xterm",
                        ZDOTDIR=self.dir, XDG_CONFIG_HOME=self.dir)
        self.run_nanoq("migrate")
        self.run_nanoq("add", "email", "1", "--queue", "mail")
        self.run_nanoq("add", "x:y", "2", "--queue", "a:b")
        self.run_nanoq("cron", "add", "nightly", "@daily", "report")
        with open(self.path("conf-file"), "w", encoding="ascii"):
            pass

    def output(self, *command, stdin=""):
        done = subprocess.run(command, env=self.env, cwd=self.dir, input=stdin, capture_output=True, text=True, timeout=LIMIT,
                              check=False)
        self.assertEqual((done.returncode, done.stderr), (0, ""), command)
        return done.stdout


class Bash(Completion):
    def offers(self, line, env=None):
        script = f"""
            source "{MADE['bash']}"
            COMP_LINE=$1 COMP_POINT=${{#1}}
            _nanoq
            printf '%s\\n' "${{COMPREPLY[@]}}" """
        self.env.update(env or {})
        return self.output("bash", "--norc", "-c", script, "bash", line).splitlines()

    def test_names(self):
        for line, wanted in CASES:
            self.assertEqual([answer for answer in self.offers(line) if answer], [wanted], line)
        self.assertEqual(self.offers("nanoq show "), ["2", "1"])
        self.assertEqual(self.offers("nanoq retry 1 "), ["2", "1"])
        self.assertEqual(self.offers("nanoq list --queue=ma"), ["mail"]) # the = is a word of its own to bash
        self.assertEqual(self.offers("nanoq list --queue a:"), ["b"])
        self.assertEqual(self.offers("nanoq add email "), [""])
        self.assertEqual(self.offers("nanoq add --delay"), [""])
        self.assertIn("sort", self.offers("nanoq work -j 2 -- sor"))
        self.assertEqual(self.offers("nanoq --db sqlite:none.db list --queue ma"), [""])
        self.assertFalse(os.path.exists(self.path("none.db")))
        self.assertIn("add", self.offers("nanoq "))
        self.assertIn("--db", self.offers("nanoq -"))

    def test_every_option_of_every_command_is_offered(self):
        for command in re.findall(r"^  ([a-z]+) +[A-Z]", self.run_nanoq("help").decode(), re.M):
            if command in ("help", "version", "dashboard", "cron"):
                continue
            options = re.findall(r"^  (?:-\w,|   )? ?(--[a-z-]+)", self.run_nanoq(command, "--help").decode(), re.M)
            self.assertEqual(self.offers(f"nanoq {command} --"), options)

    def test_it_is_silent_when_the_database_is_not_there(self):
        self.assertEqual(self.offers("nanoq list --queue m", {"NANOQ_DB": "mysql://nobody@127.0.0.1:1/x"}), [""])


@unittest.skipUnless(shutil.which("fish"), "no fish here")
class Fish(Completion):
    def test_names(self):
        script = f"source \"{MADE['fish']}\"; for line in (cat); echo \">$line\"; complete -C $line; end"
        out = self.output("fish", "--no-config", "-c", script, stdin="".join(line + "\n" for line, _ in CASES))
        answers = dict(zip([line for line, _ in CASES], out.split(">")[1:]))
        for line, wanted in CASES:
            found = [answer.split("\t")[0] for answer in answers[line].splitlines()[1:]]
            self.assertIn(wanted, found, (line, found))


@unittest.skipUnless(shutil.which("zsh"), "no zsh here")
class Zsh(Completion):
    """zsh completes on a terminal only: it gets one, and a TAB behind each line."""

    def read_until(self, master, wanted):
        seen, until = "", time.monotonic() + LIMIT
        while not re.search(wanted, seen):
            self.assertLess(time.monotonic(), until, (wanted, seen))
            if select.select([master], [], [], 1)[0]:
                seen += os.read(master, 65536).decode("utf-8", "replace")
        return seen

    def test_names(self):
        os.mkdir(self.path("functions"))
        shutil.copy(MADE["zsh"], self.path("functions/_nanoq"))
        with open(self.path(".zshrc"), "w", encoding="ascii") as f:
            f.write("fpath=(~/functions $fpath)\nautoload -U compinit; compinit -u -D\nPS1='ready> '\nunsetopt zle_bracketed_paste "
                    "beep prompt_sp; setopt no_list_beep\nzle_highlight=(none)\n"
                    # The line as it stands is told, and thrown away.
                    "told() { print -r -- \"<$BUFFER>\"; BUFFER=; zle -I; zle reset-prompt }\nzle -N told; bindkey '^X' told\n")
        master, slave = pty.openpty()
        process = subprocess.Popen(["zsh", "-i"], env=self.env, cwd=self.dir, stdin=slave, stdout=slave, stderr=slave,
                                   start_new_session=True)
        self.started.append(process)
        os.close(slave)
        self.read_until(master, "ready> ")
        for line, wanted in CASES:
            os.write(master, line.encode() + b"\t\x18")
            seen = self.read_until(master, "<nanoq [^>]*>")
            told = re.search("<(nanoq [^>]*)>", seen)[1].rstrip(" =") # zsh writes --queue= for one with a value
            self.assertEqual(told, line.rsplit(" ", 1)[0] + " " + wanted)
        os.close(master)


del Completion, Base

if __name__ == "__main__":
    unittest.main()
