# SPDX-License-Identifier: MIT
"""The public headers, read as they are written: comments, types, functions; and their pages of section 3."""
import os
import re

from . import roff

COMMENT = re.compile(r"/\*.*?\*/", re.S)
SECTION = re.compile(r"^/\* -{2,4} (.+?) -+ \*/$")
FUNCTION = re.compile(r"\b(nq_\w+)\s*\(")


class Item:
    """A declaration with the comment above it."""

    def __init__(self, text, comment, header, follows):
        self.text, self.comment, self.header = text, comment, header
        self.follows = follows  # it stands right below another one, whose comment is for both
        inline = "static inline" in text
        found = FUNCTION.search(re.sub(COMMENT, "", text))
        function = text.startswith(("NQ_API", "static inline")) and found
        self.function = found[1] if function and (not inline or re.match(r"nq_(own_)?tx(_|$)", found[1])) else None
        self.hidden = inline and not self.function
        self.names = [] if function else self.defined()

    def defined(self):
        text = re.sub(COMMENT, "", self.text).strip()
        names = []
        for pattern in (r"^typedef\b.*?\(\*(\w+)\)", r"^typedef\b.*?\b(\w+)\s*;\s*$", r"^typedef (?:struct|enum|union) (\w+)",
                        r"^(?:struct|enum) (\w+)", r"^#define (\w+)"):
            found = re.search(pattern, text, re.S)
            if found and found[1] not in names:
                names.append(found[1])
        return names

    def has_body(self):
        return "{" in self.text or "(*" in self.text

    def prototype(self):
        text = " ".join(re.sub(COMMENT, "", self.text).split())
        text = re.sub(r"^NQ_API ", "", text)
        text = re.sub(r"^static inline ", "", text).split("{")[0].strip().rstrip(";")
        return re.sub(r" NQ_PRINTF\(.*\)$", "", text) + ";"


def words(comment):
    """A comment without its frame; a line's own indent is kept."""
    lines = comment[2:-2].split("\n")
    lines = [re.sub(r"^\s*\*( |$)", "", line) if n > 0 else line.strip() for n, line in enumerate(lines)]
    return "\n".join(line.rstrip() for line in lines).strip("\n")


def declaration(text, at):
    """The end of the declaration that begins at `at`: its semicolon, or the brace of a function's body."""
    depth = 0
    body = text.startswith("static inline", at)
    while at < len(text):
        comment = COMMENT.match(text, at)
        if comment:
            at = comment.end()
            continue
        c = text[at]
        depth += (c in "({") - (c in ")}")
        at += 1
        if depth == 0 and (c == ";" or (body and c == "}")):
            break
    rest = re.match(r"[ \t]*(/\*(?:[^*]|\*(?!/))*\*/)?", text[at:])
    return at + rest.end()


def define(text, at):
    end = text.find("\n", at)
    while text[end - 1] == "\\":
        end = text.find("\n", end + 1)
    # A comment at the end of the line may go on below it.
    opened = text.rfind("/*", at, end)
    if opened >= 0 and "*/" not in text[opened:end]:
        end = text.index("*/", end) + 2
    return end


def items(path):
    with open(path, encoding="utf-8") as f:
        text = f.read()
    name = os.path.basename(path)
    at, comment, last = 0, None, -1
    while at < len(text):
        if text[at].isspace():
            if text.startswith("\n\n", at):
                comment, last = None, -1
            at += 1
            continue
        found = COMMENT.match(text, at)
        if found:
            comment = None if SECTION.match(found[0]) or "SPDX" in found[0] else words(found[0])
            at, last = found.end(), -1
        elif text.startswith(("#define NQ_", "#define nq_"), at):
            end = define(text, at)
            yield Item(text[at:end], comment, name, last == at)
            at, comment = end, None
            last = at + 1
        elif text[at] == "#" or text.startswith(('extern "C"', "}"), at):
            at = text.find("\n", at) if "\n" in text[at:] else len(text)
        else:
            end = declaration(text, at)
            yield Item(text[at:end], comment, name, last == at)
            at, comment = end, None
            last = at + 1


class Api:
    def __init__(self, paths):
        self.items = [item for path in paths for item in items(path) if not item.hidden]
        self.types = {name: item for item in self.items for name in item.names if not name.isupper()}
        with open(next(p for p in paths if os.path.basename(p) == "nanoq.h"), encoding="utf-8") as f:
            text = f.read()
        self.contract = words(next(c for c in COMMENT.findall(text) if "CONTRACT" in c))
        self.version = ".".join(re.search(rf"NQ_VERSION_{part} (\d+)", text)[1] for part in ("MAJOR", "MINOR", "PATCH"))
        self.codes = re.findall(r'X\((NQ_\w+), (-?\d+), "([^"]+)"\)', text)
        self.groups = self.grouped()

    def grouped(self):
        """Functions that share a comment, [[Item, ...], ...]."""
        groups, before = [], None
        for item in self.items:
            if not item.function:
                if item.comment or not before or before.function:
                    before = item
                continue
            if groups and not item.comment and item.follows and groups[-1][-1] is before:
                groups[-1].append(item)
            else:
                # A constant, or the type that it makes, may stand between the comment and the function.
                item.comment = item.comment or (before.comment if before else None)
                groups.append([item])
            before = item
        return groups

    def used(self, group):
        """The types of the prototypes, and those that their members have: each where it is defined with a body."""
        found, texts = [], [item.prototype() for item in group]
        while texts:
            for word in re.findall(r"\bnq_\w+|NQ_\w+", texts.pop(0)):
                item = self.types.get(word)
                # nq_err is nearly everybody's: nanoq(3) has it.
                if item and item not in found and item.has_body() and "nq_err" not in item.names:
                    found.append(item)
                    texts.append(re.sub(COMMENT, "", item.text))
        return found


