"""Examples of public functions, changed in one argument at a time: what comes back must be refused, marked, or right.

The examples are those of docstrings and of the system's page, as they call the functions of the system and of its
field. `changes` makes of one argument what a caller may give by mistake; `verdict` runs a function with it.
"""

import contextlib
import dataclasses
import doctest
import functools
import importlib
import inspect
import io
import pkgutil
import re
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from dini_zoo.kit import enforcing
from dini_zoo.kit.hook import LEFT_OUT

#: An example that takes longer, in seconds, is not changed.
LONGEST = 3.0


@dataclasses.dataclass
class Example:
    """One call."""

    name: str
    ready: Any
    args: tuple
    kwargs: dict
    size: int

    def call(self, args: tuple, kwargs: dict) -> Any:
        """As a user's would be: arguments are looked at, then the function is called."""
        function = self.ready.function
        if function.__name__ == "__init__":
            return type(args[0])(*args[1:], **kwargs)
        return self.ready.call(function, args, kwargs)


def _size(tree: Any) -> int:
    return sum(np.size(leaf) for leaf in jax.tree.leaves(tree) if hasattr(leaf, "shape"))


def _copied(tree: Any) -> Any:
    """Before the example goes on with it."""
    return jax.tree.map(lambda leaf: leaf.copy() if isinstance(leaf, np.ndarray) else leaf, tree)


def _of_its_own(function: Callable[..., Any], args: tuple) -> bool:
    """Whether a constructor is that of the object's class, and not of one that it inherits from."""
    made = function.__name__ == "__init__"
    return not made or inspect.unwrap(type(args[0]).__init__) is inspect.unwrap(function)


@contextlib.contextmanager
def recorded(prefix: str, found: dict[str, Example]) -> Iterator[None]:
    """Keep the smallest call of each function of a field."""
    old = enforcing._Arguments.__call__

    def call(self, args, kwargs):
        function = self.function
        module, name = getattr(function, "__module__", ""), function.__qualname__
        leaves = jax.tree.leaves((args, kwargs))
        if (
            (module or "").startswith(prefix)
            and "<locals>" not in name
            and function.__name__ != "__check_init__"
            and not any(isinstance(leaf, jax.core.Tracer) for leaf in leaves)
            and _of_its_own(function, args)
        ):
            short, size = f"{module.rpartition('.')[2]}.{name}", _size((args, kwargs))
            if short not in found or size < found[short].size:
                # what is being made is to be looked at when it is ready
                first = args[:1] if function.__name__ == "__init__" else _copied(args[:1])
                found[short] = Example(short, self, (*first, *_copied(args[1:])), _copied(kwargs), size)
        return old(self, args, kwargs)

    enforcing._Arguments.__call__ = call
    try:
        yield
    finally:
        enforcing._Arguments.__call__ = old


def examples(entry: Any, *, page: bool = True) -> dict[str, Example]:
    """Of a system: calls of its functions, and of those of its field that these call."""
    package = importlib.import_module(entry.package)
    field = entry.package.rpartition(".")[0]
    modules = [package]
    for one in pkgutil.iter_modules(package.__path__):
        if one.name not in LEFT_OUT:
            modules.append(importlib.import_module(f"{entry.package}.{one.name}"))
    names = tuple(getattr(package, "__all__", ()))
    public = {id(getattr(package, name)) for name in names}
    of_field = {
        value.__module__
        for name in getattr(package, "__all__", ())
        if hasattr(value := getattr(package, name), "__module__") and value.__module__.startswith(field)
    }
    modules += [importlib.import_module(name) for name in sorted(of_field - {one.__name__ for one in modules})]
    found: dict[str, Example] = {}
    with recorded(field, found), jax.enable_x64(False), contextlib.redirect_stdout(io.StringIO()):
        runner = doctest.DocTestRunner(verbose=False)
        for module in modules:
            mine = module.__name__.startswith(entry.package)
            for test in doctest.DocTestFinder(exclude_empty=True).find(module):
                value = vars(module).get(test.name.rpartition(".")[2])
                if test.examples and (mine or id(value) in public):
                    runner.run(test)
        if page:
            code = "\n".join(re.findall(r"^```python\n(.*?)^```", entry.page, re.DOTALL | re.MULTILINE))
            with contextlib.suppress(Exception):
                exec(compile(code, entry.name, "exec"), {"__name__": "page"})
    # of the system's own functions those that it names, if it names any; of its field's all that are called
    own = lambda example: example.ready.function.__module__.startswith(entry.package)
    called = lambda example: example.ready.function.__qualname__.partition(".")[0]
    return {name: one for name, one in found.items() if not names or not own(one) or called(one) in names}


