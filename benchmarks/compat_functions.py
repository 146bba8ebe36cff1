"""JAXopt's functions beside those of dini_jaxopt: the largest differences of values and of derivatives.

Run with a Python that has JAXopt 0.8.5, in float64:

    PYTHONPATH=src:compat/src PYTHON_WITH_JAXOPT benchmarks/compat_functions.py [WORD ...]

Every function is called on random inputs (`--draws`, default 20), under `jit`, and its derivative in all floating-point
arguments is applied to a cotangent; words select functions. `violated` says by how much a constraint of the result is
missed, JAXopt's and dini's, where there is one. Times are medians of a compiled call with its derivative.
"""

import argparse
import importlib
import time
import warnings

import jax
import jax.numpy as jnp
import numpy as np

jax.config.update("jax_enable_x64", True)
warnings.simplefilter("ignore")
CASES = {}


def case(name, violated=None, derivative=True, argnums=None):
    """Add a case: a function of a random generator that returns positional arguments and keyword arguments."""

    def add(make):
        key = name if name not in CASES else f"{name} ({make.__name__})"
        CASES[key] = (name, make, violated, derivative, argnums)
        return make

    return add


def tree(rng, scale=1.0):
    return {"a": scale * rng.normal(size=(3,)), "b": scale * rng.normal(size=(2, 2))}


def simple(name, make, **kwargs):
    case(name, **kwargs)(lambda rng: (make(rng), {}))


def norm(x):
    return jnp.sqrt(sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(x)))


# projections
simple("projection.projection_non_negative", lambda r: (tree(r),))
simple("projection.projection_box", lambda r: (r.normal(size=5), (-0.5 - r.random(5), r.random(5))))
simple("projection.projection_hypercube", lambda r: (r.normal(size=5), 0.7))
simple("projection.projection_simplex", lambda r: (r.normal(size=6), 2.0), violated=lambda p, x, s: p.sum() - s)
simple("projection.projection_l1_sphere", lambda r: (r.normal(size=6), 0.7), violated=lambda p, x, s: abs(p).sum() - s)
simple("projection.projection_l1_ball", lambda r: (r.normal(size=6), 2.0), violated=lambda p, x, s: abs(p).sum() - s)
simple("projection.projection_l2_sphere", lambda r: (tree(r), 0.7), violated=lambda p, x, s: norm(p) - s)
simple("projection.projection_l2_ball", lambda r: (tree(r), 2.0), violated=lambda p, x, s: jnp.maximum(norm(p) - s, 0))
simple("projection.projection_linf_ball", lambda r: (r.normal(size=5), 0.7))
simple("projection.projection_hyperplane", lambda r: (tree(r), (tree(r), 0.3)))
simple("projection.projection_halfspace", lambda r: (tree(r), (tree(r), 0.3)))
simple(
    "projection.projection_affine_set",
    lambda r: (r.normal(size=5), (r.normal(size=(2, 5)), r.normal(size=2))),
    violated=lambda p, x, h: abs(h[0] @ p - h[1]).max(),
)
simple(
    "projection.projection_box_section",
    lambda r: (r.normal(size=5), (-r.random(5), r.random(5), 0.5 + r.random(5), 0.1)),
    violated=lambda p, x, h: h[2] @ p - h[3],
)


@case("projection.projection_sparse_simplex", violated=lambda p, x, k: p.sum() - 1, argnums=(0,))
def sparse_simplex(rng):
    return (rng.normal(size=6), 3), {}


@case(
    "projection.projection_polyhedron",
    violated=lambda p, x, h: jnp.maximum(abs(h[0] @ p - h[1]).max(), (h[2] @ p - h[3]).max()),
)
def polyhedron(rng):
    G = rng.normal(size=(4, 5))
    A = rng.normal(size=(2, 5))
    inside = rng.normal(size=5)
    return (rng.normal(size=5), (A, A @ inside, G, G @ inside + rng.random(4))), {"check_feasible": False}


def marginals(rng, m=4, n=3):
    a, b = 0.1 + rng.random(m), 0.1 + rng.random(n)
    return a / a.sum(), b / b.sum()


def missed(P, S, pair):
    return jnp.maximum(abs(P.sum(1) - pair[0]).max(), abs(P.sum(0) - pair[1]).max())


