#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""make install and uninstall: where files go, PREFIX, DESTDIR, and that programs build against what was installed."""
import glob
import os
import shutil
import subprocess
import tempfile
import unittest

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SETUP = ["-Dtests=false", "-Dsqlite=enabled", "-Dmysql=auto"]


class Install(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.dir = tempfile.mkdtemp(prefix="nanoq-install-")
        cls.build = os.path.join(cls.dir, "build")
        subprocess.run(["meson", "setup", cls.build, TOP, *SETUP], check=True, stdout=subprocess.DEVNULL)
        subprocess.run(["ninja", "-C", cls.build, "--quiet", "nanoq"], check=True, stdout=subprocess.DEVNULL)

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.dir)

    def run_here(self, *argv, **env):
        done = subprocess.run(argv, cwd=self.dir, env={**os.environ, **env}, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, check=False)
        self.assertEqual(0, done.returncode, done.stdout)
        return done.stdout

    def make(self, goal, *variables):
        # The packages are there, or this test would not run: `all` need not ask for them.
        self.run_here("make", "-s", "-C", TOP, f"BUILD={self.build}", "-o", "build-deps", goal, *variables)

    def files(self, root):
        return sorted(os.path.relpath(os.path.join(d, n), root) for d, _, names in os.walk(root) for n in names)

    def test_programs_build_against_what_was_installed(self):
        root = os.path.join(self.dir, "root")
        self.make("install", f"DESTDIR={root}")
        self.assertIn("usr/local/bin/nanoq", self.files(root))
        self.assertIn("usr/local/include/nanoq_sqlite.h", self.files(root))
        found = glob.glob(os.path.join(root, "usr/local/lib/**/nanoq.pc"), recursive=True)
        self.assertEqual(1, len(found), self.files(root))
        libdir = os.path.dirname(os.path.dirname(found[0]))
        if os.path.exists("/etc/debian_version"):
            triplet = self.run_here("gcc", "-print-multiarch").strip()
            self.assertEqual(os.path.join(root, "usr/local/lib", triplet), libdir)
        clients = {"hello": [], "stock_sqlite": ["sqlite3"]}
        if subprocess.run(["pkg-config", "--exists", "libmariadb"], check=False).returncode == 0:
            clients["stock_mysql"] = ["libmariadb"]
        for name, client in clients.items():
            # A package under DESTDIR says where it will be; the compiler is told where it is.
            flags = self.run_here("pkg-config", "--cflags", "--libs", *client).split() if client else []
            ours = self.run_here("pkg-config", "--define-variable=prefix=" + os.path.join(root, "usr/local"),
                                 "--cflags", "--libs", "nanoq", PKG_CONFIG_PATH=os.path.dirname(found[0])).split()
            self.run_here("cc", "-std=c11", os.path.join(TOP, "examples", name + ".c"), "-o", name, *ours, *flags)
        self.assertEqual("hello, world (attempt 1)\n", self.run_here("./hello", LD_LIBRARY_PATH=libdir))
        self.make("uninstall", f"DESTDIR={root}")
        self.assertEqual([], self.files(root))

    def test_prefix_is_honoured(self):
        prefix = os.path.join(self.dir, "opt", "nanoq")
        self.make("install", f"PREFIX={prefix}", "DESTDIR=/")
        self.assertTrue(os.path.exists(os.path.join(prefix, "lib", "pkgconfig", "nanoq.pc")), self.files(prefix))
        self.run_here(os.path.join(prefix, "bin", "nanoq"), "version")
        self.make("uninstall", "DESTDIR=/")
        self.assertEqual([], self.files(prefix))


if __name__ == "__main__":
    unittest.main(verbosity=2)
