"""The names of dini that are used here are public: of imports and attributes by the syntax, of states at run time."""

import ast
import importlib
import inspect
import pkgutil
import sys
import types
from pathlib import Path

import jax
import jax.numpy as jnp
import optax
import pytest

import dini
import dini_jaxopt as jaxopt

SOURCE = Path(jaxopt.__file__).parent
FILES = sorted(SOURCE.glob("*.py"))
TREES = {path: ast.parse(path.read_text()) for path in FILES}
#: what named tuples have
TUPLES = {"_fields", "_replace"}
each_file = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)


def public(module, name):
    """Return what a public name of a module of dini is."""
    assert name in module.__all__, f"{module.__name__}.{name} is not public"
    return getattr(module, name)


def of_dini(tree):
    """Return the names that a file takes from dini, with what they are."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                top, *rest = alias.name.split(".")
                assert top != "dini" or not rest, f"line {node.lineno}: write from dini import {rest}"
                if top == "dini":
                    found[alias.asname or "dini"] = dini
        if isinstance(node, ast.ImportFrom) and not node.level and node.module.split(".")[0] == "dini":
            module = dini
            for part in node.module.split(".")[1:]:
                module = public(module, part)
            found |= {alias.asname or alias.name: public(module, alias.name) for alias in node.names}
    return found


@each_file
def test_imports_and_attributes_of_modules_are_public(path):
    known = of_dini(TREES[path])
    for node in ast.walk(TREES[path]):
        chain, base = [], node
        while isinstance(base, ast.Attribute):
            chain.append(base.attr)
            base = base.value
        if chain and isinstance(base, ast.Name) and base.id in known:
            target = known[base.id]
            for name in reversed(chain):
                if not isinstance(target, types.ModuleType):
                    break
                target = public(target, name)


@each_file
def test_private_attributes_are_our_own(path):
    """What begins with an underscore is asked of nothing but classes that stand here."""
    defined = {
        name
        for tree in TREES.values()
        for node in ast.walk(tree)
        for name in (
            [node.name]
            if isinstance(node, ast.FunctionDef)
            else [target.attr for target in node.targets if isinstance(target, ast.Attribute)]
            if isinstance(node, ast.Assign)
            else []
        )
    }
    for node in ast.walk(TREES[path]):
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.endswith("__"):
            assert node.attr in defined | TUPLES, f"{path.name}, line {node.lineno}: {ast.unparse(node)}"


def test_imports_have_no_circle():
    """Also of imports within functions."""
    needs = {
        path.stem: {
            name
            for node in ast.walk(TREES[path])
            if isinstance(node, ast.ImportFrom) and node.level
            for name in ([node.module] if node.module else [alias.name for alias in node.names])
        }
        for path in FILES
    }
    left = dict(needs)
    while ready := [name for name, others in left.items() if not others & set(left)]:
        for name in ready:
            del left[name]
    assert not left, {name: others & set(left) for name, others in left.items()}


def test_nothing_private_of_dinis_is_overridden():
    classes = {
        value
        for path in FILES
        for value in vars(importlib.import_module(f"dini_jaxopt.{path.stem}".removesuffix(".__init__"))).values()
        if inspect.isclass(value) and value.__module__.startswith("dini_jaxopt")
    }
    ours = [(each, base) for each in classes for base in each.__mro__ if base.__module__.startswith("dini.")]
    assert ours
    for each, base in ours:
        private = {name for name in vars(each) if name.startswith("_") and not name.endswith("__")}
        assert not private & set(vars(base)), (
            f"{each.__name__} overrides {private & set(vars(base))} of {base.__name__}"
        )


@each_file
def test_files_are_short_and_products_exact(path):
    """Products are in full precision, and no number is taken out of a packed state by its place."""
    assert len(path.read_text().splitlines()) <= 500
    for node in ast.walk(TREES[path]):
        assert not (isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult)), f"line {node.lineno}"
        if isinstance(node, ast.Attribute) and getattr(node.value, "id", "") in ("jnp", "lax"):
            assert node.attr not in {"dot", "vdot", "tensordot", "einsum", "matmul", "inner", "dot_general"}
        if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Tuple):
            assert not any(isinstance(part, ast.Constant) and type(part.value) is int for part in node.slice.elts)


def fun(x, a=1.0):
    return jnp.sum(jnp.cosh(x - a))


def residuals(x):
    return jnp.concatenate([x - 1.0, x**2])


START = jnp.array([0.3, -0.2])
BOX = (-jnp.ones(2), jnp.ones(2))
PROGRAM = (jnp.eye(2), START), jnp.eye(2), BOX
#: solvers with what comes after the point
SOLVERS = {
    "GradientDescent": (lambda: jaxopt.GradientDescent(fun), ()),
    "GradientDescent-plain": (lambda: jaxopt.GradientDescent(fun, acceleration=False), ()),
    "ProximalGradient": (lambda: jaxopt.ProximalGradient(fun, jaxopt.prox.prox_lasso), (0.1,)),
    "LBFGS": (lambda: jaxopt.LBFGS(fun), ()),
    "LBFGS-fixed": (lambda: jaxopt.LBFGS(fun, stepsize=0.1), ()),
    "BFGS": (lambda: jaxopt.BFGS(fun), ()),
    "NonlinearCG": (lambda: jaxopt.NonlinearCG(fun), ()),
    "LBFGSB": (lambda: jaxopt.LBFGSB(fun), (BOX,)),
    "ArmijoSGD": (lambda: jaxopt.ArmijoSGD(fun), ()),
    "PolyakSGD": (lambda: jaxopt.PolyakSGD(fun), ()),
    "OptaxSolver": (lambda: jaxopt.OptaxSolver(fun, optax.adam(0.1)), ()),
    "GaussNewton": (lambda: jaxopt.GaussNewton(residuals), ()),
    "LevenbergMarquardt": (lambda: jaxopt.LevenbergMarquardt(residuals), ()),
    "FixedPointIteration": (lambda: jaxopt.FixedPointIteration(jnp.cos), ()),
    "AndersonAcceleration": (lambda: jaxopt.AndersonAcceleration(jnp.cos), ()),
    "AndersonWrapper": (lambda: jaxopt.AndersonWrapper(jaxopt.GradientDescent(fun, stepsize=0.1)), ()),
    "Broyden": (lambda: jaxopt.Broyden(lambda x: jnp.cos(x) - x), ()),
    "Bisection": (lambda: jaxopt.Bisection(lambda x: jnp.cos(x) - x, -2.0, 2.0, check_bracket=False), ()),
    "BlockCoordinateDescent": (
        lambda: jaxopt.BlockCoordinateDescent(jaxopt.objective.least_squares, jaxopt.prox.prox_lasso),
        (0.1, (jnp.ones((3, 2)), jnp.ones(3))),
    ),
    "BoxCDQP": (jaxopt.BoxCDQP, ((jnp.eye(2), START), BOX)),
    "BoxOSQP": (jaxopt.BoxOSQP, PROGRAM),
}


@pytest.fixture
def guarded(monkeypatch):
    """Let a field of a state of dini's solvers, but for those of the contract, be read by dini alone."""
    seen = []

    def guard(place, name):
        def read(state):
            caller = sys._getframe(1).f_globals.get("__name__", "")
            if caller.split(".")[0] == "dini_jaxopt":
                seen.append(f"{caller} reads {type(state).__module__}.{type(state).__name__}.{name}")
            return tuple.__getitem__(state, place)

        return property(read)

    for module in pkgutil.walk_packages(dini.solvers.__path__, "dini.solvers."):
        for value in vars(importlib.import_module(module.name)).values():
            if inspect.isclass(value) and issubclass(value, tuple) and value.__module__ == module.name:
                for place, name in enumerate(value._fields):
                    if name not in ("error", "status", "scales"):
                        monkeypatch.setattr(value, name, guard(place, name))
    return seen


def test_states_of_dinis_solvers_are_read_through_readings(guarded):
    """Traced, not run: whoever is asked for a field is asked in every program."""
    for name, (make, given) in SOLVERS.items():
        solver = make()

        def steps(x, solver=solver, given=given, name=name):
            x = solver.init_params(x, *given) if name == "BoxOSQP" else x
            step = jaxopt.OptStep(x, solver.init_state(x, *given))
            return solver.update(*step, *given)

        jax.eval_shape(steps, jnp.zeros(()) if name == "Bisection" else START)
        if name in ("LBFGS", "OptaxSolver", "LevenbergMarquardt", "AndersonWrapper"):  # whose runs differ in kind
            jax.eval_shape(lambda x, solver=solver, given=given: solver.run(x, *given), START)
    assert not guarded, sorted(set(guarded))


def test_the_guard_sees_what_it_is_for(guarded):
    solver = dini.LBFGS()
    state = solver.init(dini.Minimize(fun), START)
    read = eval("lambda state: state.progress[3]", {"__name__": "dini_jaxopt"})
    read(state)
    assert guarded == ["dini_jaxopt reads dini.solvers.shared._line_method.State.progress"]
