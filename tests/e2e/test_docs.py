#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Runs the documentation: every c, sh and sql block of *.md, docs/*.md, docs/recipes and docs/guides, in order, in one directory a document.

Words after the language say how (a block is never skipped silently):
  c file=NAME        saved as NAME, and compiled
  c fragment         compiled at file scope; c statements: inside a function with q, p, db, err in scope
  sh                 run by sh -eu; what it exports is there in the next block
  sh norun           not run: needs root, or a machine of its own
  sql sqlite         given to the stock sqlite3 client on the file that NANOQ_DB names
  sql mariadb        given to the stock mariadb client on a database of this test's own
  python file=NAME   likewise perl, php, ruby, javascript: must be the text of examples/recipes/NAME, which test_recipes.py runs
  go norun, java norun
  text output        must be what the block before printed; the sign \u2026 stands for anything
A document's blocks see the clone as ./nanoq, the tool as nanoq, the library through pkg-config, and
mysql://app@db.example/shop (or its parts in the order HOST PORT USER DATABASE) is replaced by the test's database.
Environment: NANOQ (the tool), NANOQ_BUILD (the build directory), NANOQ_TEST_MYSQL (mysql://root@127.0.0.1:PORT/).
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
BUILD = os.path.abspath(os.environ.get("NANOQ_BUILD", os.path.join(TOP, "build-test")))
NANOQ = os.path.abspath(os.environ.get("NANOQ", os.path.join(BUILD, "nanoq")))
MYSQL = os.environ.get("NANOQ_TEST_MYSQL", "")
DOCUMENTS = [path for folder in ("", "docs", "docs/recipes", "docs/guides")
             for path in sorted(glob.glob(os.path.join(TOP, folder, "*.md")))]
FENCE = re.compile(r"^```([^\n`]*)\n(.*?)^```$", re.M | re.S)
NAME = r"\b(?:nq|NQ)_\w+"
WARNINGS = ["-std=c11", "-Wall", "-Wextra", "-Werror"]
PRELUDE = "".join(f'#include "{h}"\n' for h in (
    "nanoq.h", "nanoq_admin.h", "nanoq_sqlite.h", "stdio.h", "stdlib.h", "string.h"))
LIMIT = 120  # seconds for a block
RECIPES = ("python", "perl", "php", "ruby", "javascript")


class Block:
    def __init__(self, match, text):
        words = match.group(1).split()
        self.language = words[0] if words else ""
        self.words = words[1:]
        self.text = match.group(2)
        self.line = text.count("\n", 0, match.start()) + 1
        self.output = None

    def value(self, name):
        return next((w.partition("=")[2] for w in self.words if w.startswith(name + "=")), None)


def blocks_of(path):
    with open(path, encoding="utf-8") as f:
        text = f.read()
    found = []
    for match in FENCE.finditer(text):
        block = Block(match, text)
        if block.language == "text" and "output" in block.words:
            found[-1].output = block.text
        else:
            found.append(block)
    return found


class Document(unittest.TestCase):
    """One document; its blocks are methods, made below, that run in order and share a directory."""
    maxDiff = None
    uses_mysql = False

    @classmethod
    def setUpClass(cls):
        cls.dir = tempfile.mkdtemp(prefix="nanoq-docs-")
        home = os.path.join(cls.dir, "home")
        os.makedirs(os.path.join(home, "bin"))
        os.symlink(TOP, os.path.join(cls.dir, "nanoq"))
        os.symlink(NANOQ, os.path.join(home, "bin", "nanoq"))
        dashboard = os.path.join(os.path.dirname(NANOQ), "nanoq-dashboard")
        if os.path.exists(dashboard):
            os.symlink(dashboard, os.path.join(home, "bin", "nanoq-dashboard"))
        cls.env = {
            "HOME": home, "XDG_STATE_HOME": os.path.join(home, "state"), "LC_ALL": "C.UTF-8",
            "PATH": os.path.join(home, "bin") + ":" + os.environ["PATH"],
            "PKG_CONFIG_PATH": os.path.join(BUILD, "meson-uninstalled"),
            "LD_LIBRARY_PATH": os.path.join(BUILD, "src"),
        }
        cls.database = None
        if cls.uses_mysql and MYSQL:
            cls.set_up_mysql(home)

    @classmethod
    def set_up_mysql(cls, home):
        url = urllib.parse.urlsplit(MYSQL)
        cls.database = f"nanoq_docs_{os.getpid()}_{cls.__name__.lower()}"
        cls.server = (url.hostname or "127.0.0.1", str(url.port or 3306), urllib.parse.unquote(url.username or "root"))
        with open(os.path.join(home, ".my.cnf"), "w", encoding="utf-8") as f:
            f.write("[client]\nprotocol=tcp\nhost=%s\nport=%s\nuser=%s\n" % cls.server)
            if url.password:
                f.write(f"password={urllib.parse.unquote(url.password)}\n")
                cls.env["NANOQ_PASSWORD"] = urllib.parse.unquote(url.password)
        cls.mariadb(f"CREATE DATABASE {cls.database}", None)

    @classmethod
    def tearDownClass(cls):
        if cls.database:
            cls.mariadb(f"DROP DATABASE {cls.database}", None)
        shutil.rmtree(cls.dir)

    @classmethod
    def mariadb(cls, sql, database):
        client = shutil.which("mariadb") or "mysql"
        argv = [client] + ([database] if database else [])
        return cls.run_program(argv, sql)

    @classmethod
    def run_program(cls, argv, stdin=""):
        done = subprocess.run(argv, cwd=cls.dir, env=cls.env, input=stdin, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True, timeout=LIMIT, check=False)
        if done.returncode != 0:
            raise AssertionError(f"{' '.join(argv)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout

    @classmethod
    def replaced(cls, text):
        if cls.database:
            host, port, user = cls.server
            text = text.replace("mysql://app@db.example/shop", f"mysql://{user}@{host}:{port}/{cls.database}")
            text = text.replace("db.example 3306 app shop", f"{host} {port} {user} {cls.database}")
        return text

    def c(self, block):
        text, name = block.text, block.value("file")
        if "fragment" in block.words:
            text = PRELUDE + text
        elif "statements" in block.words:
            text = (PRELUDE + "int f(nq *q, nq_worker *p, sqlite3 *db, nq_err *err);\n"
                    "int f(nq *q, nq_worker *p, sqlite3 *db, nq_err *err)\n{\n(void)q, (void)p, (void)db, (void)err;\n"
                    f"{text}return 0;\n}}\n")
        elif not name:
            self.fail("a c block needs file=NAME, fragment or statements")
        path = os.path.join(self.dir, name or "block.c")
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)
        extra = ["-Wno-unused-function"] if "fragment" in block.words else []
        self.run_program(["cc"] + WARNINGS + extra + ["-I", os.path.join(TOP, "include"), "-c", path, "-o", "block.o"])
        example = os.path.join(TOP, "examples", name or "-")
        if os.path.exists(example):
            with open(example, encoding="utf-8") as f:
                self.assertEqual(f.read(), text, f"the document shows another {name} than examples/ has")
        return ""

    def sh(self, block):
        names = os.path.join(self.dir, "home", "env")
        out = self.run_program(["sh", "-eu", "-c", self.replaced(block.text) + f"\nenv -0 >{names}"])
        with open(names, encoding="utf-8") as f:
            pairs = (pair.partition("=") for pair in f.read().split("\0") if pair)
            type(self).env = {name: value for name, _, value in pairs if name not in ("PWD", "_", "SHLVL")}
        return out

    def sql(self, block):
        if "sqlite" in block.words:
            url = self.env.get("NANOQ_DB", "")
            self.assertTrue(url.startswith("sqlite:"), "a block before must export NANOQ_DB=sqlite:FILE")
            return self.run_program(["sqlite3", "-bail", url[len("sqlite:"):]], block.text)
        self.assertIn("mariadb", block.words, "a sql block says sqlite or mariadb")
        return self.mariadb(block.text, self.database)

    def recipe(self, block):
        with open(os.path.join(TOP, "examples", "recipes", block.value("file") or "-"), encoding="utf-8") as f:
            self.assertEqual(f.read(), block.text, "the document shows another program than examples/recipes has")
        return ""

    python = perl = php = ruby = javascript = recipe

    def run_block(self, block):
        if needs_mysql(block) and not MYSQL:
            self.skipTest("NANOQ_TEST_MYSQL is not set")
        out = getattr(self, block.language)(block)
        if block.output is not None:
            pattern = "".join(".*" if part == "\u2026" else re.escape(part)
                              for part in re.split("(\u2026)", block.output))
            if not re.fullmatch(pattern, out, re.S):
                self.assertEqual(block.output, out)


def needs_mysql(block):
    return "mariadb" in block.words or "db.example" in block.text


def make_document(path):
    folder = os.path.basename(os.path.dirname(path)) if "docs/" in os.path.relpath(os.path.dirname(path), TOP) else ""
    name = "".join(ch for ch in (folder + " " + os.path.basename(path).split(".")[0]).title() if ch.isalnum())
    blocks = [b for b in blocks_of(path) if b.language in ("c", "sh", "sql") + RECIPES and "norun" not in b.words]
    methods = {"uses_mysql": any(needs_mysql(b) for b in blocks)}
    for block in blocks:
        def method(self, block=block):
            self.run_block(block)
        method.__doc__ = f"{os.path.basename(path)}:{block.line} ({block.language})"
        methods[f"test_line_{block.line:04d}"] = method
    return name, type(name, (Document,), methods)


def names_in(pattern):
    names = set()
    for path in glob.glob(os.path.join(TOP, pattern), recursive=True):
        with open(path, encoding="utf-8") as f:
            names |= set(re.findall(NAME, f.read()))
    return names


class Words(unittest.TestCase):
    """What can be checked of the prose."""

    def setUp(self):
        self.texts = {}
        for path in DOCUMENTS:
            with open(path, encoding="utf-8") as f:
                self.texts[path] = f.read()

    def test_every_name_exists(self):
        public = names_in("include/*.h") | {"NQ_WITH_SQLITE", "NQ_WITH_MYSQL"}
        inside = names_in("src/**/*.h")
        for path, text in self.texts.items():
            if os.path.basename(path) in ("conventions.md", "CHANGELOG.md", "UPGRADING.md"):
                continue  # they say how names are made, and which there were
            known = public | inside if path.endswith(("design.md", "architecture.md", "CONTRIBUTING.md")) else public
            unknown = set(re.findall(NAME, text)) - known
            self.assertEqual(set(), unknown, f"{path} names what no public header has")

    def test_the_table_of_moves_is_the_code_s(self):
        """docs/states.md against src/core/state.c, cell by cell."""
        text = next(t for p, t in self.texts.items() if p.endswith("states.md"))
        rows = re.search(r"^\| Move \| waiting .*\n\|[- |]+\n((?:\|.*\n)+)", text, re.M).group(1).splitlines()
        states = ["waiting", "running", "done", "dead", "cancelled"]
        calls = expected = ""
        for row in rows:
            move, *cells = [cell.strip() for cell in row.strip("|").split("|")]
            self.assertEqual(len(states), len(cells), row)
            for state, cell in zip(states, cells):
                to = {"-": -1, "gone": -2}.get(cell)
                expected += f"{move} {state} {states.index(cell) if to is None else to}\n"
                calls += (f'printf("{move} {state} %d\\n",'
                          f' nq_state_move(NQ_STATE_{state.upper()}, NQ_MOVE_{move.upper()}));\n')
        with tempfile.TemporaryDirectory() as directory:
            source, program = os.path.join(directory, "moves.c"), os.path.join(directory, "moves")
            with open(source, "w", encoding="utf-8") as f:
                f.write(f'#include <stdio.h>\n#include "core.h"\nint main(void)\n{{\n{calls}return 0;\n}}\n')
            core = os.path.join(TOP, "src", "core")
            subprocess.run(["cc", "-std=c11", "-D_GNU_SOURCE", "-I", os.path.join(TOP, "include"), "-I", core, source,
                            os.path.join(core, "state.c"), "-o", program], check=True)
            self.assertEqual(expected, subprocess.run([program], check=True, stdout=subprocess.PIPE, text=True).stdout)

    def test_the_tables_and_the_columns_of_a_task_are_described(self):
        """docs/schema.md against src/store/columns.h."""
        text = next(t for p, t in self.texts.items() if p.endswith("schema.md"))
        with open(os.path.join(TOP, "src", "store", "columns.h"), encoding="utf-8") as f:
            source = f.read()
        tables = re.search(r"#define NQ_TABLES\(X\)(.*?)\n#define", source, re.S).group(1)
        self.assertEqual({"nanoq_" + name for name in re.findall(r"X\((\w+)\)", tables)},
                         set(re.findall(r"^\| `(nanoq_\w+)` \|", text, re.M)))
        columns = re.search(r"#define NQ_COLUMNS\(X\)(.*?)\n\n", source, re.S).group(1)
        self.assertEqual(set(re.findall(r"X\((\w+),", columns)),
                         set(re.findall(r"^\| `(\w+)` \| [A-Z]+\b", text, re.M)))

    def test_every_link_leads_somewhere(self):
        for path, text in self.texts.items():
            prose = FENCE.sub("", text)
            for target in re.findall(r"\]\(([^)#\s]+)", prose):
                if "://" not in target:
                    self.assertTrue(os.path.exists(os.path.join(os.path.dirname(path), target)), f"{path}: {target}")

    def test_every_document_is_linked(self):
        linked = {os.path.normpath(os.path.join(os.path.dirname(path), target)) for path, text in self.texts.items()
                  for target in re.findall(r"\]\(([^)#\s]+)", FENCE.sub("", text))}
        pages = {path for path in self.texts if path.startswith(os.path.join(TOP, "docs", ""))}
        self.assertEqual(set(), pages - linked)

    def test_every_file_of_the_sources_exists(self):
        """`store.c`, `mysql/claim.c`, `src/worker/`: by its path, or the end of one."""
        have = set()
        for folder in ("include", "src", "cli", "dashboard", "examples", "bench", "tests", "tools", "docs"):
            for directory, folders, files in os.walk(os.path.join(TOP, folder)):
                below = os.path.relpath(directory, TOP)
                have |= {"/" + os.path.join(below, name) for name in files}
                have |= {"/" + os.path.join(below, name) + "/" for name in folders} | {"/" + folder + "/"}
        for path, text in self.texts.items():
            if os.path.basename(path) in ("CHANGELOG.md", "UPGRADING.md"):
                continue  # they say what was
            for name in re.findall(r"`((?:[a-z0-9_]+/)*(?:[a-z0-9_]+\.(?:c|h|py|sql|cpp)|))`", FENCE.sub("", text)):
                if name and not name.startswith("build-") and not any(real.endswith("/" + name) for real in have):
                    self.fail(f"{path}: there is no {name}")

    def test_every_fence_has_a_language(self):
        for path in DOCUMENTS:
            for block in blocks_of(path):
                self.assertIn(block.language, ("c", "sh", "sql", "text", "mermaid", "ini", "meson") + RECIPES + ("go", "java"),
                              f"{path}:{block.line}")
                self.assertTrue(block.language not in ("go", "java") or "norun" in block.words, f"{path}:{block.line}")


for document in DOCUMENTS:
    class_name, made = make_document(document)
    globals()[class_name] = made
del made

if __name__ == "__main__":
    unittest.main(verbosity=2)
