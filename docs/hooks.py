"""What the site needs beside Markdown, done while it is built, so that a browser needs no script for it.

Formulas become MathML; cells of tables get the names of their columns, which a narrow window shows in each cell; the
footer gets the version. The pages of the zoo's fields and systems are made from the results of its experiments.
"""

import html
import importlib.metadata
import json
import re
from typing import Any

import pypandoc
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File

from dini_zoo.kit import pages, registry

MARKED = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)
RENDERED = re.compile(r"<math.*?</math>", re.DOTALL)
SOURCE = re.compile(r"<annotation.*?</annotation>", re.DOTALL)
TABLE = re.compile(r"<table>.*?</table>", re.DOTALL)
HEADING = re.compile(r"<th\b[^>]*>(.*?)</th>", re.DOTALL)
ROW = re.compile(r"<tr>.*?</tr>", re.DOTALL)
TAG = re.compile(r"<[^>]*>")
#: in `report.md` and in `index.md`
ISSUES, REPOSITORY, VERSION = "<!-- issues -->", "<!-- repository -->", "<!-- version -->"


def on_config(config: Any, **_: Any) -> Any:
    """Give the footer the version, and the navigation the zoo's pages, before its last entry: a section for a field."""
    config.extra["dini_version"] = importlib.metadata.version("dini")
    sections: list[Any] = ["zoo/index.md"]
    for field in registry.fields():
        if field.systems:
            systems = [{entry.title: f"zoo/{pages.address(entry)}"} for entry in field.systems]
            sections.append({field.title: [f"zoo/{field.name}/index.md", *systems]})
    config.nav.insert(-1, {"Zoo": sections})
    return config


def on_page_markdown(markdown: str, /, *, config: Any, **_: Any) -> str:
    """Put in the version, and where the repository and its issues are: at `repo_url` of `mkdocs.yml`, if it is set."""
    if config.repo_url:
        address = config.repo_url.rstrip("/")
        issues = f"Open an issue in [the tracker]({address}/issues)."
        repository = f"The source is at [{address}]({address})."
    else:
        asked = "`git remote get-url origin` prints its address"
        issues = f"Open an issue where the repository is: in a checkout, {asked}."
        repository = f"The source is in the repository that your checkout came from: {asked}."
    for mark, text in ((ISSUES, issues), (REPOSITORY, repository), (VERSION, config.extra["dini_version"])):
        markdown = markdown.replace(mark, text)
    return markdown


def on_files(files: Any, /, *, config: Any) -> Any:
    """Add the zoo's pages and pictures to the site's files."""
    for path, content in pages.site().items():
        given = {"content": content} if isinstance(content, str) else {"abs_src_path": str(content)}
        files.append(File.generated(config, path, **given))
    return files


def on_page_content(content: str, /, *, page: Any, **_: Any) -> str:
    """Replace what `pymdownx.arithmatex` marked as formulas, in pages and in docstrings alike, and label cells."""
    marked = MARKED.findall(content)
    try:
        rendered = mathml([(tag == "div", html.unescape(latex)) for tag, latex in marked]) if marked else []
    except RuntimeError as error:
        raise PluginError(f"{page.file.src_path}: {error}") from None
    replacements = iter(rendered)
    content = MARKED.sub(lambda _: next(replacements), content)
    return TABLE.sub(lambda match: labelled(match[0]), content)


def labelled(table: str) -> str:
    """The table, with the heading of its column as `data-label` of each cell."""
    names = [html.escape(html.unescape(TAG.sub("", heading)).strip()) for heading in HEADING.findall(table)]

    def row(match: re.Match[str]) -> str:
        column = iter(names)
        return re.sub(r"<td\b", lambda _: f'<td data-label="{next(column)}"', match[0])

    return ROW.sub(row, table)


def mathml(formulas: list[tuple[bool, str]]) -> list[str]:
    """The formulas, each given as (is it displayed, LaTeX). Raises `RuntimeError` for one that pandoc cannot read."""
    kinds = {True: {"t": "DisplayMath"}, False: {"t": "InlineMath"}}
    blocks = [{"t": "Para", "c": [{"t": "Math", "c": [kinds[display], latex]}]} for display, latex in formulas]
    document = json.dumps({"pandoc-api-version": [1, 23], "meta": {}, "blocks": blocks})
    text = pypandoc.convert_text(document, "html", format="json", extra_args=["--mathml", "--fail-if-warnings"])
    return RENDERED.findall(SOURCE.sub("", text))