def first_sentence(text):
    text = " ".join(text.split())
    text = re.split(r"(?<=[^.])\.(?= |$)", text)[0]
    cut = re.search(r"^[^(]{20,}?[:;](?= )", text) if len(text) > 70 else None
    return cut[0][:-1] if cut else text


def described(page, text, functions):
    """Paragraphs; lines that are set in stand as they are; "Name   text" is a list."""
    for paragraph in re.split(r"\n\n+", text):
        lines = paragraph.split("\n")
        if re.match(r"^\w+ {2,}\S", lines[0]) and all(re.match(r"^\w+ {2,}\S| {4,}\S", line) for line in lines):
            for entry in re.split(r"\n(?=\S)", paragraph):
                name, rest = re.split(r"\s{2,}", entry, maxsplit=1)
                page.item("\\fB" + roff.escaped(name) + "\\fR", linked(" ".join(rest.split()), functions))
            continue
        while lines:
            deep = lines[0].startswith("  ")
            run = []
            while lines and lines[0].startswith("  ") == deep:
                run.append(lines.pop(0))
            if deep:
                page.verbatim([line[2:] for line in run])
            else:
                page.paragraph(linked(" ".join(" ".join(run).split()), functions))


def linked(text, functions):
    out = []
    text = text.replace("`", "")
    for part in re.split(r"\b(nq_\w+|NQ_\w+)\b", text):
        if part in functions:
            out.append("\\fB" + roff.escaped(part) + "\\fR(3)")
        elif re.fullmatch(r"nq_\w+|NQ_\w+", part):
            out.append("\\fB" + roff.escaped(part) + "\\fR")
        else:
            out.append(roff.escaped(part))
    return "".join(out)


def write_group(api, book, group, functions):
    names = [item.function for item in group]
    comment = next((item.comment for item in group if item.comment), "")
    page = book.page(names[0], summary(group), names[1:])
    page.section("SYNOPSIS")
    page.text("\\fB#include <" + group[0].header + ">\\fR")
    for item in group:
        page.paragraph("\\fB" + roff.escaped(item.prototype()) + "\\fR")
    page.section("DESCRIPTION")
    described(page, comment, functions)
    for item in group:
        if item.comment and item.comment != comment:
            page.paragraph("\\fB" + item.function + "\\fR:")
            described(page, item.comment, functions)
    used = api.used(group)
    if used:
        page.section("TYPES")
        for item in used:
            if item.comment:
                described(page, item.comment, functions)
            page.verbatim(item.text.replace("NQ_API ", "").split("\n"))
    if any(" err)" in item.prototype() or "nq_err *err" in item.prototype() for item in group):
        page.section("RETURN VALUE")
        page.text("Negative: a failure, one of the codes in \\fBnanoq\\fR(3), and \\fIerr\\fR says what was wrong and what is "
                  "allowed. Zero, \\fBNQ_OK\\fR, and where it is said above a positive code: success.")
    page.section("SEE ALSO")
    others = [g[0].function for g in api.groups if g[0].header == group[0].header and g is not group]
    page.text(", ".join(["\\fBnanoq\\fR(3)"] + ["\\fB" + roff.escaped(n) + "\\fR(3)" for n in others]))
    book.write(names[0], page)
    for name in names[1:]:
        book.alias(name, names[0])


def summary(group):
    comment = next((item.comment for item in group if item.comment), "")
    text = re.sub(r"`", "", first_sentence(re.sub(r"^[A-Z]{3,}\b", lambda found: found[0].capitalize(), comment)))
    return text[:1].lower() + text[1:]


def write(api, book):
    functions = {item.function for item in api.items if item.function}
    page = book.page("nanoq", "a durable queue of background tasks in the database that a program already has")
    page.section("SYNOPSIS")
    page.text("\\fB#include <nanoq.h>\\fR")
    page.paragraph("\\fBcc prog.c $(pkg\\-config \\-\\-cflags \\-\\-libs nanoq)\\fR")
    page.section("DESCRIPTION")
    for line in api.contract.split("\n\n")[1:]:
        described(page, line, functions)
    page.section("FUNCTIONS")
    for name in dict.fromkeys(item.header for item in api.items if item.function):
        page.subsection(name)
        for group in api.groups:
            if group[0].header == name:
                tag = ", ".join("\\fB" + roff.escaped(item.function) + "\\fR(3)" for item in group)
                page.item(tag, roff.escaped(summary(group)) + ".")
    page.section("ERRORS")
    for name, number, text in api.codes:
        page.item(f"\\fB{roff.escaped(name)}\\fR ({roff.escaped(number)})", roff.escaped(text) + ".")
    page.verbatim(api.types["nq_err"].text.split("\n"))
    book.alias("nq_err", "nanoq")
    page.section("SEE ALSO")
    page.text("\\fBnanoq\\fR(1), \\fBnanoq\\-url\\fR(5), \\fBnanoq\\-schema\\fR(5), \\fBnanoq\\fR(7)")
    book.write("nanoq", page)
    for group in api.groups:
        write_group(api, book, group, functions)
    written = set(functions)
    for group in api.groups:
        for item in api.used(group):
            for name in item.names:
                if name not in written and name.startswith("nq_"):
                    written.add(name)
                    book.alias(name, group[0].function)
