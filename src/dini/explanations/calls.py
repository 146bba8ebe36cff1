"""Calls that have failed because of what they were given: which argument it was, and what to write."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from .names import scipy_method

_NUMBERS = jax.Array | np.ndarray | np.generic | bool | int | float | complex


def no_problem(problem: Any) -> TypeError:
    """Return the error for a problem that is none."""
    return TypeError(
        "problem must be a Minimize, LeastSquares, Root, FixedPoint, VariationalInequality, Composite, "
        f"QuadraticProgram, ConeProgram or NonlinearProgram: given {problem!r}. For a plain function use "
        "dini.minimize, dini.least_squares, dini.root, dini.fixed_point or dini.variational_inequality."
    )


def no_solver(solver: Any, *, from_optax: bool) -> TypeError:
    """Return the error for a solver that is none; it may be a transformation of optax."""
    if from_optax or (callable(getattr(solver, "init", None)) and callable(getattr(solver, "update", None))):
        return TypeError(
            f"solver must be an object of dini.solvers: given {solver!r}. For a transformation of optax, opt, write "
            "solver=dini.OptaxSolver(opt)."
        )
    given, write = repr(solver), scipy_method(solver)
    if isinstance(solver, type):
        given, write = f"the class {solver.__name__}", f"solver=dini.{solver.__name__}()"
    return TypeError(
        "solver must be an object of dini.solvers, such as dini.LBFGS(), or a function (problem, init, *args) -> x: "
        f"given {given}." + (f" Write {write}." if write else "")
    )


def mesh(error: Exception) -> TypeError | None:
    """Return how to call a solve where JAX refuses how its arrays are split: in ``shard_map``, over explicit axes."""
    text = str(error)
    if re.search(r"\bpvary\b|\bvma\b|manual ax", text):
        return TypeError(
            "A solve inside jax.shard_map needs shard_map(..., check_vma=False): its loops start from values that are "
            "equal on all devices and continue with values that differ, which JAX's check rejects. If fun contains a "
            "collective, such as psum, leave shard_map out: a solve of sharded arrays under jit needs no change."
        )
    if type(error).__name__ == "ShardingTypeError" or re.search(r"AxisType.Explicit|Resource axis|\d@\w+[,\]]", text):
        return TypeError(
            "Only the data of an objective may be sharded over explicit axes of a mesh, not the unknown, the residuals "
            "or the axis of a batch: JAX would need the sharding of each operation's result. Make the axes automatic, "
            "jax.make_mesh(shape, names, axis_types=(jax.sharding.AxisType.Auto,)): then the same program runs."
        )
    return None


def misplaced(error: Exception, init: Any, solvers: list[Any]) -> TypeError | None:
    """Return the error for a function in place of the starting point, or a solver in that of an argument."""
    if callable(init) and jax.tree_util.treedef_is_leaf(jax.tree.structure(init)):
        return TypeError(
            f"init must be a starting point: given {init!r}. The function comes first: dini.minimize(fun, x0, *args)."
        )
    if solvers and "positional argument" in str(error):
        return TypeError(
            f"A solver is passed by keyword, dini.minimize(fun, x0, *args, solver={solvers[0].name}()): given one as "
            "the starting point or as an argument of the function."
        )
    return None


def untraceable(init: Any, args: Any, name: str) -> TypeError | None:
    """Return the error for a leaf that JAX cannot trace, in place of JAX's, which does not name the argument."""
    remedies = {
        "init": "Leave out of the unknown what is not an array (equinox.partition does this for a module)",
        name: "Bind other values to the function, for example with functools.partial",
    }
    for what, given in {"init": init, name: args}.items():
        for path, leaf in jax.tree_util.tree_leaves_with_path(given):
            if not isinstance(leaf, _NUMBERS):
                where = f"{what}{jax.tree_util.keystr(path)}"
                return TypeError(f"{where} must be an array or a number: given {leaf!r}. {remedies[what]}.")
    return None


def numbers_in_a_list(error: Exception, init: Any) -> Exception | None:
    """Return that a list of numbers is a tree of unknowns, which may have caused an error."""
    if not (isinstance(init, list | tuple) and init and all(isinstance(leaf, int | float) for leaf in init)):
        return None
    kind = type(init).__name__
    return (ValueError if isinstance(error, ValueError) else TypeError)(
        f"The starting point is a {kind}, which JAX reads as a tree of {len(init)} unknowns. For a vector write "
        f"jnp.array({[float(leaf) for leaf in init]}). The error with the {kind}: {error}"
    )


def linear_composite(
    error: Exception, outer: Callable[..., Any], matrix: Callable[..., Any], x: Any, args: tuple[Any, ...]
) -> TypeError | None:
    """Return what the functions of a ``LinearComposite`` are called with, where that is not what they take."""
    count = f"{len(args)} argument{'s' * (len(args) != 1)} of the solve"
    if not _fits(outer, (x, x, *args)):
        return TypeError(
            f"LinearComposite calls its outer as h(z, x, *args), with z = A.T @ x, the unknown x and the "
            f"{count}: {error}."
        )
    if not _fits(matrix, args):
        return TypeError(
            f"LinearComposite calls its matrix as matrix(*args), with the {count} and without the unknown: {error}."
        )
    return None


def _fits(fun: Callable[..., Any], given: tuple[Any, ...]) -> bool:
    """Return whether a function can be called with so many arguments, as far as that is known."""
    try:
        inspect.signature(fun).bind(*given)
    except TypeError:
        return False
    except ValueError:  # a function without a signature
        return True
    return True


def not_linear(matvec: Callable[[Any], Any], b: Any, name: str) -> TypeError | None:
    """Return the error for a map that is not linear; an error of the map's own is raised here again."""
    jax.eval_shape(matvec, b)
    try:
        jax.eval_shape(lambda v: jax.linear_transpose(matvec, v)(v), b)
    except (AssertionError, NotImplementedError):
        return TypeError(
            f"matvec of {name} must be linear in its argument and made of operations that JAX can transpose: it is "
            "not. For a nonlinear equation use dini.root; move terms that do not depend on the unknown to the "
            "right-hand side b."
        )
    return None
