"""What ``import dini`` leaves for later, seen in a Python of its own: names of modules, not times."""

import importlib
import pkgutil
import subprocess
import sys

import late
import pytest

SCRIPT = """
import sys
from typing import get_type_hints

import jax
before = set(sys.modules)
import dini
loaded = lambda: {name for name in sys.modules if name.partition(".")[0] == "dini"}
assert len(loaded()) < 10, f"import dini imports {loaded()}"
brought = {name.split(".")[0] for name in set(sys.modules) - before}
assert brought == {"dini", "jax"}, f"import dini imports {brought}"
try:
    dini.Simplex
except AttributeError as error:
    assert "It is dini.sets.Simplex." in str(error), error
assert sys.modules["dini.sets"] is dini.sets and "dini.sets._simplex" not in sys.modules

# what is named is loaded, with what it is made of; an import of a module does not hide a function
assert len(loaded()) < 60, f"a hint imports {len(loaded())} modules"
dini.LBFGS
assert "dini.solvers._admm" not in sys.modules and "dini.sets" in sys.modules
import dini.batches, dini.conic
assert callable(dini.solve) and callable(dini.differentiate) and dini.batches.batch_solve is dini.batch_solve
later = ["lineax", "equinox", "jaxtyping", "scipy", "optax", "dini.losses._sorting",
         "dini.perturbed", "dini.explanations.arguments", "dini.explanations.calls"]
early = [name for name in later if name in set(sys.modules) - before]
assert not early, f"a solve imports {early}"
assert not jax._src.xla_bridge.backends_are_initialized(), "import dini computes something"

# Lineax is imported while a program is traced, and leaves nothing of the trace behind
solve = lambda b: dini.linear.solve(lambda w: 2.0 * w, b, solver=dini.linear.LSMR())
jax.eval_shape(solve, jax.numpy.ones(2))
assert "lineax" in sys.modules
assert jax.eval_shape(solve, jax.numpy.ones(3)).shape == (3,)

assert dini.testing.check_gradient is not None and not hasattr(dini, "absent")
assert set(dini.__all__) <= set(dir(dini)) and set(dini.penalties.__all__) <= set(dir(dini.penalties))
assert "jaxtyping" in str(get_type_hints(dini.losses.soft_rank))
names = {}
exec("from dini import *", names)
assert set(dini.__all__) <= set(names) and names["minimize"] is dini.minimize and names["sets"] is dini.sets
"""


def test_what_is_imported_late():
    run = subprocess.run([sys.executable, "-W", "error", "-c", SCRIPT], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize("path", late.FILES, ids=lambda path: str(path.relative_to(late.ROOT)))
def test_type_checkers_see_the_names_that_there_are(path):
    text = path.read_text(encoding="utf-8")
    assert late.renewed(text) == text, "run python tests/house/late.py"
    folder = next(folder for folder in path.parents if folder.name == "src")
    package = importlib.import_module(".".join(path.parent.relative_to(folder).parts))
    seen = {name: module for module, names in late.names(text).items() for name in names}
    assert sorted(seen) == sorted(set(package.__all__) - {"__version__"})
    for name, module in seen.items():
        there = importlib.import_module(module + name if module == "." else module, package.__name__)
        assert getattr(package, name) is (there if module == "." else getattr(there, name))
    # importing a module sets an attribute of its package, which would hide another thing of that name
    assert not {found.name for found in pkgutil.iter_modules(package.__path__)} & {
        n for n, m in seen.items() if m != "."
    }


AGAIN = """
import jax
import jax.numpy as jnp
import dini

# nothing has been named before these programs are traced
fun, square = lambda x, a: jnp.sum((x - a) ** 2) + jnp.sum(x**4), 2 * jnp.eye(3)
programs = {
    "minimum": jax.grad(lambda a: dini.minimize(fun, jnp.ones(3), a).x.sum()),
    "program": jax.grad(lambda a: dini.quadratic_program(Q=square, c=-a, lower=0.0).x.sum()),
    "singular": lambda a: dini.linear.solve(lambda w: 2.0 * w, a, solver=dini.linear.LSMR()),
}
for name, program in programs.items():
    program = jax.jit(program)
    for _ in range(2):
        program(jnp.ones(3))
    assert program._cache_size() == 1, f"{name} is compiled {program._cache_size()} times"
"""


def test_nothing_that_is_imported_late_makes_jax_compile_a_program_again():
    run = subprocess.run([sys.executable, "-W", "error", "-c", AGAIN], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
