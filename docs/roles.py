"""What the site needs to read the source: reStructuredText roles as Markdown, and which classes are dataclasses."""

import re
import textwrap
from typing import Any

import griffe

MATH = re.compile(r":math:`([^`]+)`")
MATH_BLOCK = re.compile(r"^([ \t]*)\.\. math::[ \t]*(.*(?:\n(?:\1[ \t]+\S.*|[ \t]*(?=\n\1[ \t]+\S)))*)", re.MULTILINE)
# An example in running text; a section "Examples" needs no help.
EXAMPLE = re.compile(r"^([ \t]*)>>> .*(?:\n\1\S.*)*", re.MULTILINE)
SECTION = re.compile(r"^([ \t]*)Examples\n\1--------\n", re.MULTILINE)
REFERENCE = re.compile(r":(?:attr|class|data|exc|func|meth|mod|obj):`(~?)([\w.]+)`")


class Roles(griffe.Extension):
    """Rewrites every docstring of a package once the package is loaded, so that its names can be looked up."""

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        """Rewrite the docstrings of `pkg`."""
        self._rewrite(pkg)

    def _rewrite(self, obj: griffe.Object) -> None:
        if obj.docstring:
            obj.docstring.value = markdown(obj.docstring.value, obj)
        for member in obj.members.values():
            if isinstance(member, griffe.Object):
                self._rewrite(member)


class Records(griffe.Extension):
    """Tells the built-in extension for dataclasses that ``@record`` and ``@solver`` make them: pages show the fields.

    It reads the source without running it, and `typing.dataclass_transform` means nothing to it.
    """

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        """Mark the dataclasses of `pkg`; the built-in extension, which comes last, writes their constructors."""
        self._mark(pkg)

    def _mark(self, obj: griffe.Object) -> None:
        if isinstance(obj, griffe.Class):
            for decorator in obj.decorators[:]:
                called = decorator.value.canonical_path if isinstance(decorator.value, griffe.Expr) else ""
                if called.rsplit(".", 1)[-1] in {"record", "solver"} and "init=False" not in str(decorator.value):
                    dataclass = griffe.ExprName("dataclasses.dataclass")
                    obj.decorators.append(griffe.Decorator(dataclass, lineno=decorator.lineno, endlineno=None))
        for member in obj.members.values():
            if isinstance(member, griffe.Object):
                self._mark(member)


def markdown(text: str, obj: griffe.Object) -> str:
    """`text`, the docstring of `obj`, with `:math:` as LaTeX between its brackets and references as links."""

    def block(match: re.Match[str]) -> str:
        indent, formula = match[1], textwrap.dedent(match[2]).strip()
        return textwrap.indent(f"$$\n{formula}\n$$", indent)

    def reference(match: re.Match[str]) -> str:
        shortened, name = match[1], match[2]
        try:
            target = obj.resolve(name)
        except griffe.NameResolutionError:
            target = name
        shown = name.rsplit(".", 1)[-1] if shortened else name
        # Optional: a name that no page describes stays plain code.
        return f'<autoref optional identifier="{target}"><code>{shown}</code></autoref>'

    def example(match: re.Match[str]) -> str:
        return f"{match[1]}```pycon\n{match[0]}\n{match[1]}```"

    section = SECTION.search(text)
    end = section.start() if section else len(text)
    text = EXAMPLE.sub(example, text[:end]) + text[end:]
    text = MATH_BLOCK.sub(block, text)
    text = MATH.sub(lambda match: rf"\({match[1]}\)", text)
    return REFERENCE.sub(reference, text)
