# SPDX-License-Identifier: MIT
"""Text for man(7): escaping, and a page that is filled line by line."""
import re
import textwrap

WIDTH = 78  # of a line of the source


def escaped(text):
    """Text as roff shows it; hyphens stay hyphens, what is not ASCII is named by number."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq").replace("`", "\\(ga")
    text = text.replace("^", "\\(ha").replace("~", "\\(ti")
    return "".join(c if ord(c) < 128 else f"\\[u{ord(c):04X}]" for c in text)


def guarded(line):
    """A line of text must not begin as a request does."""
    return "\\&" + line if line[:1] in (".", "'") else line


class Page:
    def __init__(self):
        self.lines = []
        self.fresh = False  # a section has begun and has no text yet

    def macro(self, name, *args):
        quoted = ['"' + a.replace('"', "\\(dq") + '"' if " " in a or '"' in a or not a else a for a in args]
        self.lines.append(" ".join(["." + name, *quoted]))

    def section(self, title):
        self.macro("SH", escaped(title).upper() if "\\" not in escaped(title) else escaped(title.upper()))
        self.fresh = True

    def subsection(self, title):
        self.macro("SS", escaped(title))
        self.fresh = True

    def text(self, text):
        """A paragraph's text, escaped already."""
        for line in textwrap.wrap(text, WIDTH, break_long_words=False, break_on_hyphens=False):
            self.lines.append(guarded(line))
        self.fresh = False

    def paragraph(self, text):
        if not self.fresh:
            self.macro("PP")
        self.text(text)

    def item(self, tag, text):
        self.macro("TP")
        self.lines.append(guarded(tag))
        self.text(text or "\\&")

    def bullet(self, text):
        self.macro("IP", "\\(bu", "2")
        self.text(text)

    def verbatim(self, lines):
        """Lines as they stand, set in."""
        if not self.fresh:
            self.macro("PP")
        self.macro("RS", "4")
        self.macro("nf")
        self.lines += [guarded(escaped(line)) or "\\&" for line in lines]
        self.macro("fi")
        self.macro("RE")
        self.fresh = False

    def done(self):
        return "\n".join(['.\\" Made by tools/manual; changes belong into what it reads.', *self.lines]) + "\n"


def inline(text):
    """Markdown within a line: `code` and **bold** are bold, *emphasis* is slanted, a link is its text."""
    text = re.sub(r"\[([^\]]+)\]\([^)]+\)", r"\1", text)
    out = []
    for part in re.split(r"(`[^`]+`|\*\*[^*]+\*\*|\*[^* ][^*]*\*)", text):
        if len(part) > 2 and part[0] == "`" == part[-1]:
            out.append("\\fB" + escaped(part[1:-1]) + "\\fR")
        elif len(part) > 4 and part[:2] == "**" == part[-2:]:
            out.append("\\fB" + escaped(part[2:-2].replace("`", "")) + "\\fR")
        elif len(part) > 2 and part[0] == "*" == part[-1]:
            out.append("\\fI" + escaped(part[1:-1]) + "\\fR")
        else:
            out.append(escaped(part.replace("\\|", "|")))
    return "".join(out)
