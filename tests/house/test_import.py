"""What ``import dini`` leaves for later, seen in a Python of its own: names of modules, not times."""

import subprocess
import sys

SCRIPT = """
import sys
from typing import get_type_hints

import jax
before = set(sys.modules)
import dini
later = ["lineax", "equinox", "jaxtyping", "scipy", "optax", "dini.certified", "dini.losses",
         "dini.perturbed", "dini.testing", "dini.explanations.arguments", "dini.explanations.calls"]
early = [name for name in later if name in set(sys.modules) - before]
assert not early, f"import dini imports {early}"
brought = {name.split(".")[0] for name in set(sys.modules) - before}
assert brought == {"dini", "jax"}, f"import dini imports {brought}"
assert not jax._src.xla_bridge.backends_are_initialized(), "import dini computes something"

# Lineax is imported while a program is traced, and leaves nothing of the trace behind
solve = lambda b: dini.linear.solve(lambda w: 2.0 * w, b, solver=dini.linear.LSMR())
jax.eval_shape(solve, jax.numpy.ones(2))
assert "lineax" in sys.modules
assert jax.eval_shape(solve, jax.numpy.ones(3)).shape == (3,)

assert dini.testing.check_gradient is not None and "testing" in dir(dini) and not hasattr(dini, "absent")
assert "jaxtyping" in str(get_type_hints(dini.losses.soft_rank))
"""


def test_what_is_imported_late():
    run = subprocess.run([sys.executable, "-W", "error", "-c", SCRIPT], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


AGAIN = """
import jax
import jax.numpy as jnp
import dini

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
