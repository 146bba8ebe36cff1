"""The documentation: every code block, docstring example and example script runs; every public name is described.

In a page, the blocks marked `python` run in order in one namespace. All that they print must be announced: each line of
output stands after `# ->`, at the end of the line that prints it or on lines of its own below. White space and rounding
errors do not matter.
"""

import contextlib
import doctest
import importlib
import inspect
import io
import math
import pkgutil
import re
import runpy
import tokenize
import types
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import gallery
import jax
import pytest

import dini
import dini_jaxopt

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
PACKAGES = (dini, dini_jaxopt)
MODULES = [
    name
    for each in PACKAGES
    for name in (each.__name__, *(found.name for found in pkgutil.walk_packages(each.__path__, f"{each.__name__}.")))
    if name != "dini.compat.jaxopt"  # which is dini_jaxopt
]
PUBLIC = [dini, *(value for name in dini.__all__ if isinstance(value := getattr(dini, name), types.ModuleType))]

BLOCK = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
OUTPUT = re.compile(r"# ->[ ]?(.*)$", re.MULTILINE)
NUMBER = re.compile(r"-?\d+\.?\d*(?:e[+-]?\d+)?")

#: words that readers from outside do not know in these meanings, or read twice; `docs/glossary.md` has those to use
AVOIDED = (
    "anew|astray|by and by|claims?|dear|dearest|doors?|floors?|for ever|goes? to and fro|house|in silence|in vain|"
    "knobs?|nobody|ran away|referees?|road (?:from|of)|runs? away|somebody|stands? still|to be had|told|vouch|vouches|"
    "who does not|whoever|without a word|without being asked"
)
#: of a text in lower case; not in an attribute, an option or a path
WORDS = re.compile(rf"\b(?<![.`/-])(?:{AVOIDED})\b(?![`/])")
#: what is not prose: blocks of code, code in a line, and the README's table, which is made from the zoo
NOT_PROSE = re.compile(r"^```.*?^```|`[^`\n]*`|<!-- systems.*?<!-- end of systems -->", re.DOTALL | re.MULTILINE)
#: folders whose sources use the words of the glossary as well
SOURCES = ("src/dini", "learn/src", "compat/src", "zoo/src", "examples")
#: what is legitimate there, by the beginning of a path: a paper's claim, a lower limit; a primitive of JAX
LEGITIMATE = {
    "zoo/src": {"claim", "claims", "floor"},
    "src/dini/linear/_sparsity_rules.py": {"floor"},
}
DESCRIBED = re.compile(r"^::: (\S+)$", re.MULTILINE)


def as_a_user(run):
    """Return `run()`, computed with the settings that JAX starts with, and undo what it sets itself.

    A thread of its own does not see the settings that the test's thread has entered as contexts.
    """

    def fresh():
        before = jax.config.jax_enable_x64, jax.config.jax_numpy_rank_promotion
        configure(False, "allow")
        try:
            return run()
        finally:
            configure(*before)

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(fresh).result()


def configure(x64, rank_promotion):
    jax.config.update("jax_enable_x64", x64)
    jax.config.update("jax_numpy_rank_promotion", rank_promotion)


def blocks(page):
    """The Python blocks of a page, each behind as many empty lines as bring its lines to their numbers in the page."""
    text = page.read_text(encoding="utf-8")
    return ["\n" * text.count("\n", 0, match.start(1)) + match[1] for match in BLOCK.finditer(text)]


def same(got, want):
    """Whether two texts agree but for white space and for the rounding errors of their numbers."""
    text = lambda t: re.sub(r"\s+", "", NUMBER.sub("0", t))
    numbers = [list(map(float, NUMBER.findall(t))) for t in (got, want)]
    return text(got) == text(want) and all(
        math.isclose(*pair, rel_tol=1e-5, abs_tol=1e-6) for pair in zip(*numbers, strict=True)
    )


def name_of(path):
    return str(path.relative_to(ROOT))


# what is read first; the blocks of a page belong together
@pytest.mark.by_default("README.md", "docs/index.md", "docs/jaxopt.md", "docs/quickstart.md")
@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)], ids=name_of)
def test_page(page):
    def run():
        # classes that a page defines look for their module
        module = types.ModuleType("__main__")
        for block in blocks(page):
            with contextlib.redirect_stdout(io.StringIO()) as printed:
                exec(compile(block, str(page), "exec"), module.__dict__)
                jax.effects_barrier()
            got, want = printed.getvalue(), "\n".join(OUTPUT.findall(block))
            assert same(got, want), f"{block.strip()}\n\nprinted\n{got}"

    as_a_user(run)


