#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The amalgamation: made, compiled without a warning as a stranger would, linked into C and C++ programs, run.

Environment: NANOQ_TEST_MYSQL (mysql://root@127.0.0.1:PORT/), without which the MySQL program is only compiled.
"""
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import unittest
import urllib.parse

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
MYSQL = os.environ.get("NANOQ_TEST_MYSQL", "")
CONSUMER = r"""
#include "nanoq.h"
#include "nanoq_sqlite.h"
#include <cstdio>
#include <cstring>
static nq_verdict work(nq_ctx *, const nq_task *task, void *) { std::printf("%s\n", task->type); return NQ_DONE; }
int main()
{
    nq *q = nullptr;
    nq_worker *p = nullptr;
    nq_err err{};
    nq_task_spec task{};
    task.size = sizeof task;
    task.type = "from C++";
    nq_worker_options opts{};
    opts.size = sizeof opts;
    opts.drain = NQ_DRAIN_DUE;
    int bad = nq_open(&q, "sqlite:cpp.db", nullptr, &err) || nq_migrate(q, &err) ||
              nq_enqueue(q, NQ_OWN_TX, &task, nullptr, &err) || nq_worker_new(&p, q, &opts, &err) ||
              nq_worker_handle(p, nullptr, work, nullptr, nullptr, &err) || nq_worker_run(p, &err);
    if (bad)
        std::fprintf(stderr, "%s\n", err.message);
    nq_worker_free(p);
    nq_close(q);
    return bad || nq_state_from_name("dead") != NQ_STATE_DEAD;
}
"""


class Amalgamation(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.dir = tempfile.mkdtemp(prefix="nanoq-amalgamation-")
        cls.run_program([os.path.join(TOP, "tools", "amalgamate"), cls.dir])
        for name in ("hello.c", "stock_sqlite.c", "stock_mysql.c"):
            shutil.copy(os.path.join(TOP, "examples", name), cls.dir)
        with open(os.path.join(cls.dir, "consumer.cpp"), "w", encoding="utf-8") as f:
            f.write(CONSUMER)

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.dir)

    @classmethod
    def run_program(cls, argv, **more):
        done = subprocess.run(argv, cwd=cls.dir, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                              timeout=300, check=False, **more)
        if done.returncode != 0:
            raise AssertionError(f"{' '.join(argv)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def compile(self, command):
        done = self.run_program(shlex.split(command))
        self.assertEqual("", done.stdout + done.stderr, command)

    def test_sqlite_needs_no_option(self):
        self.compile("cc -std=c11 -Wall -Wextra nanoq.c hello.c -o hello -lsqlite3 -lpthread")
        self.assertEqual("hello, world (attempt 1)\n", self.run_program(["./hello"]).stdout)

    def test_files_are_large_on_32_bits(self):
        self.assertIn("#define _FILE_OFFSET_BITS 64\n", self.run_program(["cc", "-std=c11", "-E", "-dM", "nanoq.c"]).stdout)

    def test_clang_takes_it_too(self):
        if not shutil.which("clang"):
            self.skipTest("no clang")
        self.compile("clang -std=c11 -Wall -Wextra -c nanoq.c -o clang.o")
        # An optimiser follows values that -O0 does not, and warns of what it finds. The other levels: make test-compilers.
        self.compile("cc -std=c11 -Wall -Wextra -O2 -c nanoq.c -o optimised.o")

    def test_cpp_consumer(self):
        self.compile("cc -std=c11 -O1 -Wall -Wextra -Wno-error -c nanoq.c -o nanoq.o")
        self.compile("c++ -std=c++17 -Wall -Wextra -Wpedantic consumer.cpp nanoq.o -o consumer -lsqlite3 -lpthread")
        self.assertEqual("from C++\n", self.run_program(["./consumer"]).stdout)

    def test_only_the_public_names_are_visible(self):
        self.compile("cc -std=c11 -c nanoq.c -o names.o")
        names = [line.split()[-1] for line in self.run_program(["nm", "-g", "--defined-only", "names.o"]).stdout.splitlines()]
        header = ""
        with open(os.path.join(self.dir, "nanoq.h"), encoding="utf-8") as f:
            header = f.read()
        self.assertGreater(len(names), 30)
        self.assertEqual([], [n for n in names if not n.startswith("nq_") or n + "(" not in header])

    def test_stock_on_sqlite(self):
        self.compile("cc -std=c11 -Wall -Wextra nanoq.c stock_sqlite.c -o stock_sqlite -lsqlite3 -lpthread")
        for _ in range(2):
            self.assertEqual("product 7: recalculated\n", self.run_program(["./stock_sqlite", "stock.db"]).stdout)
        stock = self.run_program(["sqlite3", "stock.db", "SELECT stock FROM product; SELECT count(*) FROM nanoq_tasks"])
        self.assertEqual("24\n0\n", stock.stdout)

    def test_both_stores_and_stock_on_mysql(self):
        flags = self.run_program(["pkg-config", "--cflags", "--libs", "libmariadb"]).stdout.strip()
        self.compile("cc -std=c11 -Wall -Wextra -DNQ_WITH_SQLITE -DNQ_WITH_MYSQL nanoq.c stock_mysql.c -o stock_mysql"
                     f" -lsqlite3 {flags} -lpthread")
        self.compile(f"cc -std=c11 -Wall -Wextra -DNQ_WITH_MYSQL nanoq.c stock_mysql.c -o only_mysql {flags} -lpthread")
        if not MYSQL:
            self.skipTest("NANOQ_TEST_MYSQL is not set: compiled, not run")
        url = urllib.parse.urlsplit(MYSQL)
        database = f"nanoq_amalgamation_{os.getpid()}"
        env = dict(os.environ)
        if url.password:
            env["NANOQ_PASSWORD"] = env["MYSQL_PWD"] = urllib.parse.unquote(url.password)
        host, port, user = url.hostname or "127.0.0.1", str(url.port or 3306), url.username or "root"
        client = [shutil.which("mariadb") or "mysql", "--no-defaults", "--protocol=tcp", "-h", host, "-P", port, "-u",
                  user, "-N"]
        self.run_program(client + ["-e", f"CREATE DATABASE {database}"], env=env)
        try:
            for program in ("./stock_mysql", "./only_mysql"):
                out = self.run_program([program, host, port, user, database], env=env).stdout
                self.assertEqual("product 7: recalculated\n", out)
            sql = "SELECT stock FROM product; SELECT count(*) FROM nanoq_tasks"
            self.assertEqual("24\n0\n", self.run_program(client + [database, "-e", sql], env=env).stdout)
        finally:
            self.run_program(client + ["-e", f"DROP DATABASE {database}"], env=env)

    def test_a_release_is_the_same_bytes_wherever_it_is_made(self):
        """From two clones at two paths, in other time zones, locales, and for other users' files."""
        if subprocess.run(["git", "rev-parse", "HEAD"], cwd=TOP, check=False, stdout=subprocess.DEVNULL,
                          stderr=subprocess.DEVNULL).returncode != 0:
            self.skipTest("no repository")
        made = []
        # Without npm in the PATH: what it brings is taken by its hashes, and needs a network.
        bare = os.path.join(self.dir, "bin")
        os.mkdir(bare)
        for name in ("git", "python3", "env"):
            os.symlink(os.path.realpath(shutil.which(name)), os.path.join(bare, name))
        for where, umask, env in (("one", 0o022, {"TZ": "Asia/Kathmandu", "LC_ALL": "C"}),
                                  ("two/farther", 0o077, {"TZ": "America/St_Johns", "LC_ALL": "C.UTF-8"})):
            clone, out = os.path.join(self.dir, where), os.path.join(self.dir, where + "-dist")
            self.run_program(["git", "clone", "--quiet", "--no-hardlinks", TOP, clone])
            done = self.run_program([sys.executable, os.path.join(clone, "tools", "dist"), out],
                                    env={"PATH": bare, "HOME": self.dir, **env}, umask=umask)
            self.assertIn("SHA256SUMS", os.listdir(out))
            made.append({name: open(os.path.join(out, name), "rb").read() for name in os.listdir(out)})
            self.assertIn("nanoq.c", done.stdout)
        self.assertEqual([0xff], [data[9] for name, data in made[0].items() if name.endswith(".gz")])  # as gzip of any Python
        self.assertEqual(made[0].keys(), made[1].keys())
        self.assertEqual([], [name for name in made[0] if made[0][name] != made[1][name]])


if __name__ == "__main__":
    unittest.main(verbosity=2)
