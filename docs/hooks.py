"""Turn the formulas of each page into MathML while the site is built, so that a browser needs no script for them."""

import html
import json
import re
from typing import Any

import pypandoc
from mkdocs.exceptions import PluginError

MARKED = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)
RENDERED = re.compile(r"<math.*?</math>", re.DOTALL)
SOURCE = re.compile(r"<annotation.*?</annotation>", re.DOTALL)


def on_page_content(content: str, /, *, page: Any, **_: Any) -> str:
    """Replace what `pymdownx.arithmatex` marked as formulas, in pages and in docstrings alike."""
    marked = MARKED.findall(content)
    if not marked:
        return content
    try:
        rendered = mathml([(tag == "div", html.unescape(latex)) for tag, latex in marked])
    except RuntimeError as error:
        raise PluginError(f"{page.file.src_path}: {error}") from None
    replacements = iter(rendered)
    return MARKED.sub(lambda _: next(replacements), content)


def mathml(formulas: list[tuple[bool, str]]) -> list[str]:
    """The formulas, each given as (is it displayed, LaTeX). Raises `RuntimeError` for one that pandoc cannot read."""
    kinds = {True: {"t": "DisplayMath"}, False: {"t": "InlineMath"}}
    blocks = [{"t": "Para", "c": [{"t": "Math", "c": [kinds[display], latex]}]} for display, latex in formulas]
    document = json.dumps({"pandoc-api-version": [1, 23], "meta": {}, "blocks": blocks})
    text = pypandoc.convert_text(document, "html", format="json", extra_args=["--mathml", "--fail-if-warnings"])
    return RENDERED.findall(SOURCE.sub("", text))