simple(
    "projection.projection_transport", lambda r: (r.normal(size=(4, 3)), marginals(r)), violated=missed, argnums=(0,)
)
simple(
    "projection.kl_projection_transport", lambda r: (r.normal(size=(4, 3)), marginals(r)), violated=missed, argnums=(0,)
)
ones = lambda P, S: jnp.maximum(abs(P.sum(1) - 1).max(), abs(P.sum(0) - 1).max())
simple("projection.projection_birkhoff", lambda r: (r.normal(size=(4, 4)),), violated=ones)
simple("projection.kl_projection_birkhoff", lambda r: (r.normal(size=(4, 4)),), violated=ones)

# proximal operators
simple("prox.prox_none", lambda r: (tree(r),))
for name in ("lasso", "non_negative_lasso", "group_lasso", "ridge", "non_negative_ridge"):
    simple(f"prox.prox_{name}", lambda r: (tree(r), 0.6, 0.5))
simple("prox.prox_elastic_net", lambda r: (r.normal(size=5), (r.random(5), r.random(5)), 0.5))

# losses
labels = lambda r, shape=(): r.integers(0, 2, size=shape)
simple("loss.huber_loss", lambda r: (r.normal(size=5), r.normal(size=5), 0.7))
for name in ("logistic", "sparsemax", "hinge", "perceptron"):
    simple(f"loss.binary_{name}_loss", lambda r: (labels(r, 5), 2 * r.normal(size=5)))
    simple(f"loss.multiclass_{name}_loss", lambda r: (labels(r), 2 * r.normal(size=4)))
simple("loss.sparse_plus", lambda r: (2 * r.normal(size=5),))
simple("loss.sparse_sigmoid", lambda r: (2 * r.normal(size=5),))


@case("loss.make_fenchel_young_loss")
def fenchel_young(rng):
    return (rng.random(4), rng.normal(size=4)), {"of": (jax.nn.logsumexp,)}


# objectives
data = lambda r, y: (r.normal(size=(6, 3)), y)
simple("objective.least_squares", lambda r: (r.normal(size=(3, 2)), data(r, r.normal(size=(6, 2)))))
simple("objective.ridge_regression", lambda r: (r.normal(size=3), 0.3, data(r, r.normal(size=6))))
simple("objective.binary_logreg", lambda r: (r.normal(size=3), data(r, labels(r, 6))), argnums=(0,))
classes = lambda r: r.integers(0, 4, size=6)
simple("objective.multiclass_logreg", lambda r: (r.normal(size=(3, 4)), data(r, classes(r))), argnums=(0,))
pair = lambda r: (r.normal(size=(3, 4)), r.normal(size=4))
simple("objective.multiclass_logreg_with_intercept", lambda r: (pair(r), data(r, classes(r))), argnums=(0,))
simple("objective.l2_multiclass_logreg", lambda r: (r.normal(size=(3, 4)), 0.3, data(r, classes(r))), argnums=(0, 1))
simple("objective.l2_multiclass_logreg_with_intercept", lambda r: (pair(r), 0.3, data(r, classes(r))), argnums=(0, 1))
simple("objective.multiclass_linear_svm_dual", lambda r: (r.random((6, 4)), 0.3, data(r, np.eye(4)[classes(r)])))

# linear solves: the matrix comes first


def system(rng, symmetric):
    M = rng.normal(size=(5, 5))
    return (M @ M.T + np.eye(5) if symmetric else M + 4 * np.eye(5)), rng.normal(size=5)


residual = lambda x, A, b, ridge: abs(A @ x + ridge * x - b).max()
for name in ("lu", "qr", "inv", "gmres", "bicgstab"):
    simple(f"linear_solve.solve_{name}", lambda r: (*system(r, False), 0.1), violated=residual)
for name in ("cholesky", "cg"):
    simple(f"linear_solve.solve_{name}", lambda r: (*system(r, True), 0.1), violated=residual)
simple(
    "linear_solve.solve_normal_cg",
    lambda r: (*system(r, False), 0.1),
    violated=lambda x, A, b, ridge: abs(A.T @ (A @ x - b) + ridge * x).max(),
)
# JAXopt's has no derivative in a matrix that matvec closes over
simple(
    "linear_solve.solve_iterative_refinement",
    lambda r: system(r, False),
    violated=lambda x, A, b: abs(A @ x - b).max(),
    derivative=False,
)

