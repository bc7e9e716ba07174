#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# A release is tagged where everything has passed, and nowhere else.
import os
import re
import shutil
import subprocess
import tempfile
import unittest

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


@unittest.skipUnless(shutil.which("git"), "no git here")
class Tag(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix="nanoq-release-")
        self.addCleanup(shutil.rmtree, self.dir)
        for name in ("tools", "include", "docs", "packaging", "meson.build", "Makefile", "README.md", "CHANGELOG.md", "UPGRADING.md"):
            path = os.path.join(TOP, name)
            (shutil.copytree if os.path.isdir(path) else shutil.copy)(path, os.path.join(self.dir, name))
        with open(os.path.join(self.dir, ".gitignore"), "w", encoding="utf-8") as f:
            f.write("/build*/\n__pycache__/\n")
        # No configuration of whoever runs this: no key, no hooks.
        self.env = {**os.environ, "HOME": self.dir, "GIT_CONFIG_NOSYSTEM": "1", "XDG_CONFIG_HOME": self.dir}
        self.git("init", "-q")
        self.git("config", "user.name", "somebody")
        self.git("config", "user.email", "somebody@example.org")
        self.commit("all of it")
        os.mkdir(os.path.join(self.dir, "build-release"))
        self.steps = self.tool("--list").stdout.split()
        with open(os.path.join(self.dir, "meson.build"), encoding="utf-8") as f:
            self.version = re.search(r"^  version: '(.*)',", f.read(), re.M)[1]

    def git(self, *args):
        return subprocess.run(["git", *args], cwd=self.dir, env=self.env, check=True, capture_output=True, text=True).stdout.strip()

    def commit(self, message):
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", message)

    def tool(self, *args):
        return subprocess.run(["tools/release-check", *args], cwd=self.dir, env=self.env, check=False, capture_output=True, text=True)

    def passed(self, names):
        with open(os.path.join(self.dir, "build-release", "passed"), "a", encoding="utf-8") as f:
            f.writelines(f"{self.git('rev-parse', 'HEAD')} {name}\n" for name in names)

    def test_what_has_not_passed_here_is_named(self):
        self.passed(name for name in self.steps if name != "fuzz")
        said = self.tool("--tag")
        self.assertEqual((said.returncode, said.stdout), (1, ""))
        self.assertEqual(said.stderr.splitlines(), ["fuzz has not passed at this commit", f"tools/release-check: {self.version} is not tagged"])
        self.passed(["fuzz"])
        self.commit("one more")
        self.assertIn("test has not passed at this commit", self.tool("--tag").stderr)
        self.assertEqual(self.git("tag"), "")

    def test_the_commit_at_which_all_has_passed_is_tagged(self):
        self.passed(self.steps)
        said = self.tool("--tag")
        self.assertEqual((said.returncode, said.stdout, said.stderr), (0, f"v{self.version}, not signed\n", ""))
        self.assertEqual(self.git("rev-parse", f"v{self.version}^{{commit}}"), self.git("rev-parse", "HEAD"))
        self.assertIn("is tagged already", self.tool("--tag").stderr)

    def test_a_step_is_remembered_of_a_clean_tree_only(self):
        self.assertEqual(self.tool("papers").returncode, 0)
        path = os.path.join(self.dir, "build-release", "passed")
        with open(path, encoding="utf-8") as f:
            self.assertIn(f"{self.git('rev-parse', 'HEAD')} papers\n", f.read())
        os.unlink(path)
        with open(os.path.join(self.dir, "README.md"), "a", encoding="utf-8") as f:
            f.write("\n")
        self.assertEqual(self.tool("papers").returncode, 1)
        self.assertFalse(os.path.exists(path))


if __name__ == "__main__":
    unittest.main()
