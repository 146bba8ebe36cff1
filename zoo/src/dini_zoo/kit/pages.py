"""Pages that are made from results: the README's table, and, while the site is built, a page for each field and system.

The results are the files `zoo/results/NAME.json` and `NAME.png` of a checkout, which
`dini run NAME --save zoo/results` writes.
"""

from __future__ import annotations

import functools
import html
import json
import re
from pathlib import Path
from typing import Any

from .registry import ROOT, Entry, Field, fields
from .repetitions import ranged, seeds, summary
from .tables import Alarm

#: The checkout.
CHECKOUT = ROOT.parents[2]
README, RESULTS = CHECKOUT / "README.md", CHECKOUT / "zoo" / "results"

BEGIN, END = "<!-- systems: made by `dini pages` -->\n", "<!-- end of systems -->\n"


@functools.cache
def results(entry: Entry) -> dict[str, Any] | None:
    """What the last run that was saved found, or `None`."""
    path = RESULTS / f"{entry.name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def picture(entry: Entry) -> Path | None:
    """The picture of the last run that was saved, or `None`."""
    path = RESULTS / f"{entry.name}.png"
    return path if path.exists() else None


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _headline(entry: Entry) -> str:
    found = results(entry)
    if found is None:
        return "not run yet"
    again = found.get("repetitions")
    return f"{ranged([one['headline'] for one in again])}; seeds: {len(again)}" if again else found["headline"]


def _sentence(entry: Entry) -> str:
    text = _headline(entry)
    return f"{text[0].upper()}{text[1:]}."


# the README


def readme_table() -> str:
    """One line a system: its name, what it is, the one figure that matters."""
    lines = ["| system | what it does | result |", "| --- | --- | --- |"]
    for field in fields():
        for entry in field.systems:
            lines.append(f"| `{entry.name}` | {_cell(entry.summary)} | {_cell(_headline(entry))} |")
    return "\n".join(lines) + "\n"


def _readme(text: str) -> str:
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise ValueError(f"README.md must have the lines {BEGIN.strip()!r} and {END.strip()!r}, each once.")
    before, _, rest = text.partition(BEGIN)
    return f"{before}{BEGIN}\n{readme_table()}\n{END}{rest.partition(END)[2]}"


def outdated() -> list[str]:
    """What is not as the results are, a sentence each."""
    text = README.read_text(encoding="utf-8")
    return [] if _readme(text) == text else ["README.md: the table of systems"]


def write() -> None:
    """Make the README's table again."""
    README.write_text(_readme(README.read_text(encoding="utf-8")), encoding="utf-8")


# the site


def figure_table(entry: Entry) -> str:
    """The figures beside the references, as Markdown."""
    found = results(entry)
    if found is None:
        return f"Not run yet: `dini run {entry.name} --save zoo/results`."
    names = [name for name in ("reference", "paper", "bar") if any(one[name] for one in found["figures"])]
    again = found.get("repetitions", [])
    others, column = summary(again), [f"seeds {seeds(again)}"] if again else []
    lines = [
        "| quantity | " + " | ".join(["ours", *column, *names, "verdict"]) + " |",
        "| :-- " + "| --: " * (len(names) + 1 + len(column)) + "| :-- |",
    ]
    for one in found["figures"]:
        verdict = f"**{one['verdict']}**" if one["verdict"] == "MISSED" else one["verdict"]
        spread, missed = others.get(one["quantity"], ("", ""))
        verdict = "; ".join(filter(None, (verdict, f"**{missed}**" if isinstance(missed, Alarm) else "")))
        cells = [one["quantity"], one["ours"], *([spread] if again else []), *(one[name] for name in names), verdict]
        lines.append("| " + " | ".join(map(_cell, cells)) + " |")
    made = found["versions"]
    repeated = f" and `dini repeat {entry.name}`" if again else ""
    lines += [
        "",
        f"Made by `dini run {entry.name}` in {_seconds(found)}{repeated}, with dini {made['dini']} and "
        f"JAX {made['jax']}. "
        "Reference: the specification's figure, made with other code.",
    ]
    return "\n".join(lines)


def _seconds(found: dict[str, Any]) -> str:
    """What a run took, and what of it is the time of parts that it remembered from earlier ones."""
    text, earlier = f"{found['seconds']:.0f} s", found.get("remembered")
    if earlier is None:  # a record from before these were counted
        return f"{text} (not counting trainings that it may have remembered)"
    return f"{text} ({', '.join(earlier)}: {sum(earlier.values()):.0f} s, in an earlier run)" if earlier else text


def _shown(entry: Entry) -> str:
    """The picture, as a link to itself, on a page of a field or of a system."""
    if picture(entry) is None:
        return ""
    name = html.escape(entry.title, quote=True)
    return f"[![{name}: picture of the experiment](../pictures/{entry.name}.png)](../pictures/{entry.name}.png)"


def anchor(entry: Entry) -> str:
    """The name of a system's page, and of its part of the field's page."""
    return re.sub(r"[^a-z0-9]+", "-", entry.name.lower()).strip("-")


def address(entry: Entry) -> str:
    """The path of a system's page within the zoo's folder."""
    return f"{entry.field}/{anchor(entry)}.md"


def overview() -> str:
    """All fields, with a table of their systems and results."""
    lines = [
        "# Zoo",
        "",
        "Published methods built on dini. Each has a page: the method, an example, and an experiment that compares its "
        "figures with those of the paper. `uv run dini list` names all systems in a checkout, and "
        "`uv run dini run NAME` repeats an experiment.",
        "",
    ]
    for field in fields():
        if not field.systems:
            continue
        lines += [f"## [{field.title}]({field.name}/index.md)", ""]
        lines += ["| system | what it does | result |", "| --- | --- | --- |"]
        for entry in field.systems:
            name = f"[{_cell(entry.title)}]({address(entry)})"
            lines.append(f"| {name} | {_cell(entry.summary)} | {_cell(_headline(entry))} |")
        lines.append("")
    return "\n".join(lines)


def field_page(field: Field) -> str:
    """A field: its introduction, and of each system a summary, its result and its picture, with a link to its page."""
    parts = [field.introduction.strip()]
    for entry in field.systems:
        parts += [
            f"## [{entry.title}]({anchor(entry)}.md) {{ #{anchor(entry)} }}",
            f"{entry.summary} *{entry.paper}*",
            _sentence(entry),
            _shown(entry),
            f"[Method, example and figures]({anchor(entry)}.md)",
        ]
    return "\n\n".join(part.strip() for part in parts if part) + "\n"


def system_page(entry: Entry) -> str:
    """A system: its result and picture, the method with an example, its figures and its command."""
    parts = [
        f"# {entry.title}",
        f"{entry.summary} *{entry.paper}*",
        f"**Result.** {_sentence(entry)}",
        _shown(entry),
        "## The method { #method }",
        entry.page,
        "## Figures of the experiment { #figures }",
        figure_table(entry),
        "## Run it { #run }",
        f"```console\n$ uv run dini run {entry.name}\n```",
    ]
    return "\n\n".join(part.strip() for part in parts if part) + "\n"


def site() -> dict[str, str | Path]:
    """Pages and pictures of the site by their paths: text for a page, a path for a picture."""
    found: dict[str, str | Path] = {"zoo/index.md": overview()}
    for field in fields():
        if field.systems:
            found[f"zoo/{field.name}/index.md"] = field_page(field)
        for entry in field.systems:
            found[f"zoo/{address(entry)}"] = system_page(entry)
            if (path := picture(entry)) is not None:
                found[f"zoo/pictures/{entry.name}.png"] = path
    return found
