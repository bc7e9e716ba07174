#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# A release is tagged where everything has passed, and nowhere else; and nothing passes because it looked elsewhere.
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
        for name in ("tools", "include", "docs", "packaging", ".clang-tidy", "meson.build", "Makefile", "README.md", "CHANGELOG.md",
                     "UPGRADING.md"):
            path = os.path.join(TOP, name)
            (shutil.copytree if os.path.isdir(path) else shutil.copy)(path, os.path.join(self.dir, name))
        with open(os.path.join(TOP, "meson.build"), encoding="utf-8") as f:
            self.version = re.search(r"^  version: '(.*)',", f.read(), re.M)[1]
        # As it is when the tree is to be released, whatever has come since the last time.
        with open(os.path.join(self.dir, "CHANGELOG.md"), "r+", encoding="utf-8") as f:
            text = f.read().replace("## Unreleased", "## " + self.version)
            f.seek(0)
            f.write(text)
            f.truncate()
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

    def git(self, *args):
        return subprocess.run(["git", *args], cwd=self.dir, env=self.env, check=True, capture_output=True, text=True).stdout.strip()

    def commit(self, message):
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", message)

    def tool(self, *args, **env):
        return subprocess.run(["tools/release-check", *args], cwd=self.dir, env={**self.env, **env}, check=False, capture_output=True,
                              text=True)

    def change(self, name="Makefile"):
        with open(os.path.join(self.dir, name), "a", encoding="utf-8") as f:
            f.write("\n")

    def tree(self):
        return self.git("rev-parse", "HEAD^{tree}")

    def passed(self, names):
        with open(os.path.join(self.dir, "build-release", "passed"), "a", encoding="utf-8") as f:
            f.writelines(f"{self.tree()} {name}\n" for name in names)

    def test_what_has_not_passed_here_is_named(self):
        self.passed(name for name in self.steps if name != "fuzz")
        said = self.tool("--tag")
        self.assertEqual((said.returncode, said.stdout), (1, ""))
        self.assertEqual(said.stderr.splitlines(), ["fuzz has not passed at this tree", f"tools/release-check: {self.version} is not tagged"])
        self.passed(["fuzz"])
        self.change()
        self.commit("one more")
        self.assertIn("test has not passed at this tree", self.tool("--tag").stderr)
        self.assertEqual(self.git("tag"), "")

    def test_the_commit_at_which_all_has_passed_is_tagged(self):
        self.passed(self.steps)
        said = self.tool("--tag")
        self.assertEqual((said.returncode, said.stdout, said.stderr), (0, f"v{self.version}, not signed\n", ""))
        self.assertEqual(self.git("rev-parse", f"v{self.version}^{{commit}}"), self.git("rev-parse", "HEAD"))
        self.assertIn("is tagged already", self.tool("--tag").stderr)

    def test_what_passed_on_two_machines_is_in_the_history(self):
        path = os.path.join(self.dir, "build-release", "passed")
        halves = self.steps[:9], self.steps[9:]
        for names in halves:
            self.passed(names)
            self.assertEqual(self.tool("--record").stdout, f"recorded: {', '.join(names)}\n")
            os.unlink(path)  # the next machine has none
        said = self.git("log", "-2", "--format=%B")
        self.assertTrue(all(f"\nRelease-step: {name}" in said for name in self.steps), said)
        self.assertIn("nothing has passed that is not recorded", self.tool("--record").stderr)
        self.change()
        self.assertIn("changes that are not committed", self.tool("--record").stderr)
        self.commit("one more")
        self.assertIn("test has not passed at this tree", self.tool("--tag").stderr)
        self.git("reset", "-q", "--hard", "HEAD~")
        self.assertEqual(self.tool("--tag").returncode, 0)

    def test_a_step_holds_where_nothing_that_it_reads_has_changed(self):
        for how in ("here", "by history"):
            self.passed(self.steps)
            if how == "by history":
                self.assertIn("recorded", self.tool("--record").stdout)
                os.unlink(os.path.join(self.dir, "build-release", "passed"))
            os.makedirs(os.path.join(self.dir, "tests", "web"), exist_ok=True)
            with open(os.path.join(self.dir, "tests", "web", "one.js"), "a", encoding="utf-8") as f:
                f.write("1;\n")
            self.commit("a test of the pages")
            self.assertEqual(self.missing(), ["dist", "test", "test-web", "coverage"], how)
        for name, all_of_them in (("README.md", False), ("docs/limits.md", False), ("docs/guides/faq.md", False),
                                  ("docs/topics/env.md", True), ("Makefile", True)):
            self.passed(self.steps)
            self.change(name)
            self.commit("a line of " + name)
            missing = self.missing()
            self.assertIn("site", missing, name)
            self.assertEqual("valgrind" in missing, all_of_them, name)
        self.assertEqual(len(missing), len(self.steps) - 1)  # papers is asked anew

    def missing(self):
        return [line.split()[0] for line in self.tool("--tag").stderr.splitlines()[:-1]]

    def test_a_step_is_remembered_of_a_clean_tree_only(self):
        self.assertEqual(self.tool("papers").returncode, 0)
        path = os.path.join(self.dir, "build-release", "passed")
        with open(path, encoding="utf-8") as f:
            self.assertIn(f"{self.tree()} papers\n", f.read())
        os.unlink(path)
        self.change()
        self.assertEqual(self.tool("papers").returncode, 1)
        self.assertFalse(os.path.exists(path))

    def test_a_step_knows_nothing_of_a_developers_own_build(self):
        with open(os.path.join(self.dir, "Makefile"), "w", encoding="utf-8") as f:
            f.write("site:\n\t@! env | grep ^NANOQ\n")
        said = self.tool("site", NANOQ_BUILD="/elsewhere/build-test", NANOQ="/elsewhere/nanoq")
        self.assertEqual(said.returncode, 0, said.stdout)

    def test_a_step_that_was_skipped_has_not_passed(self):
        for line, status in (("tools/check-tidy: skipped: there is no clang-tidy 14 here", 1), ("3 passed, 0 failed, 1 skipped", 0)):
            with open(os.path.join(self.dir, "Makefile"), "w", encoding="utf-8") as f:
                f.write(f"tidy:\n\t@echo '{line}'\n\t@echo more\n")
            said = self.tool("tidy")
            self.assertEqual(said.returncode, status, said.stdout)
            self.assertIn("more" if status == 0 else line, said.stdout)

    def test_only_where_there_is_no_tag_is_there_nothing_to_compare_with(self):
        def said(**more):
            done = subprocess.run(["tools/check-abi"], cwd=self.dir, env={**self.env, **more}, check=False, capture_output=True, text=True)
            return done.returncode, done.stdout + done.stderr

        self.assertEqual(said(), (0, "tools/check-abi: there is no tag yet: nothing to compare with\n"))
        self.assertEqual(said(GIT_DIR="/nowhere")[0], 1)
        with open(os.path.join(self.dir, ".git", "shallow"), "w", encoding="utf-8") as f:
            f.write(self.git("rev-parse", "HEAD") + "\n")
        self.assertEqual(said(), (1, "tools/check-abi: the clone is shallow, and has no tag to compare with\n"))

    @unittest.skipUnless(shutil.which("clang-tidy-14") and shutil.which("ninja"), "no clang-tidy 14 here")
    def test_a_build_of_another_tree_does_not_pass_for_this_one(self):
        build = os.path.join(self.dir, "build-other")
        os.mkdir(build)
        for name, text in (("build.ninja", "build src/steps.h: phony\n"), ("compile_commands.json", "[]")):
            with open(os.path.join(build, name), "w", encoding="utf-8") as f:
                f.write(text)
        said = subprocess.run(["tools/check-tidy"], cwd=self.dir, env={**self.env, "NANOQ_BUILD": build}, check=False,
                              capture_output=True, text=True)
        self.assertEqual(said.returncode, 1, said)
        self.assertIn("compiles no file of this tree", said.stderr)


