# SPDX-License-Identifier: MIT
"""A fence of mermaid's `flowchart` or `stateDiagram-v2` as a picture, laid out by graphviz.

What the documents use of them is understood and nothing else: arrows, whole or dotted, with a text or without; nodes with a text of
their own, and [(a database)]; of states the arrows with their texts, and [*] for what begins and what ends.
"""
import html
import re
import subprocess

from charts import Fault

ARROW = re.compile(r'\s+(-->|-- .*? -->|-\. .*? \.->)\s+')
NODE = re.compile(r'(\w+)(?:\[\((.+)\)\]|\["?(.+?)"?\])?')
STATE = re.compile(r"(\[\*\]|\w+) --> (\[\*\]|\w+)(?:: (.+))?")


class Diagram:
    def __init__(self):
        self.nodes, self.edges = {}, []  # a node's name to its attributes; from, to, attributes

    def node(self, text):
        match = NODE.fullmatch(text)
        if not match:
            raise Fault(f"a diagram has a node that is not understood: {text}")
        name, database, said = match.groups()
        if name not in self.nodes or database or said:
            self.nodes[name] = {"label": database or said or name, "shape": "cylinder" if database else "box"}
        return name

    def flow(self, line):
        """A line of a flowchart: node arrow node arrow node ..."""
        parts = ARROW.split(line)
        names = [self.node(part) for part in parts[::2]]
        for a, arrow, b in zip(names, parts[1::2], names[1:]):
            dotted = arrow.startswith("-.")
            said = arrow[2:-3].removesuffix(" .").strip(' "') if arrow != "-->" else ""
            self.edges.append((a, b, {"label": said, "style": "dashed" if dotted else "solid"}))

    def state(self, line):
        match = STATE.fullmatch(line)
        if not match:
            raise Fault(f"a diagram has a line that is not understood: {line}")
        a, b = (("begin", "end")[i] if name == "[*]" else name for i, name in enumerate(match.groups()[:2]))
        for name in (a, b):
            point = {"label": "", "shape": "circle" if name == "begin" else "doublecircle", "width": "0.15", "style": "filled"}
            self.nodes[name] = point if name in ("begin", "end") else {"label": name, "shape": "box", "style": "rounded"}
        self.edges.append((a, b, {"label": match[3] or ""}))

    def dot(self, direction):
        def listed(attributes):
            return ", ".join(f"{key}={quoted(value)}" for key, value in attributes.items())

        rows = [f"{quoted(name)} [{listed(attributes)}]" for name, attributes in self.nodes.items()]
        rows += [f"{quoted(a)} -> {quoted(b)} [{listed(attributes)}]" for a, b, attributes in self.edges]
        return "\n".join([f"digraph {{ rankdir={direction}; bgcolor=transparent; nodesep=0.3; ranksep=0.35;", 'node [fontname="sans-serif", fontsize=12]',
                          'edge [fontname="sans-serif", fontsize=11, arrowsize=0.7]', *rows, "}"])


def quoted(text):
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def svg(text):
    first, *lines = (line.strip() for line in text.strip().splitlines())
    diagram, direction = Diagram(), first.partition(" ")[2] or "TB"
    for line in lines:
        if line:
            (diagram.state if first.startswith("state") else diagram.flow)(line)
    made = subprocess.run(["dot", "-Tsvg"], input=diagram.dot(direction), stdout=subprocess.PIPE, check=True, text=True).stdout
    made = re.sub(r"<!--.*?-->|<title>.*?</title>", "", made[made.index("<svg"):], flags=re.S)
    # The page's colours, dark or light, and not graphviz's.
    made = re.sub(r' (fill|stroke)="(black|none|transparent|lightgrey)"', lambda f: ' fill="none"' if f[1] == "fill" and f[2] == "none" else "", made)
    said = ", ".join(f"{a} to {b}" + (f": {more['label']}" if more["label"] else "") for a, b, more in diagram.edges)
    made = made.replace("<svg ", f'<svg role="img" aria-label="{html.escape(said)}" ', 1)
    return f'<figure class="diagram">{made.strip()}</figure>'
