#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# The site of the documents: every link leads somewhere, nothing comes from the network, and the search finds.
import glob
import json
import os
import re
import shutil
import subprocess
import tempfile
import unittest
from xml.etree import ElementTree

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.path.abspath(os.environ.get("NANOQ_BUILD", "build-test"))


@unittest.skipUnless(shutil.which("cmark-gfm") and shutil.which("dot"), "no cmark-gfm or no graphviz here")
class Site(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.dir = tempfile.mkdtemp(prefix="nanoq-site-")
        cls.out = os.path.join(cls.dir, "site")
        cls.done = subprocess.run([os.path.join(TOP, "tools", "site"), cls.out, BUILD], capture_output=True,
                                  text=True, timeout=120, check=False)
        cls.pages = {}
        for path in glob.glob(os.path.join(cls.out, "**", "*.html"), recursive=True):
            with open(path, encoding="utf-8") as f:
                cls.pages[os.path.relpath(path, cls.out)] = f.read()

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.dir)

    def test_every_link_leads_somewhere(self):
        self.assertEqual((self.done.returncode, self.done.stderr), (0, ""))

    def test_every_document_is_a_page_and_is_listed(self):
        for path in glob.glob(os.path.join(TOP, "docs", "*.md")):
            name = "docs/" + os.path.basename(path)[:-3] + ".html"
            self.assertIn(name, self.pages)
            self.assertIn(f'href="{name}"', self.pages["index.html"])

    def test_nothing_is_fetched(self):
        for name, text in self.pages.items():
            self.assertNotRegex(text, r'<(?:script|img|iframe|source)[^>]*\bsrc="(?:https?:)?//', name)
            self.assertNotRegex(text, r'<link[^>]*\bhref="(?:https?:)?//', name)
            self.assertNotIn("{{", re.sub(r"<pre.*?</pre>|<code.*?</code>", "", text, flags=re.S), name)

    def test_charts_are_pictures(self):
        page = self.pages["docs/performance.html"]
        with open(os.path.join(TOP, "docs", "performance.md"), encoding="utf-8") as f:
            charts = re.findall(r"^xychart-beta\n(.*?)^```", f.read(), re.M | re.S)
        self.assertGreater(len(charts), 1)
        self.assertNotIn("xychart", page)
        self.assertEqual(page.count('<figure class="chart">'), len(charts))
        for chart in charts:
            title = re.search(r'title "(.*)"', chart)[1]
            drawn = re.search(f"<figcaption>{re.escape(title)}</figcaption>(.*?)</figure>", page, re.S)[1]
            for kind, mark in (("bar", "<rect"), ("line", "<circle")):
                values = re.search(rf"{kind} \[(.*)\]", chart)
                values = values[1].split(", ") if values else []
                self.assertEqual(drawn.count(mark), len(values), title)
                for value in values:
                    self.assertIn(f">{float(value):g}</text>", drawn)
            ElementTree.fromstring(re.search(r"<svg.*</svg>", drawn, re.S)[0])

    def test_diagrams_are_pictures(self):
        for name, wanted in (("states", ["waiting", "running", "done", "dead", "cancelled", "claim", "fail, snooze, release", "bury"]),
                             ("architecture", ["database", "fetcher", "handler threads", "child processes", "ready list", "claim",
                                               "cancels at the deadline"])):
            page = self.pages[f"docs/{name}.html"]
            self.assertNotIn("language-mermaid", page)
            drawn = ElementTree.fromstring(re.search(r'<figure class="diagram">(.*?)</figure>', page, re.S)[1])
            texts = [text.text for text in drawn.iter("{http://www.w3.org/2000/svg}text")]
            self.assertEqual([text for text in wanted if text not in texts], [], texts)
            self.assertNotRegex(page, r'(?:fill|stroke)="(?:black|white)"')

    def test_a_page_of_the_manual_has_one_title_and_its_sections_are_found(self):
        pages = [name for name in self.pages if name.startswith("man/")]
        if not pages:
            self.skipTest("no manual was built, or no mandoc here")
        for name in pages:
            self.assertEqual(self.pages[name].count("<h1"), 1, name)
            self.assertNotRegex(self.pages[name], r"<pre>[^<]*<br/>", name)
        with open(os.path.join(self.out, "assets", "index.js"), encoding="utf-8") as f:
            self.assertIn('"man/nanoq-work.1.html#OPTIONS"', f.read())

    @unittest.skipUnless(shutil.which("node"), "no node here")
    def test_the_search_finds_without_a_network(self):
        script = """
            const fs = require('fs'), vm = require('vm'), here = vm.createContext({});
            for (const file of ['index.js', 'search.js'])
                vm.runInContext(fs.readFileSync(process.argv[1] + '/assets/' + file, 'utf8'), here);
            for (const typed of process.argv.slice(2)) {
                here.typed = typed;
                console.log(JSON.stringify(vm.runInContext('search(searchIndex, typed, 5).map((row) => row[2])', here)));
            }"""
        typed = {"debounce": "docs/unique.html", "exit codes": "docs/operations.html#exit-codes-of-the-tool",
                 "Fencing token": "docs/", "no such word as xyzzy": None}
        out = subprocess.run(["node", "-e", script, self.out, *typed], capture_output=True, text=True, timeout=60, check=True).stdout
        for (words, wanted), line in zip(typed.items(), out.splitlines()):
            found = json.loads(line)
            if wanted:
                self.assertTrue(any(address.startswith(wanted) for address in found), (words, found))
            else:
                self.assertEqual(found, [])

    def test_a_link_that_leads_nowhere_is_named(self):
        copy = os.path.join(self.dir, "copy")
        os.makedirs(os.path.join(copy, "docs", "topics"))
        shutil.copytree(os.path.join(TOP, "tools"), os.path.join(copy, "tools"))
        chart = "```mermaid\nxychart-beta\ntitle \"T\"\nx-axis [1, 2]\ny-axis \"n\" 0 --> 9\nbar [3]\n```\n"
        for name, text in (("README.md", "# A\n\n[b](docs/b.md#c), [none](docs/none.md)\n\n" + chart), ("docs/b.md", "# B\n\n[a](../README.md#a)\n")):
            with open(os.path.join(copy, name), "w", encoding="utf-8") as f:
                f.write(text)
        done = subprocess.run([os.path.join(copy, "tools", "site"), os.path.join(copy, "out")], capture_output=True, text=True,
                              timeout=60, check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn("README.md: docs/none.md: there is no such file", done.stderr)
        self.assertIn("index.html: docs/b.html#c: the page has no such heading", done.stderr)
        self.assertIn("README.md: the chart 'T' has 2 names, but 1 values of its bar", done.stderr)
        self.assertNotIn("#a", done.stderr)


if __name__ == "__main__":
    unittest.main()