class Checker(doctest.OutputChecker):
    """Compares outputs up to rounding errors."""

    def check_output(self, want, got, optionflags):
        return super().check_output(want, got, optionflags) or same(got, want)


# one of each package
@pytest.mark.by_default(
    "dini.adapters._scipy",
    "dini.bilevel._problem",
    "dini.conditions._base",
    "dini.differentiation._modes",
    "dini.linear._solve",
    "dini.losses._robust",
    "dini.penalties._base",
    "dini.problems._minimize",
    "dini.sets._base",
    "dini.solvers._base",
    "dini.testing._check_gradient",
    "dini.verbs",
    "dini_jaxopt._base",
)
@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples(name):
    runner, printed = doctest.DocTestRunner(Checker()), io.StringIO()

    def run():
        for test in doctest.DocTestFinder().find(importlib.import_module(name)):
            runner.run(test, out=printed.write)

    as_a_user(run)
    assert runner.failures == 0, printed.getvalue()


# of the gallery's scripts one of the cheapest
@pytest.mark.by_default("examples/picard_iteration.py")
@pytest.mark.parametrize("script", EXAMPLES, ids=name_of)
def test_example(script):
    as_a_user(lambda: runpy.run_path(str(script), run_name="__main__"))


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"], ids=name_of)
def test_words(page):
    """No page uses a private or an ambiguous word."""
    found = avoided(NOT_PROSE.sub("", page.read_text(encoding="utf-8")))
    assert not found, f"{page.name}: {found}; say it in the words of docs/glossary.md"


def avoided(text):
    """The words in a text that no page and no source uses."""
    return sorted(set(WORDS.findall(text.lower())))


def prose(text):
    """The comments and strings of Python's text."""
    kinds = (tokenize.COMMENT, tokenize.STRING, tokenize.FSTRING_MIDDLE)
    return "\n".join(
        token.string for token in tokenize.generate_tokens(io.StringIO(text).readline) if token.type in kinds
    )


@pytest.mark.parametrize("folder", SOURCES)
def test_words_of_sources(folder):
    """No docstring, comment or message uses a private or an ambiguous word; names may."""
    found = {}
    for path in sorted((ROOT / folder).rglob("*")):
        name = name_of(path)
        if path.suffix not in (".py", ".md", ".toml", ".txt"):
            continue
        allowed = set().union(*(words for place, words in LEGITIMATE.items() if name.startswith(place)))
        text = path.read_text(encoding="utf-8")
        # names are skipped, which only a parse tells from words
        if set(avoided(text)) - allowed and (
            words := set(avoided(prose(text) if path.suffix == ".py" else text)) - allowed
        ):
            found[name] = sorted(words)
    assert not found, f"{found}; say it in the words of docs/glossary.md"


def test_gallery():
    """Each page has a head, its script and its picture, and says enough; no picture is left over."""
    entries = dict(gallery.entries())
    assert entries
    for name in entries:
        page = (gallery.FOLDER / f"{name}.md").read_text(encoding="utf-8")
        assert f"]({name}.png)" in page, f"{name} does not show its picture"
        assert (gallery.FOLDER / f"{name}.png").exists(), f"{name} has no picture"
        assert ROOT / "examples" / f"{name}.py" in EXAMPLES, f"{name} has no script"
        assert f"python examples/{name}.py {name}.png" in page, f"{name} does not say how its picture is made"
        assert len(re.sub(r"^```.*?^```", "", page, flags=re.DOTALL | re.MULTILINE).split()) > 120, f"{name} is short"
    assert {picture.stem for picture in gallery.FOLDER.glob("*.png")} == set(entries)


@pytest.mark.parametrize("module", PUBLIC, ids=lambda module: module.__name__)
def test_public_names_are_described(module):
    pages = "\n".join(page.read_text(encoding="utf-8") for page in PAGES if "api" in page.parts)
    described = {id(pkgutil.resolve_name(name)) for name in DESCRIBED.findall(pages)}
    for name in module.__all__:
        value, full = getattr(module, name), f"{module.__name__}.{name}"
        if inspect.isclass(value) or inspect.isfunction(value) or inspect.ismodule(value):
            # a dataclass without a docstring gets its signature for one
            assert value.__doc__, f"{full} has no docstring"
            assert not value.__doc__.startswith(f"{name}("), f"{full} has no docstring"
            assert id(value) in described, f"{full} is on no API page"
        else:
            assert f"`{full}`" in pages or id(value) in described, f"{full} is on no API page"
