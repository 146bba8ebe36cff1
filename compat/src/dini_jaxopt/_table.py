"""JAXopt's classes from rows of a table: what a class takes, what becomes of it in dini, and what has no effect.

A row is a call of :func:`solver_class`. Its ``fields`` are written as a signature is, without commas. What an argument
means comes from the row, or else from :data:`ARGUMENTS`, where all classes have it in common.
"""

from __future__ import annotations

import ast
import dataclasses
import textwrap
from collections import namedtuple
from typing import Any

#: what an argument means in all classes whose row says nothing else
ARGUMENTS = {
    "fun": "``fun(x, *args, **kwargs)``.",
    "value_and_grad": "Whether ``fun`` returns the value and the gradient; or a function that returns both.",
    "has_aux": "Whether the function returns a pair, of which the second is an auxiliary output.",
    "maxiter": "Limit on the number of iterations.",
    "maxls": "Limit on the number of trials of a line search.",
    "tol": "Absolute tolerance on the error, {error}.",
    "stepsize": "A number, a function of the iteration, or at most zero for a line search.",
    "acceleration": "Whether to use momentum.",
    "max_stepsize": "Longest step.",
    "verbose": "Whether to print a line for each iteration.",
    "implicit_diff": "Whether to differentiate the optimality condition (``True``) or the iterations.",
    "implicit_diff_solve": "A linear solver ``solve(matvec, b)`` for the derivative; by default dini chooses.",
    "jit": "Whether to compile; if not, the loop is Python's.",
    "unroll": "Whether loops within ``update`` are of fixed length; ``'auto'``: where iterations are differentiated.",
}
#: the end of most signatures
COMPILED = "jit=True unroll='auto'"
DIFFERENTIATED = f"implicit_diff=True implicit_diff_solve=None {COMPILED}"

#: all classes by name
TABLE: dict[str, Any] = {}


def _parsed(fields: str) -> dict[str, Any]:
    """Return names with their defaults."""
    pairs = (each.partition("=") for each in fields.split())
    return {name: ast.literal_eval(value) if equals else dataclasses.MISSING for name, equals, value in pairs}


def solver_class(
    name: str,
    base: type,
    title: str,
    fields: str = "",
    *,
    solver: str = "",
    text: str = "",
    error: str = "the norm of the gradient",
    state: str = "",
    renamed: str = "",
    ignored: str = "",
    about: dict[str, str] | None = None,
    defaults: dict[str, Any] | None = None,
    example: str = "",
    **members: Any,
) -> Any:
    """Return one of JAXopt's classes, a dataclass with a docstring.

    Parameters
    ----------
    name, base
        Its name, and the class of its family, which states the problem.
    title, text
        The first line of its docstring, and what follows.
    fields
        What it takes, with ``defaults`` for values that are not written there.
    solver
        The name of dini's solver, for which the family's ``_method`` collects the settings.
    error
        What ``tol`` is compared with.
    state
        The fields of its states, beside those that all have.
    renamed
        Pairs ``theirs:ours`` of settings of dini's solver.
    ignored
        Names of arguments without effect.
    about
        What arguments mean, where that is not what they mean elsewhere; several names may stand together.
    example
        Code with its output.
    **members
        Methods and class variables.
    """
    parsed = _parsed(fields) | (defaults or {})
    pairs = dict(pair.split(":") for pair in renamed.split())
    members |= {"solver_name": solver or name, "renamed": getattr(base, "renamed", {}) | pairs}
    if state:
        of_state = ["iter_num", *state.split(), "status", "solver_state"]
        nothing = [None] * len(of_state)
        members["state_type"] = namedtuple(f"{name}State", of_state, defaults=nothing)  # pyright: ignore[reportUntypedNamedTuple]
    given = [
        (each, Any, dataclasses.field(default=default) if default is not dataclasses.MISSING else dataclasses.field())
        for each, default in parsed.items()
    ]
    made = dataclasses.make_dataclass(name, given, bases=(base,), namespace=members, eq=False, module="dini_jaxopt")
    if state:
        # by which states are pickled
        made.state_type.__module__, made.state_type.__qualname__ = "dini_jaxopt", f"{name}.state_type"
    settings = {theirs: f"``{ours}`` of :class:`dini.{solver or name}`." for theirs, ours in pairs.items()}
    made.about = getattr(base, "about", {}) | settings | (about or {})
    words = ARGUMENTS | made.about
    names = [each.name for each in dataclasses.fields(made)]
    made.__doc__ = _docstring(title, text, names, words, ignored.split(), error, example)
    TABLE[name] = made
    return made


def _docstring(
    title: str, text: str, names: list[str], about: dict[str, str], ignored: list[str], error: str, example: str
) -> str:
    """Return a docstring with sections as NumPy has them."""
    parts = [title, textwrap.fill(" ".join(text.split()), 110)] if text else [title]
    entries, told = [], set(ignored)
    for key, words in about.items():  # several names with one meaning
        if "," in key:
            entries.append((key, words))
            told |= set(key.split(", "))
    entries = [(name, about[name]) for name in names if name not in told] + entries
    if ignored:
        entries.append((", ".join(ignored), "Taken for JAXopt's sake: no effect."))
    if entries:
        lines = [f"{name}\n    {words.replace('{error}', error)}" for name, words in entries]
        parts.append("\n".join(["Parameters\n----------", *lines]))
    if example:
        head = ">>> import dini_jaxopt as jaxopt, jax, jax.numpy as jnp"
        lines = [line for line in textwrap.dedent(example).splitlines() if line]
        parts.append("\n".join(["Examples\n--------", head, *lines]))
    return "\n\n".join(parts) + "\n"
