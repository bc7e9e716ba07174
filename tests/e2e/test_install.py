#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""make install and uninstall: what goes where, what the binaries are made of, and that projects build against it and run.

Environment: NANOQ_TEST_MYSQL (mysql://root@127.0.0.1:PORT/), without which the programs on a server are only linked.
"""
import glob
import os
import re
import shutil
import subprocess
import tempfile
import unittest
import urllib.parse

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
CONSUMERS = os.path.join(TOP, "tests", "consumers")
EXAMPLES = os.path.join(TOP, "examples")
# The dashboard would only take time: it is a program like the tool.
SETUP = ["-Dtests=false", "-Dsqlite=enabled", "-Dmysql=enabled", "-Ddashboard=disabled", "-Dexamples=disabled",
         "-Doptimization=1", "-Ddebug=false",  # as little as _FORTIFY_SOURCE takes
         "-Dunity=on", "-Dunity_size=40"]  # as `make` has it
MYSQL = os.environ.get("NANOQ_TEST_MYSQL", "")


class Install(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.dir = tempfile.mkdtemp(prefix="nanoq-install-")
        cls.build = os.path.join(cls.dir, "build")
        cls.root = os.path.join(cls.dir, "root")
        cls.run_at(cls.dir, "meson", "setup", cls.build, TOP, *SETUP)
        cls.run_at(cls.dir, "ninja", "-C", cls.build, "--quiet")
        cls.make("install", f"DESTDIR={cls.root}")
        found = glob.glob(os.path.join(cls.root, "usr/local/lib/**/nanoq.pc"), recursive=True)
        assert len(found) == 1, cls.files(cls.root)
        cls.libdir = os.path.dirname(os.path.dirname(found[0]))
        # A package under DESTDIR says where it will be; with it as the sysroot pkg-config says where it is. What is not
        # under it (the clients) is taken as it is.
        cls.env = {**os.environ, "PKG_CONFIG_PATH": os.path.join(cls.dir, "pc"), "LD_LIBRARY_PATH": cls.libdir}
        os.mkdir(os.path.join(cls.dir, "pc"))
        for path in glob.glob(os.path.join(cls.libdir, "pkgconfig", "*.pc")):
            with open(path, encoding="utf-8") as f:
                text = f.read().replace("prefix=/usr/local", "prefix=" + os.path.join(cls.root, "usr/local"))
            with open(os.path.join(cls.dir, "pc", os.path.basename(path)), "w", encoding="utf-8") as f:
                f.write(text)

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.dir)

    @classmethod
    def run_at(cls, where, *argv, env=None):
        done = subprocess.run(argv, cwd=where, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              check=False)
        if done.returncode != 0:
            raise AssertionError(f"{' '.join(argv)}: exit {done.returncode}\n{done.stdout}")
        return done.stdout

    @classmethod
    def make(cls, goal, *variables):
        # The packages are there, or this test would not run: `all` need not ask for them.
        cls.run_at(cls.dir, "make", "-s", "-C", TOP, f"BUILD={cls.build}", "-o", "build-deps", goal, *variables)

    @staticmethod
    def files(root):
        return sorted(os.path.relpath(os.path.join(d, n), root) for d, _, names in os.walk(root) for n in names)

    def consumer(self, name):
        path = os.path.join(self.dir, self.id().split(".")[-1])
        shutil.copytree(os.path.join(CONSUMERS, name), path)
        for example in ("hello.c", "stock_sqlite.c", "stock_mysql.c"):
            shutil.copy(os.path.join(EXAMPLES, example), path)
        return path

    def programs_run(self, where, static=()):
        for name in ("hello", *static):
            self.assertEqual("hello, world (attempt 1)\n", self.run_at(where, os.path.join(where, name), env=self.env))
        out = self.run_at(where, os.path.join(where, "stock_sqlite"), "stock.db", env=self.env)
        self.assertEqual("product 7: recalculated\n", out)

    def test_what_goes_where(self):
        have = self.files(os.path.join(self.root, "usr/local"))
        lib = os.path.relpath(self.libdir, os.path.join(self.root, "usr/local"))
        if os.path.exists("/etc/debian_version"):
            self.assertEqual("lib/" + self.run_at(self.dir, "gcc", "-print-multiarch").strip(), lib)
        for name in ("bin/nanoq", "include/nanoq_sqlite.h", f"{lib}/libnanoq.a", f"{lib}/libnanoq.so",
                     f"{lib}/pkgconfig/nanoq-mysql.pc", f"{lib}/cmake/nanoq/nanoqConfig.cmake",
                     "share/doc/nanoq/LICENSE", "share/doc/nanoq/docs/tour.md", "share/doc/nanoq/examples/hello.c",
                     "share/nanoq/prometheus/alerts.yml", "share/nanoq/grafana/nanoq.json"):
            self.assertIn(name, have)
        public = {os.path.basename(p) for p in glob.glob(os.path.join(TOP, "include", "*.h"))}
        self.assertEqual(public, {os.path.basename(p) for p in have if p.startswith("include/")})
        for name in have:
            self.assertNotRegex(name, r"\.o$|\.p/|meson\.build$|__pycache__")

    def test_prefix_is_honoured_and_uninstall_leaves_nothing(self):
        prefix = os.path.join(self.dir, "opt", "nanoq")
        self.make("install", f"PREFIX={prefix}", "DESTDIR=/")
        self.assertTrue(os.path.exists(os.path.join(prefix, "lib", "pkgconfig", "nanoq.pc")), self.files(prefix))
        self.run_at(self.dir, os.path.join(prefix, "bin", "nanoq"), "version")
        self.make("uninstall", "DESTDIR=/")
        self.assertEqual([], self.files(prefix))

    def test_binaries_are_hardened(self):
        plugin = glob.glob(os.path.join(self.libdir, "nanoq", "*", "libnanoq-mysql.so"))
        self.assertEqual(1, len(plugin))
        tool = os.path.join(self.root, "usr/local/bin/nanoq")
        for path in (tool, os.path.join(self.libdir, "libnanoq.so"), *plugin):
            told = self.run_at(self.dir, "readelf", "-W", "-h", "-l", "-d", "--dyn-syms", path)
            self.assertRegex(told, r"Type:\s+DYN", path)  # position-independent
            self.assertIn("GNU_RELRO", told, path)
            self.assertRegex(told, r"FLAGS_1\).*NOW", path)
            self.assertRegex(told, r"GNU_STACK(?:\s+0x\w+){5}\s+RW\s", path)  # not executable
            self.assertIn("__stack_chk_fail", told, path)
            self.assertRegex(told, r"__\w+_chk@", path)  # _FORTIFY_SOURCE
            self.assertNotIn("TEXTREL", told, path)
            self.assertNotRegex(told, r"\((?:RPATH|RUNPATH)\)", path)
        self.assertRegex(self.run_at(self.dir, "readelf", "-d", tool), r"FLAGS_1\).*PIE")

    def test_only_what_the_headers_declare_is_exported(self):
        declared = set()
        for path in glob.glob(os.path.join(TOP, "include", "*.h")):
            with open(path, encoding="utf-8") as f:
                declared |= set(re.findall(r"^NQ_API\b[^;{(]*?\b(nq_\w+)\(", f.read(), re.M))
        library = os.path.join(self.libdir, "libnanoq.so")
        said = self.run_at(self.dir, "nm", "-D", "--defined-only", library).splitlines()
        version = self.run_at(self.dir, os.path.join(self.root, "usr/local/bin/nanoq"), "version").split()[1]
        private = "@@NANOQ_PRIVATE_" + version
        names = {line.split()[-1] for line in said if " A " not in line}
        self.assertEqual(declared, {n.split("@")[0] for n in names if not n.endswith(private)})
        self.assertFalse(declared & {n.split("@")[0] for n in names if n.endswith(private)})
        soname = re.search(r"SONAME\).*\[(.*)\]", self.run_at(self.dir, "readelf", "-d", library))[1]
        self.assertRegex(soname, r"^libnanoq\.so\.(0\.\d+|[1-9]\d*)$")
        self.assertEqual({"@@NANOQ_" + soname[len("libnanoq.so."):]},
                         {"@@" + n.split("@@")[1] for n in names if not n.endswith(private)})

    def test_make_consumer(self):
        where = self.consumer("make")
        self.run_at(where, "make", "-s", f"EXAMPLES={EXAMPLES}", env=self.env)
        self.programs_run(where)
        flags = self.run_at(where, "pkg-config", "--cflags", "--libs", "--static", "nanoq", env=self.env).split()
        flags = ["-l:libnanoq.a" if f == "-lnanoq" else f for f in flags]
        self.run_at(where, "cc", "-std=c11", "hello.c", "-o", "hello_static", *flags, env=self.env)
        self.assertNotIn("libnanoq", self.run_at(where, "ldd", "hello_static"))
        self.programs_run(where, ["hello_static"])

    def test_the_mysql_client_is_met_only_by_who_asks_for_it(self):
        """The same program on SQLite with the plug-in taken away, and on a server with and without it."""
        where = self.consumer("make")
        self.run_at(where, "make", "-s", f"EXAMPLES={EXAMPLES}", "hello", "stock_mysql", env=self.env)
        self.assertNotRegex(self.run_at(where, "ldd", "hello", env=self.env), "mariadb|mysql")
        bare = os.path.join(self.dir, "bare")
        os.mkdir(bare)
        for path in glob.glob(os.path.join(self.libdir, "libnanoq.so*")):
            shutil.copy(path, bare, follow_symlinks=False)
        env = {**self.env, "LD_LIBRARY_PATH": bare}
        self.assertEqual("hello, world (attempt 1)\n", self.run_at(where, "./hello", env=env))
        done = subprocess.run(["./hello", "mysql://127.0.0.1:1/x"], cwd=where, env=env, check=False, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.assertNotEqual(0, done.returncode)
        self.assertIn("libnanoq-mysql", done.stdout)
        done = subprocess.run(["./hello", "mysql://127.0.0.1:1/x"], cwd=where, env=self.env, check=False, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.assertNotIn("libnanoq-mysql", done.stdout)  # loaded; nobody listens there
        if not MYSQL:
            self.skipTest("NANOQ_TEST_MYSQL is not set: linked, not run")
        url = urllib.parse.urlsplit(MYSQL)
        env = dict(self.env)
        if url.password:
            env["NANOQ_PASSWORD"] = env["MYSQL_PWD"] = urllib.parse.unquote(url.password)
        host, port, user = url.hostname or "127.0.0.1", str(url.port or 3306), url.username or "root"
        database = f"nanoq_install_{os.getpid()}"
        client = [shutil.which("mariadb") or "mysql", "--no-defaults", "--protocol=tcp", "-h", host, "-P", port, "-u", user]
        self.run_at(where, *client, "-e", f"CREATE DATABASE {database}", env=env)
        try:
            self.assertEqual("product 7: recalculated\n",
                             self.run_at(where, "./stock_mysql", host, port, user, database, env=env))
        finally:
            self.run_at(where, *client, "-e", f"DROP DATABASE {database}", env=env)

    def test_meson_consumer(self):
        where = self.consumer("meson")
        self.run_at(where, "meson", "setup", "build", env=self.env)
        self.run_at(where, "ninja", "-C", "build", "--quiet", env=self.env)
        self.programs_run(os.path.join(where, "build"))

    def test_meson_subproject(self):
        """It builds the static library and no more, looks for nothing that only the tools need, and installs nothing."""
        where = self.consumer("meson")
        os.mkdir(os.path.join(where, "subprojects"))
        os.symlink(TOP, os.path.join(where, "subprojects", "nanoq"))
        said = self.run_at(where, "meson", "setup", "build", "-Doptimization=0", "-Ddebug=false", "-Ddefault_library=shared",
                           env={**os.environ, "PKG_CONFIG_PATH": ""})
        if "Executing subproject nanoq" not in said:
            self.skipTest("nanoq is installed on this machine")
        self.assertNotRegex(said, "jansson|microhttpd|ncurses")
        self.run_at(where, "ninja", "-C", "build", "--quiet")
        self.programs_run(os.path.join(where, "build"))
        self.assertNotIn("libnanoq", self.run_at(where, "ldd", "build/hello"))
        self.run_at(where, "meson", "install", "-C", "build", env={**os.environ, "DESTDIR": os.path.join(where, "root")})
        self.assertEqual([], self.files(os.path.join(where, "root")))

    def test_cmake_consumer(self):
        if not shutil.which("cmake"):
            self.skipTest("cmake is not installed")
        where = self.consumer("cmake")
        self.run_at(where, "cmake", "-S", ".", "-B", "build", "-G", "Ninja",
                    "-DCMAKE_PREFIX_PATH=" + os.path.join(self.root, "usr/local"), env=self.env)
        self.run_at(where, "ninja", "-C", "build", "--quiet", env=self.env)
        self.programs_run(os.path.join(where, "build"), ["hello_static"])
        # Without pkg-config, and through a link such as /lib to usr/lib.
        linked = os.path.join(self.dir, "linked")
        os.mkdir(linked)
        os.symlink(os.path.join(self.root, "usr/local/lib"), os.path.join(linked, "lib"))
        self.run_at(where, "cmake", "-S", ".", "-B", "bare", "-G", "Ninja", "-DCMAKE_DISABLE_FIND_PACKAGE_PkgConfig=ON",
                    "-DCMAKE_PREFIX_PATH=" + linked, env=self.env)
        self.run_at(where, "ninja", "-C", "bare", "--quiet", env=self.env)
        for name in ("hello", "hello_static"):
            self.assertEqual("hello, world (attempt 1)\n", self.run_at(where, os.path.join("bare", name), env=self.env))


if __name__ == "__main__":
    unittest.main(verbosity=2)