# trees
for name in ("add", "sub", "mul", "div", "vdot", "vdot_real"):
    simple(f"tree_util.tree_{name}", lambda r: (tree(r), tree(r)))
for name in ("sum", "l2_norm", "zeros_like", "ones_like", "inf_norm", "negative", "conj", "real", "imag"):
    simple(f"tree_util.tree_{name}", lambda r: (tree(r),))
simple("tree_util.tree_scalar_mul", lambda r: (0.3, tree(r)))
simple("tree_util.tree_add_scalar_mul", lambda r: (tree(r), 0.3, tree(r)))
simple("tree_util.tree_dot", lambda r: ((r.normal(size=(2, 3)), 2.0), (r.normal(size=3), 0.3)))
simple("tree_util.tree_where", lambda r: ({"a": True, "b": False}, tree(r), 0.5), argnums=(1, 2))

# the others
simple("isotonic.isotonic_l2_pav", lambda r: (r.normal(size=7), -0.5, 0.5), argnums=(0,))


@case("perturbations.make_perturbed_argmax")
def gumbel(rng):
    return (rng.normal(size=4), jax.random.key(0)), {"of": (one_hot_argmax, 1000, 0.5)}


@case("perturbations.make_perturbed_max")
def perturbed_max(rng):
    return (rng.normal(size=4), jax.random.key(0)), {"of": (one_hot_argmax, 1000, 0.5)}


@case("perturbations.make_perturbed_fun")
def perturbed_fun(rng):
    return (rng.normal(size=4), jax.random.key(0)), {"of": (lambda x: jnp.sum(jnp.maximum(x, 0)), 1000, 0.5)}


def program(rng, n=10, m=3, p=8):
    """Return the data of a program with a point that is feasible."""
    M, A, G, x = rng.normal(size=(n, n)), rng.normal(size=(m, n)), rng.normal(size=(p, n)), rng.normal(size=n)
    return M @ M.T + np.eye(n), rng.normal(size=n), A, A @ x, G, G @ x + rng.random(p)


feasible = lambda x, Q, c, A, b, G, h: jnp.maximum(abs(A @ x - b).max(), (G @ x - h).max())
simple("OSQP", program, violated=feasible)
simple("BoxOSQP", program, violated=feasible)


@case("OSQP", violated=feasible)
def accurate(rng):
    return program(rng), {"settings": {"tol": 1e-9, "maxiter": 40_000}}


@case("BoxOSQP", violated=feasible)
def accurate(rng):  # noqa: F811
    return program(rng), {"settings": {"tol": 1e-9, "maxiter": 40_000}}


simple("EqualityConstrainedQP", lambda r: program(r)[:4], violated=lambda x, Q, c, A, b: abs(A @ x - b).max())
simple("BoxCDQP", lambda r: (*program(r)[:2], -0.1 * np.ones(10), 0.1 * np.ones(10)))


def run_program(solver, name, Q, c, *rest):
    if name == "BoxOSQP":
        A, b, G, h = rest
        bounds = jnp.concatenate([b, jnp.full_like(h, -jnp.inf)]), jnp.concatenate([b, h])
        return solver.run(None, (Q, c), jnp.concatenate([A, G]), bounds).params.primal[0]
    if name == "BoxCDQP":
        return solver.run(jnp.zeros_like(c), params_obj=(Q, c), params_ineq=rest).params
    parts = {"params_eq": rest[:2], "params_ineq": rest[2:]}
    return solver.run(None, params_obj=(Q, c), **{key: part for key, part in parts.items() if part}).params.primal


def one_hot_argmax(x):
    return jax.nn.one_hot(jnp.argmax(x), x.shape[0], dtype=x.dtype)


def function(package, name, extra):
    """Return a function of a package, of arrays alone."""
    if "." not in name:
        solver = getattr(importlib.import_module(package), name)(**extra.get("settings", {}))
        return lambda *args: run_program(solver, name, *args)
    module, attribute = name.split(".")
    fun = getattr(importlib.import_module(f"{package}.{module}"), attribute)
    if "of" in extra:
        return fun(*extra["of"])
    if module == "linear_solve":
        return lambda A, b, *rest: fun(lambda x: A @ x, b, *rest)
    return lambda *args: fun(*args, **extra)


