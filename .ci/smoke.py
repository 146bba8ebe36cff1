"""What the installed distributions must do where nothing else of the repository is: `python -I smoke.py README.md`."""

import contextlib
import importlib.metadata
import importlib.resources
import io
import re
import sys
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp

import dini

for name in ("dini", "dini_jaxopt", "dini_learn", "dini_zoo"):
    at = importlib.metadata.distribution(name)
    package = importlib.resources.files(name)
    assert Path(str(package)).is_relative_to(sys.prefix), f"{name} is not the installed one: {package}"
    assert package.joinpath("py.typed").is_file(), f"{name} has no py.typed"
    assert at.metadata.get_all("License-File") == ["LICENSE"], f"{name} has no license"
    assert "```" in at.metadata["Description"], f"{name} has no description"
assert dini.__version__ == importlib.metadata.version("dini"), "dini.__version__ is not that of the distribution"

block = re.search(r"^```python\n(.*?)^```", Path(sys.argv[1]).read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)[1]
want = re.findall(r"# -> (.*)", block)
assert "jax.grad" in block, "the README's first example has no gradient"
assert want, "the README's first example announces no output"
with contextlib.redirect_stdout(io.StringIO()) as printed:
    exec(compile(block, sys.argv[1], "exec"), {})
assert printed.getvalue().split() == want, f"the README's example prints {printed.getvalue()}"

# dini-learn's first example is in its description
block = re.search(r"^```python\n(.*?)^```", importlib.metadata.metadata("dini-learn")["Description"], re.DOTALL | re.M)[
    1
]
with contextlib.redirect_stdout(io.StringIO()) as printed:
    exec(compile(block, "dini-learn", "exec"), {})
assert printed.getvalue().strip() == re.search(r"# -> (.*)", block)[1], f"dini-learn prints {printed.getvalue()}"

# Lineax is imported by what needs it
assert jnp.allclose(dini.linear.solve(lambda w: 2.0 * w, jnp.ones(2), solver=dini.linear.LSMR()), 0.5)

# and what JAX calls its cache of programs is what dini sets
with tempfile.TemporaryDirectory() as folder:
    assert dini.keep_programs(folder).changed, "programs are kept already"
    jax.jit(lambda x: 2.5 * x)(jnp.ones(2)).block_until_ready()
    assert list(Path(folder).iterdir()), "a program has not been kept"
print("dini", dini.__version__, *(f"{name} {importlib.metadata.version(name)}" for name in ("jax", "numpy", "lineax")))