class Stubs(unittest.TestCase):
    """What the tools and the package's scripts call, replaced by what notes it."""

    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix="nanoq-stubs-")
        self.addCleanup(shutil.rmtree, self.dir)
        self.log = os.path.join(self.dir, "log")

    def stub(self, name, text=None):
        path = os.path.join(self.dir, name)
        with open(path, "w", encoding="utf-8") as f:
            f.write("#!/bin/sh\n" + (text or f'echo "{name} $*" >>{self.log}\n'))
        os.chmod(path, 0o755)

    def sh(self, *argv, path=None):
        """Its exit status, what it said, and which stubs it called."""
        with open(self.log, "w", encoding="utf-8"):
            pass
        done = subprocess.run(argv, env={**os.environ, "PATH": self.dir + ":" + (path or os.environ["PATH"])}, check=False,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        with open(self.log, encoding="utf-8") as f:
            return done.returncode, done.stdout, f.read().splitlines()

    def test_the_package_restarts_the_dashboard_and_stops_it(self):
        for name in ("systemctl", "deb-systemd-invoke", "deb-systemd-helper"):
            self.stub(name)
        reload, helper = "systemctl --system daemon-reload", "deb-systemd-helper update-state nanoq-dashboard.service"
        for script, args, wanted in (
                ("postinst", ["configure", ""], [helper, reload]),
                ("postinst", ["configure", "0.1-1"], [helper, reload, "deb-systemd-invoke try-restart nanoq-dashboard.service"]),
                ("prerm", ["upgrade", "0.2-1"], []),
                ("prerm", ["remove"], ["deb-systemd-invoke stop nanoq-dashboard.service"]),
                ("postrm", ["remove"], [reload])):
            with open(os.path.join(TOP, "packaging", "debian", "nanoq-dashboard." + script), encoding="utf-8") as f:
                text = f.read()
            self.assertIn("\n#DEBHELPER#\n", text)
            self.stub("script", text.replace("/run/systemd/system", self.dir))
            self.assertEqual(self.sh("script", *args), (0, "", wanted), script)

    def test_a_package_of_another_architecture_is_beside_ones_own(self):
        self.stub("dpkg", "echo amd64\n")
        self.stub("apt-get")
        self.stub("apt-cache", "exit 1\n")
        self.stub("id", "echo 1000\n")
        # Each package is there twice; gcc for the other architecture only, make for all.
        self.stub("dpkg-query", """for p; do :; done
case $p in
gcc) echo "i386 installed" ;;
make) echo "all installed" ;;
*) printf 'amd64 installed\\ni386 installed\\n' ;;
esac
""")
        told = "tools/deps: missing packages; run as root: apt-get install gcc\n"
        self.assertEqual(self.sh(os.path.join(TOP, "tools", "deps"), "build"), (1, told, []))
        self.stub("id", "echo 0\n")
        self.assertEqual(self.sh(os.path.join(TOP, "tools", "deps"), "build")[2][-1], "apt-get install -y -q --no-install-recommends gcc")

    def test_ldconfig_is_found_under_plain_su(self):
        self.stub("meson")
        self.stub("ninja")
        self.stub("id", "echo 0\n")
        # The machine's own is not run: a PATH of one folder, in the text, stands for root's.
        os.mkdir(os.path.join(self.dir, "sbin"))
        self.stub("sbin/ldconfig", f"echo ldconfig >>{self.log}\n")
        with open(os.path.join(TOP, "tools", "install"), encoding="utf-8") as f:
            self.stub("script", f.read().replace("/usr/sbin:/sbin", os.path.join(self.dir, "sbin")))
        status, said, called = self.sh("script", "build", "/opt/nanoq", path="/usr/bin:/bin")
        self.assertEqual((status, said, called[-1:]), (0, "", ["ldconfig"]))


if __name__ == "__main__":
    unittest.main()