def is_float(leaf):
    return isinstance(leaf, float) or (hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.floating))


def measured(package, name, extra, draws, derivative, argnums):
    """Return values, pulled-back cotangents, and microseconds of a call, of all draws."""
    fun = function(package, name, extra)
    args = draws[0]
    # integers that say a size are static
    static = [i for i, arg in enumerate(args) if isinstance(arg, int) and not isinstance(arg, np.integer)]
    moving = [i for i in range(len(args)) if i not in static]
    which = moving if argnums is None else argnums

    def run(*arrays):
        full = dict(zip(moving, arrays, strict=True)) | {i: args[i] for i in static}
        full = [full[i] for i in range(len(args))]

        def of(chosen):
            leaves = dict(zip(which, chosen, strict=True))
            return fun(*(leaves.get(i, arg) for i, arg in enumerate(full)))

        chosen = [full[i] for i in which]
        leaves, treedef = jax.tree.flatten(chosen)
        floating = [i for i, leaf in enumerate(leaves) if jnp.issubdtype(jnp.result_type(leaf), jnp.floating)]

        def of_leaves(moved):
            new = list(leaves)
            for i, leaf in zip(floating, moved, strict=True):
                new[i] = leaf
            return of(jax.tree.unflatten(treedef, new))

        if not derivative:
            return of(chosen), 0.0
        value, pull = jax.vjp(of_leaves, [jnp.asarray(leaves[i]) for i in floating])
        cotangent = jax.tree.map(lambda u: jnp.cos(jnp.arange(u.size)).reshape(u.shape).astype(u.dtype), value)
        return value, pull(cotangent)[0]

    compiled = jax.jit(run)
    arrays = [[jax.tree.map(jnp.asarray, draw[i]) for i in moving] for draw in draws]
    results = [jax.tree.map(np.asarray, compiled(*given)) for given in arrays]
    times = []
    for given in arrays:
        start = time.perf_counter()
        jax.block_until_ready(compiled(*given))
        times.append(time.perf_counter() - start)
    return results, np.median(times) * 1e6


def difference(one, other):
    return max(
        (
            float(np.max(np.abs(u - v), initial=0))
            for u, v in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
        ),
        default=0.0,
    )


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("words", nargs="*")
    parser.add_argument("--draws", type=int, default=20)
    options = parser.parse_args()
    heads = ("value", 9), ("derivative", 12), ("violated: JAXopt", 18), ("dini", 9), ("us: JAXopt", 12), ("dini", 9)
    print(f"{'function':<58}" + "".join(f"{head:>{width}}" for head, width in heads))
    for key, (name, make, violated, derivative, argnums) in CASES.items():
        if options.words and not any(word in key for word in options.words):
            continue
        rng = np.random.default_rng(0)
        made = [make(rng) for _ in range(options.draws)]
        draws, extra = [args for args, _ in made], made[0][1]
        try:
            sides = [measured(p, name, extra, draws, derivative, argnums) for p in ("dini_jaxopt", "jaxopt")][::-1]
        except jax.errors.JaxRuntimeError as error:  # dini's came first
            print(f"{key:<58}  JAXopt's fails: {str(error).splitlines()[-1] or type(error).__name__}", flush=True)
            continue
        (theirs, their_time), (ours, our_time) = sides
        values = max(difference(a[0], b[0]) for a, b in zip(theirs, ours, strict=True))
        slopes = max(difference(a[1], b[1]) for a, b in zip(theirs, ours, strict=True)) if derivative else np.nan
        misses = ["", ""]
        if violated is not None:
            signed = "ball" in name or "OSQP" in name  # a constraint that need not be active

            def largest(side, draws=draws, violated=violated, signed=signed):
                found = (float(violated(r[0], *args)) for r, args in zip(side, draws, strict=True))
                return f"{max(max(v, 0) if signed else abs(v) for v in found):.0e}"

            misses = [largest(theirs), largest(ours)]
        print(
            f"{key:<58}{values:>9.0e}{slopes:>12.0e}{misses[0]:>18}{misses[1]:>9}{their_time:>12.0f}{our_time:>9.0f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