# changes


@dataclasses.dataclass
class Change:
    """An argument in the place of another."""

    argument: str
    kind: str
    args: tuple
    kwargs: dict
    same: tuple | None = None
    """The arguments whose result this one must have."""
    traced: tuple[Any, Callable[[Any], tuple[tuple, dict]]] | None = None
    """A value that may be wrong, and what puts it in its place: to be refused, or marked, where it is traced."""


def _numbers(leaf: Any) -> bool:
    return hasattr(leaf, "shape") and hasattr(leaf, "dtype") and not jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _of_array(x: Any) -> Iterator[tuple[str, Any]]:
    lib = np if isinstance(x, np.ndarray) else jnp
    floating, whole = jnp.issubdtype(x.dtype, jnp.floating), jnp.issubdtype(x.dtype, jnp.integer)
    yield "axis more", x[..., None]
    if x.ndim:
        yield "axis less", x[0] if len(x) else x.reshape(-1)[:0].sum()
        yield "longer", lib.concatenate([x, x[-1:]])
        yield "empty", x[:0]
    if x.ndim == 2 and x.shape[0] != x.shape[1]:
        yield "transposed", x.T
    if floating and x.size:
        flat = lib.reshape(x, (-1,))
        bad = flat.at[0].set(jnp.nan) if lib is jnp else np.concatenate([[np.nan], flat[1:]]).astype(x.dtype)
        yield "NaN", lib.reshape(bad, x.shape)
    if whole and x.size and not jnp.issubdtype(x.dtype, jnp.unsignedinteger):
        yield "index below", lib.full_like(x, -1)
        yield "index beyond", lib.full_like(x, 1_000_000)


def _of_number(x: Any, fractions: bool) -> Iterator[tuple[str, Any]]:
    """Of a number, which may be a whole one where the annotation says `float`."""
    if isinstance(x, bool):
        return
    if isinstance(x, int) and not fractions:
        yield "negative", -3
        yield "fraction", x + 0.5
    else:
        yield "NaN", float("nan")
        if x > 0:
            yield "negative", -x - 1.0
            yield "infinite", float("inf")


def _swapped(structure: Any, leaves: list[Any], i: int, new: Any) -> Any:
    return structure.unflatten([*leaves[:i], new, *leaves[i + 1 :]])


def _of_fractions(example: Example, name: str) -> bool:
    """Whether the annotation of an argument says `float`."""
    return bool(re.search(r"\bfloat\b", str(getattr(example.ready.function, "__annotations__", {}).get(name))))


def changes(example: Example) -> Iterator[Change]:
    """All of them: arguments that are arrays, trees of plain containers of arrays, and numbers."""
    given = [(i, str(i), value) for i, value in enumerate(example.args)] + [
        (k, k, v) for k, v in example.kwargs.items()
    ]
    names = example.ready.checks[2]
    for key, name, value in given:
        name = names[key] if isinstance(key, int) and key < len(names) else name
        # a state is what a method's own functions made
        if name in ("self", "cls", "key", "state"):
            continue

        def put(new: Any, key: Any = key) -> tuple[tuple, dict]:
            if isinstance(key, int):
                return (*example.args[:key], new, *example.args[key + 1 :]), example.kwargs
            return example.args, {**example.kwargs, key: new}

        if isinstance(value, int | float):
            for kind, new in _of_number(value, isinstance(value, float) or _of_fractions(example, name)):
                told = (new, put) if isinstance(value, float) else None
                yield Change(name, kind, *put(new), traced=told)
            continue
        if isinstance(value, eqx.Module) or callable(value) or isinstance(value, str) or value is None:
            continue
        # what is in a module was looked at when that was made
        leaves, structure = jax.tree.flatten(value, is_leaf=lambda one: isinstance(one, eqx.Module))
        for i, leaf in enumerate(leaves):
            if not _numbers(leaf):
                continue
            place = name if len(leaves) == 1 else f"{name}[{i}]"
            swap = functools.partial(_swapped, structure, leaves, i)
            for kind, new in _of_array(leaf):
                told = (new, lambda new, put=put, swap=swap: put(swap(new))) if kind.startswith("index") else None
                yield Change(place, kind, *put(swap(new)), traced=told)
            if jnp.issubdtype(leaf.dtype, jnp.floating):
                rounded, lib = np.rint(leaf), np if isinstance(leaf, np.ndarray) else jnp
                if np.all(np.isfinite(rounded)):
                    yield Change(
                        place,
                        "integers",
                        *put(swap(lib.asarray(rounded, int))),
                        same=put(swap(lib.asarray(rounded, leaf.dtype))),
                    )


