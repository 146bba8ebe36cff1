"""The gallery's grid of pictures, made while the site is built from the head of each of its pages.

A page of the gallery is `docs/gallery/NAME.md`. It begins with the lines

    ---
    group: one of `GROUPS`
    summary: A sentence for the grid.
    ---
    # The title

and shows the picture `docs/gallery/NAME.png`, which `python examples/NAME.py NAME.png` draws. The zoo's systems follow.
"""

import html
import re
from pathlib import Path
from typing import Any

from dini_zoo.kit import pages, registry

FOLDER = Path(__file__).parent / "gallery"
GROUPS = [
    "Hyperparameters and bilevel problems",
    "Layers that solve",
    "Classical models",
    "Programs and control",
    "Solvers and scale",
]
#: in `gallery/index.md`
GRID = "<!-- grid -->"
#: in `index.md`
ROW = "<!-- some of the gallery -->"
SHOWN = ["lasso_path_gradient", "predictive_control", "inverse_kinematics", "kernel_svm"]
HEAD = re.compile(r"\A---\n(.*?)\n---\n+# ([^\n]+)\n", re.DOTALL)


def head(page: Path) -> dict[str, str]:
    """The title, group and summary of a page. Raises `ValueError` where it lacks one."""
    match = HEAD.match(page.read_text(encoding="utf-8"))
    given = dict(re.findall(r"^(\w+): *(.+)$", match[1], re.MULTILINE)) if match else {}
    if not match or given.get("group") not in GROUPS or "summary" not in given:
        raise ValueError(f"{page.name} must begin with its group (one of {GROUPS}), its summary and its title.")
    if ": " in given["summary"]:
        raise ValueError(f"{page.name} has a colon in its summary, which YAML reads as another key: say it without.")
    return {"title": match[2].strip(), **given}


def entries() -> list[tuple[str, dict[str, str]]]:
    """The names of the pages with their heads, in the order of the groups."""
    found = [(page.stem, head(page)) for page in sorted(FOLDER.glob("*.md")) if page.stem != "index"]
    return sorted(found, key=lambda one: (GROUPS.index(one[1]["group"]), one[1]["title"]))


def card(link: str, picture: str, title: str, summary: str) -> str:
    """A picture with its title and a sentence, all of it a link."""
    return (
        f'<a class="card" href="{link}"><img src="{picture}" alt="" loading="lazy">'
        f"<strong>{html.escape(title)}</strong>{f'<span>{html.escape(summary)}</span>' if summary else ''}</a>"
    )


def grid() -> str:
    """All pages as cards, a heading for each group; then the zoo's systems that have a picture."""
    groups: dict[str, list[str]] = {}
    for name, about in entries():
        groups.setdefault(about["group"], []).append(card(f"{name}/", f"{name}.png", about["title"], about["summary"]))
    for field in registry.fields():
        for entry in field.systems:
            if pages.picture(entry) is not None:
                where = f"../zoo/{pages.address(entry).removesuffix('.md')}/"
                shown = f"../zoo/pictures/{entry.name}.png"
                groups.setdefault(f"Zoo: {field.title}", []).append(card(where, shown, entry.title, entry.summary))
    return "\n\n".join(
        f'## {title}\n\n<div class="grid-of-cards">{"".join(made)}</div>' for title, made in groups.items()
    )


def row() -> str:
    """A few pages as cards, side by side, for the site's first page."""
    about = dict(entries())
    made = (card(f"gallery/{name}/", f"gallery/{name}.png", about[name]["title"], "") for name in SHOWN)
    return f'<div class="grid-of-cards row-of-cards">{"".join(made)}</div>'


def on_page_markdown(markdown: str, /, *, page: Any, **_: Any) -> str:
    """Put the grid where `gallery/index.md` asks for it, and a row where the site's first page does."""
    match page.file.src_uri:
        case "gallery/index.md":
            return markdown.replace(GRID, grid())
        case "index.md":
            return markdown.replace(ROW, row())
    return markdown


def on_config(config: Any, **_: Any) -> Any:
    """Give the navigation the pages of the gallery, before the API, in the order of its groups."""
    groups: dict[str, list[dict[str, str]]] = {}
    for name, about in entries():
        groups.setdefault(about["group"], []).append({about["title"]: f"gallery/{name}.md"})
    before = next(place for place, entry in enumerate(config.nav) if "API" in entry)
    config.nav.insert(before, {"Examples": ["gallery/index.md", *({title: made} for title, made in groups.items())]})
    return config
