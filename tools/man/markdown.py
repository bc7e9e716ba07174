# SPDX-License-Identifier: MIT
"""The Markdown of docs/ as man(7): headings, paragraphs, lists, tables, code. Not more than is written there."""
import re

from . import roff

PAIR = re.compile(r"^    (\S.*?)\s{2,}(\S.*)$")


def plain(page, text):
    """Text without markup, as the notes of a command: paragraphs are parted by empty lines."""
    for paragraph in text.strip().split("\n\n"):
        page.paragraph(roff.escaped(" ".join(paragraph.split())))


def cells(line):
    line = line.strip().strip("|")
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)]


def table(page, lines):
    """A row is its first cell, and behind it the others, by the names of their columns where these are several."""
    head, rows = cells(lines[0]), [cells(line) for line in lines[2:]]
    for row in rows:
        named = [(name, cell) for name, cell in zip(head[1:], row[1:]) if cell]
        several = len(head) > 2
        told = "; ".join(f"{name}: {cell}" if several and name else cell for name, cell in named)
        page.item(roff.inline(row[0] or "-"), roff.inline(told))


def code(page, lines):
    """Two columns are a list, anything else stays as it is."""
    pairs = [PAIR.match(line) for line in lines]
    if all(pairs):
        for pair in pairs:
            page.item("\\fB" + roff.escaped(pair[1].replace("`", "")) + "\\fR", roff.inline(pair[2]))
    else:
        page.verbatim([line[4:].replace("`", "") for line in lines])


def bullets(page, lines):
    items = []
    for line in lines:
        if re.match(r"^(- |\d+\. )", line):
            items.append(re.sub(r"^(- |\d+\. )", "", line))
        else:
            items[-1] += " " + line.strip()
    for item in items:
        page.bullet(roff.inline(item))


def take(lines, at, wanted):
    end = at
    while end < len(lines) and wanted(lines[end]):
        end += 1
    return lines[at:end], end


def fence(page, lines, at):
    body, end = take(lines, at + 1, lambda line: not line.startswith("```"))
    if "mermaid" not in lines[at]:
        page.verbatim(body)
    return end + 1


def begins_another(line):
    return not line or line.startswith(("```", "|", "#", "    ", "- ")) or re.match(r"^\d+\. ", line)


def blocks(page, text):
    lines, at = text.strip("\n").split("\n"), 0
    while at < len(lines):
        line = lines[at]
        if not line:
            at += 1
        elif line.startswith("```"):
            at = fence(page, lines, at)
        elif line.startswith("#"):
            page.subsection(line.lstrip("# ").replace("`", ""))
            at += 1
        elif line.startswith("|"):
            taken, at = take(lines, at, lambda line: line.startswith("|"))
            table(page, taken)
        elif line.startswith("    "):
            taken, at = take(lines, at, lambda line: line.startswith("    "))
            code(page, taken)
        elif re.match(r"^(- |\d+\. )", line):
            taken, at = take(lines, at, lambda line: re.match(r"^(- |\d+\. |  )", line))
            bullets(page, taken)
        else:
            taken, at = take(lines, at + 1, lambda line: not begins_another(line))
            page.paragraph(roff.inline(" ".join([line, *taken])))