# verdicts

ERRORS = (Exception,)
MARKED = ("NaN", "index below", "index beyond", "negative", "infinite", "empty")


def _parts(tree: Any) -> Iterator[Any]:
    """The leaves of a result, and those of an object that is no tree to JAX."""
    for leaf in jax.tree.leaves(tree):
        if hasattr(leaf, "__dict__") and not _numbers(leaf):
            yield from jax.tree.leaves(vars(leaf))
        else:
            yield leaf


def _arrays(tree: Any) -> list[Any]:
    """All of real numbers; of plain numbers, too."""
    leaves = [np.asarray(leaf) if isinstance(leaf, int | float) else leaf for leaf in _parts(tree)]
    return [one for one in leaves if _numbers(one) and not jnp.issubdtype(one.dtype, jnp.complexfloating)]


def _floating(tree: Any) -> list[np.ndarray]:
    return [np.asarray(one, float) for one in _arrays(tree) if jnp.issubdtype(one.dtype, jnp.inexact)]


def _marked(found: Any, usual: Any) -> bool:
    """Whether something is not finite that was before, or an index is none."""
    bad = lambda tree: sum(int((~np.isfinite(leaf)).sum()) for leaf in _floating(tree))
    below = lambda tree: sum(
        int((np.asarray(leaf) < 0).sum()) for leaf in _arrays(tree) if jnp.issubdtype(leaf.dtype, jnp.signedinteger)
    )
    return bad(found) > bad(usual) or below(found) > below(usual)


def _equal(found: Any, other: Any) -> bool:
    one, two = ([np.asarray(leaf, float) for leaf in _arrays(tree)] for tree in (found, other))
    return len(one) == len(two) and all(
        a.shape == b.shape and np.allclose(a, b, rtol=1e-4, atol=1e-5, equal_nan=True)
        for a, b in zip(one, two, strict=True)
    )


def _declared(example: Example, change: Change) -> bool:
    """Whether the annotations say that such a shape is right: of an argument that has one."""
    check = example.ready.checks[1].get(change.argument)
    if check is None or change.kind not in ("axis more", "axis less", "longer", "empty", "transposed"):
        return False
    try:
        example.ready(change.args, change.kwargs)
    except (ValueError, TypeError):
        return False
    return change.kind != "empty"


def verdict(example: Example, change: Change, usual: Any) -> str:
    """`refused`, `marked`, `same`, `declared` or `accepted`."""
    if _declared(example, change):
        return "declared"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = jax.block_until_ready(example.call(change.args, change.kwargs))
            if change.same is not None:
                return "same" if _equal(found, example.call(*change.same)) else "accepted"
    except ERRORS:
        return "refused"
    if change.kind in MARKED and _marked(found, usual):
        return "marked"
    if change.kind == "empty" and not any(map(np.size, _floating(found))):
        # nothing of nothing
        return "declared"
    return "accepted"


def traced_verdict(example: Example, change: Change) -> str:
    """Of a value that is refused where it is known: `marked` where it is traced, else `accepted`.

    It is `refused` where the function needs to know it, and where it makes nothing that could be marked.
    """
    value, put = change.traced
    arrays = lambda found: [leaf for leaf in _parts(found) if hasattr(leaf, "dtype") and _numbers(leaf)]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = jax.vmap(lambda value: arrays(example.call(*put(value))))(jnp.asarray(value)[None])
    except ERRORS:
        return "refused"
    return "marked" if not _floating(found) or _marked(found, []) else "accepted"


def examined(
    found: dict[str, Example], only: Callable[[Change], bool] = lambda change: True
) -> Iterator[tuple[str, str]]:
    """Of each change what came of it, as `function argument: kind`."""
    for name, example in sorted(found.items()):
        begun = time.process_time()
        try:
            usual = jax.block_until_ready(example.call(example.args, example.kwargs))
        except ERRORS:
            continue
        if time.process_time() - begun > LONGEST:
            yield f"{name}", "costly"
            continue
        for change in changes(example):
            if not only(change):
                continue
            found = verdict(example, change, usual)
            yield f"{name} {change.argument}: {change.kind}", found
            if found == "refused" and change.traced is not None:
                yield f"{name} {change.argument}: {change.kind}, traced", traced_verdict(example, change)
