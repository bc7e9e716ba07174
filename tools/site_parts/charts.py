# SPDX-License-Identifier: MIT
"""A fence of mermaid's `xychart-beta` as a picture: bars, a line over them, the values beside.

What the documents use of it is understood and nothing else: title, an x-axis of names, a y-axis with a range, `bar`, `line`.
"""
import html
import json
import re

WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 640, 300, 56, 20, 12, 52
STEPS = 5  # parts of the y-axis


class Fault(ValueError):
    pass


def read(text):
    """{"title": text, "x": (its name, names), "y": (its name, low, high), "bar": values or [], "line": likewise}."""
    found = {"title": "", "x": ("", []), "y": ("", 0.0, 0.0), "bar": [], "line": []}
    for line in text.splitlines()[1:]:
        line = line.strip()
        if not line:
            continue
        if match := re.fullmatch(r'title "([^"]*)"', line):
            found["title"] = match[1]
        elif match := re.fullmatch(r'x-axis (?:"([^"]*)" )?(\[.*\])', line):
            found["x"] = (match[1] or "", [str(name) for name in json.loads(match[2])])
        elif match := re.fullmatch(r'y-axis "([^"]*)" ([\d.]+) --> ([\d.]+)', line):
            found["y"] = (match[1], float(match[2]), float(match[3]))
        elif match := re.fullmatch(r"(bar|line) (\[.*\])", line):
            found[match[1]] = json.loads(match[2])
        else:
            raise Fault(f"a chart has a line that is not understood: {line}")
    names, (_, low, high) = found["x"][1], found["y"]
    if not names or low >= high or not (found["bar"] or found["line"]):
        raise Fault(f"the chart {found['title']!r} lacks an axis or values")
    for kind in ("bar", "line"):
        if found[kind] and len(found[kind]) != len(names):
            raise Fault(f"the chart {found['title']!r} has {len(names)} names, but {len(found[kind])} values of its {kind}")
        if any(not low <= value <= high for value in found[kind]):
            raise Fault(f"the chart {found['title']!r} has a value outside of its y-axis")
    return found


def text_at(x, y, text, kind, more=""):
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}"{more}>{html.escape(text)}</text>'


def svg(text):
    chart = read(text)
    (x_name, names), (y_name, low, high) = chart["x"], chart["y"]
    bottom = HEIGHT - BOTTOM
    slot = (WIDTH - LEFT - RIGHT) / len(names)

    def y_of(value):
        return bottom - (value - low) / (high - low) * (bottom - TOP)

    def x_of(i):
        return LEFT + slot * (i + 0.5)

    out = []
    for step in range(STEPS + 1):
        value = low + (high - low) * step / STEPS
        out.append(f'<path class="grid" d="M{LEFT} {y_of(value):.1f}H{WIDTH - RIGHT}"/>')
        out.append(text_at(LEFT - 8, y_of(value) + 4, f"{value:g}", "tick end"))
    for i, name in enumerate(names):
        out.append(text_at(x_of(i), bottom + 18, name, "tick"))
    wide = min(slot * 0.5, 70)
    for i, value in enumerate(chart["bar"]):
        out.append(f'<rect class="bar" x="{x_of(i) - wide / 2:.1f}" y="{y_of(value):.1f}" width="{wide:.1f}" '
                   f'height="{bottom - y_of(value):.1f}" rx="2"/>')
        if bottom - y_of(value) > 24:  # at its foot, where the line seldom is
            out.append(text_at(x_of(i), bottom - 8, f"{value:g}", "value"))
        else:
            out.append(text_at(x_of(i) - wide / 2 - 6, bottom - 3, f"{value:g}", "tick end"))
    if chart["line"]:
        points = " ".join(f"{x_of(i):.1f},{y_of(value):.1f}" for i, value in enumerate(chart["line"]))
        out.append(f'<polyline class="line" points="{points}"/>')
        for i, value in enumerate(chart["line"]):
            out.append(f'<circle class="point" cx="{x_of(i):.1f}" cy="{y_of(value):.1f}" r="4"/>')
            rises = chart["line"][i + 1:i + 2] > [value]
            out.append(text_at(x_of(i) + wide / 2 + 5, y_of(value) + (14 if rises else -5), f"{value:g}", "tick begin"))
    out.append(text_at((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 10, x_name, "tick"))
    out.append(text_at(14, (TOP + bottom) / 2, y_name, "tick", f' transform="rotate(-90 14 {(TOP + bottom) / 2:.1f})"'))
    return (f'<figure class="chart"><figcaption>{html.escape(chart["title"])}</figcaption>'
            f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{html.escape(chart["title"])}">{"".join(out)}</svg></figure>')
