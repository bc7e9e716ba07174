#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# The manual pages that the build has made: whole, found under every name, and without a word from mandoc's lint.
import glob
import os
import re
import shutil
import subprocess
import unittest

BUILD = os.path.abspath(os.environ.get("NANOQ_BUILD", "build-test"))
NANOQ = os.path.abspath(os.environ.get("NANOQ", os.path.join(BUILD, "nanoq")))
TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
MAN = os.path.join(BUILD, "docs")


@unittest.skipUnless(os.path.isdir(os.path.join(MAN, "man1")), "this build makes no manual pages: option man")
class Manual(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.pages = {}
        for path in glob.glob(os.path.join(MAN, "man*", "*")):
            with open(path, encoding="ascii") as f:
                cls.pages[os.path.basename(path)] = f.read()

    def test_aliases_lead_to_pages(self):
        for name, text in self.pages.items():
            if text.startswith(".so"):
                target = os.path.basename(text.split()[1])
                self.assertFalse(self.pages[target].startswith(".so"), name)
                self.assertRegex(text, r"^\.so man%s/[\w-]+\.%s\n$" % (target[-1], target[-1]))

    def test_every_command_has_its_page(self):
        help_text = subprocess.run([NANOQ, "help"], capture_output=True, text=True, check=True, timeout=60).stdout
        commands = re.findall(r"^  ([a-z]+) +[A-Z]", help_text, re.M)
        self.assertGreater(len(commands), 25)
        for command in set(commands) - {"help", "version"}:
            options = subprocess.run([NANOQ, command, "--help"], capture_output=True, text=True, timeout=60, check=False).stdout
            page = self.pages[f"nanoq-{command}.1"].replace("\\-", "-").replace("\\fR", "").replace("\\fB", "")
            for option in re.findall(r"^  (?:-\w,|   )? ?--([a-z-]+)", options, re.M):
                self.assertIn("--" + option, page, command)

    def test_every_function_has_its_page(self):
        functions = set()
        for path in glob.glob(os.path.join(TOP, "include", "*.h")):
            with open(path, encoding="utf-8") as f:
                text = re.sub(r"/\*.*?\*/", "", f.read(), flags=re.S)
            functions |= set(re.findall(r"^NQ_API[^;(]*?\b(nq_\w+)\(", text, re.M))
        self.assertGreater(len(functions), 70)
        for name in functions | {"nq_tx_mysql", "nq_tx_sqlite", "nq_own_tx", "nq_worker_options", "nq_task_spec", "nq_err"}:
            text = self.pages[name + ".3"]
            if text.startswith(".so"):
                text = self.pages[os.path.basename(text.split()[1])]
            self.assertIn(name, text)
            described = text.partition('.SH DESCRIPTION\n')[2].partition("\n.SH")[0]
            self.assertGreater(len(described), 20, name + " has no comment of its own")
        self.assertLessEqual({"nanoq.1", "nanoq.3", "nanoq.7", "nanoq-url.5", "nanoq-config.5", "nanoq-schema.5"}, set(self.pages))

    @unittest.skipUnless(shutil.which("mandoc"), "no mandoc here")
    def test_mandoc_has_nothing_to_say(self):
        pages = [os.path.join(MAN, "man" + name[-1], name) for name, text in sorted(self.pages.items()) if not text.startswith(".so")]
        done = subprocess.run(["mandoc", "-T", "lint", *pages], capture_output=True, text=True, timeout=60, check=False)
        self.assertEqual((done.stdout + done.stderr, done.returncode), ("", 0))
        # What stands between the words is text and no request that was lost.
        shown = subprocess.run(["mandoc", "-T", "utf8", *pages], capture_output=True, text=True, timeout=60, check=True).stdout
        self.assertNotRegex(shown, r"(?m)^\s*\.(SH|TP|PP|IP|nf|fi)\b|\\f[BIR]|\\\(")


if __name__ == "__main__":
    unittest.main()
