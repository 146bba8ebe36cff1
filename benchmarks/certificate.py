"""Is a certificate right? 1,000 random problems.

    python benchmarks/certificate.py [--count 1000] [--seed 0] [--verbose]
    python benchmarks/certificate.py --seed 0 --only 17      # one problem again, all its figures

Six families: ridge, logistic, Lasso, a quadratic on the simplex, a quadratic program (bounds, or equalities by their
KKT system), nonlinear equations. Sizes 3 to 60, condition numbers 1 to 1e10, float32 and float64, solved by dini and
stopped after a random number of steps, or a solution that is perturbed by a random amount. The constrained ones are
made from their solution: its active set and the multipliers' distance to zero (down to 1e-6) are chosen first.

The truth is the derivative of the problem as it is rounded to its precision, by float64 algebra on the known active
set, without dini. A case's derivative along a random direction and for a random cotangent are both judged.
"""

from __future__ import annotations

import argparse
import collections
import time
from functools import partial

from report import one_core, table, write

one_core()

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402

import dini  # noqa: E402
from dini.certified import Verdict  # noqa: E402

jax.config.update("jax_enable_x64", True)

SIZES = (3, 12, 60)


# ---------------------------------------------------------------------------------------------------- the families


def ridge(x, lam, X, y):
    r = X @ x - y
    return 0.5 * jnp.vdot(r, r) + 0.5 * lam * jnp.vdot(x, x)


def logistic(x, lam, X, y):
    return jnp.sum(jnp.logaddexp(0, -y * (X @ x))) + 0.5 * lam * jnp.vdot(x, x)


def quadratic(x, H, c):
    return 0.5 * jnp.vdot(x, H @ x) - jnp.vdot(c, x)


def equality(z, H, c, E, d):
    x, nu = z[: H.shape[0]], z[H.shape[0] :]
    return jnp.concatenate([H @ x - c + E.T @ nu, E @ x - d])


def equations(x, M, b):
    return M @ (x + 0.5 * jnp.tanh(x)) - b


def orthogonal(rng, n, d):
    return np.linalg.qr(rng.standard_normal((n, d)))[0]


def spectrum(rng, d, condition):
    s = np.exp(rng.uniform(-np.log(condition), 0, d))
    s[0], s[-1] = 1, 1 / condition
    return s


def definite(rng, d, condition):
    Q = orthogonal(rng, d, d)
    H = Q @ np.diag(spectrum(rng, d, condition)) @ Q.T
    return (H + H.T) / 2


class Case:
    """A problem, its data in its precision, its known active set, and how it is solved."""

    def __init__(self, family, problem, args, solver, dtype, x=None, free=None, rows=None, known=None):
        self.family, self.problem, self.solver, self.dtype = family, problem, solver, dtype
        self.args = tuple(jnp.asarray(np.asarray(a), dtype) for a in args)
        self.x, self.free, self.rows, self.known = x, free, rows, known


def make(rng, family, d, condition, dtype):
    margin = 10 ** rng.uniform(-6, -0.5)
    if family in ("ridge", "logistic"):
        n = 3 * d
        X = orthogonal(rng, n, d) * np.sqrt(spectrum(rng, d, condition)) @ orthogonal(rng, d, d)
        lam = 1 / condition * rng.uniform(0.1, 1)
        y = X @ rng.standard_normal(d) + 0.1 * rng.standard_normal(n)
        if family == "logistic":
            y = np.where(y > 0, 1.0, -1.0)
        fun = ridge if family == "ridge" else logistic
        solver = dini.Newton() if rng.random() < 0.5 else dini.LBFGS()
        return Case(family, dini.Minimize(fun), (lam, X, y), solver, dtype)
    if family == "equations":
        M = orthogonal(rng, d, d) * spectrum(rng, d, condition) @ orthogonal(rng, d, d)
        x = rng.standard_normal(d)
        return Case(family, dini.Root(equations), (M, M @ (x + 0.5 * np.tanh(x))), dini.Newton(), dtype, x=x)
    H = np.asarray(definite(rng, d, condition), dtype).astype(float)
    H = (H + H.T) / 2
    if family == "equality":
        m = max(1, d // 3)
        E = rng.standard_normal((m, d)) / np.sqrt(d)
        c, b = rng.standard_normal(d), rng.standard_normal(m)
        return Case(family, dini.Root(equality, symmetric=True), (H, c, E, b), dini.Newton(), dtype)
    # a solution and its multipliers first, then the data that they solve
    free = rng.random(d) < 0.6
    free[rng.integers(d)] = True
    slack = rng.uniform(margin, 1, d)
    slack[rng.integers(d)] = margin
    if family == "lasso":
        weight = 0.1
        x = np.where(free, rng.choice([-1, 1], d) * rng.uniform(max(margin, 1e-3), 1, d), 0)
        s = np.where(free, np.sign(x), rng.choice([-1, 1], d) * (1 - np.minimum(slack, 0.999)))
        c = H @ x + weight * s
        problem = dini.Minimize(quadratic, penalty=dini.penalties.L1(weight))
        known = lambda x: weight * np.sign(x)
        return Case(family, problem, (H, c), dini.ProximalGradient(), dtype, x, free, None, known)
    if family == "simplex":
        x = np.where(free, rng.uniform(max(margin, 1e-3), 1, d), 0)
        x /= x.sum()
        c = H @ x - np.where(free, 0, slack) + rng.standard_normal()
        problem = dini.Minimize(quadratic, constraint=dini.sets.Simplex())
        return Case(family, problem, (H, c), dini.ProjectedGradient(), dtype, x, free, np.ones((1, d)), None)
    assert family == "box"
    x = np.where(free, rng.uniform(max(margin, 1e-3), 1 - max(margin, 1e-3) / 2, d), rng.integers(0, 2, d))
    c = H @ x - np.where(free, 0, np.where(x == 0, slack, -slack))
    problem = dini.Minimize(quadratic, constraint=dini.sets.Box(0.0, 1.0))
    return Case(family, problem, (H, c), dini.ProjectedGradient(), dtype, x, free, None, None)


FAMILIES = ("ridge", "logistic", "lasso", "simplex", "box", "equality", "equations")


# ---------------------------------------------------------------------------------------------------- the truth


@partial(jax.jit, static_argnums=0)
def _derivatives(F, x, args, tangents):
    A = jax.jacfwd(F)(x, *args)
    b = jax.jvp(lambda *args: F(x, *args), args, tangents)[1]
    return F(x, *args), A, b


@partial(jax.jit, static_argnums=0)
def _pull(F, x, args, u):
    return jax.vjp(lambda *args: F(x, *args), *args)[1](u)


GRADIENTS = {fun: jax.grad(fun) for fun in (ridge, logistic, quadratic)}


def truth(case, tangents, cotangent):
    """Return the solution, its derivative along the tangents and the gradient for the cotangent, in float64."""
    args = tuple(a.astype(float) for a in case.args)
    tangents = tuple(t.astype(float) for t in tangents)
    fun = {"ridge": ridge, "logistic": logistic}.get(case.family, quadratic)
    F = {"equality": equality, "equations": equations}.get(case.family) or GRADIENTS[fun]
    d = case.args[2].shape[0] + case.args[0].shape[0] if case.family == "equality" else case.args[1].shape[-1]
    x = np.zeros(d) if case.x is None else np.array(case.x)
    free = np.ones(d, bool) if case.free is None else case.free
    rows = np.zeros((0, d)) if case.rows is None else case.rows
    m = len(rows)
    nu = np.zeros(m)
    for _ in range(500):
        r, A, b = map(np.asarray, _derivatives(F, x, args, tangents))
        if case.known is not None:
            r = r + np.where(free, case.known(case.x), 0)
        K = np.block([[A[np.ix_(free, free)], rows[:, free].T], [rows[:, free], np.zeros((m, m))]])
        residual = np.concatenate([(r + rows.T @ nu)[free], rows @ x - 1])
        step = np.linalg.solve(K, -residual)
        size = 1.0
        if case.family == "logistic":  # self-concordant: a damped step always makes progress
            decrement = np.sqrt(max(step @ A @ step, 0))
            size = 1 / (1 + decrement * max(1, np.abs(np.asarray(args[1]) @ step).max() / max(decrement, 1e-300)))
            size = 1.0 if decrement < 1e-3 * np.sqrt(np.asarray(args[0])) else size
        x[free] += size * step[: free.sum()]
        nu += step[free.sum() :]
        if np.linalg.norm(step) <= 1e-14 * np.linalg.norm(x) or (case.family != "logistic" and _ > 7):
            break
    settled = np.linalg.norm(step) <= 1e-6 * max(np.linalg.norm(x), 1e-300)
    r, A, b = map(np.asarray, _derivatives(F, x, args, tangents))
    K = np.block([[A[np.ix_(free, free)], rows[:, free].T], [rows[:, free], np.zeros((m, m))]])
    valid = settled and _valid(case, x, r + rows.T @ nu, free)
    dx, u = np.zeros(d), np.zeros(d)
    dx[free] = np.linalg.solve(K, -np.concatenate([b[free], np.zeros(m)]))[: free.sum()]
    u[free] = np.linalg.solve(K.T, -np.concatenate([np.asarray(cotangent, float)[free], np.zeros(m)]))[: free.sum()]
    return x, dx, _pull(F, x, args, jnp.asarray(u)), np.linalg.cond(K), valid


def _valid(case, x, r, free):
    """Whether the active set that was meant is still that of the rounded problem."""
    off = ~free
    if case.family == "lasso":
        return np.all(np.sign(x[free]) == np.sign(case.x[free])) and np.all(np.abs(r[off]) < 0.1)
    if case.family == "simplex":
        return np.all(x[free] > 0) and np.all(r[off] > 0)
    if case.family == "box":
        inside = np.all((x[free] > 0) & (x[free] < 1))
        return inside and np.all(np.where(x[off] == 0, r[off] > 0, r[off] < 0))
    return np.all(np.isfinite(x))


# ---------------------------------------------------------------------------------------------------- one case


@partial(jax.jit, static_argnums=(1,))
def _stopped(problem, solver, x, args, steps):
    """Take some steps by hand."""
    state = solver.init(problem, x, *args)
    tol = dini.loop.tolerance(solver, x)

    def going(carry):
        k, _, state = carry
        return (k < steps) & (state.error > tol)

    def body(carry):
        k, x, state = carry
        return k + 1, *solver.step(problem, x, state, *args)

    return jax.lax.while_loop(going, body, (0, x, state))


@partial(jax.jit, static_argnums=(5,))
def _certified(problem, x, args, tangents, cotangent, differentiation):
    how = dict(differentiation=differentiation, on_failure="ignore")
    return (
        dini.certified.jvp(problem, x, args, tangents, **how),
        dini.certified.vjp(problem, x, args, cotangent, **how),
    )


def error(got, want):
    got, want = (np.concatenate([np.ravel(np.asarray(p, float)) for p in jax.tree.leaves(t)]) for t in (got, want))
    scale = np.linalg.norm(want)
    off = np.linalg.norm(got - want)
    # a derivative that is zero is right if it is zero to rounding
    return 0.0 if off == 0 else float(off / scale) if scale > 0 else float(off)


def run(seed, index, matrix_free):
    rng = np.random.default_rng([seed, index])
    family = rng.choice(FAMILIES)
    d = int(rng.choice(SIZES))
    dtype = rng.choice([np.float32, np.float64])
    condition = 10 ** rng.uniform(0, 10)
    case = make(rng, family, d, condition, dtype)
    tangents = tuple(jnp.asarray(rng.standard_normal(a.shape), dtype) for a in case.args)
    if family not in ("ridge", "logistic", "equations"):  # the Hessian stays symmetric
        tangents = ((tangents[0] + tangents[0].T) / 2, *tangents[1:])
    size = case.args[2].shape[0] + d if family == "equality" else d
    cotangent = jnp.asarray(rng.standard_normal(size), dtype)
    x, dx, gradient, own_condition, valid = truth(case, tangents, cotangent)
    if not valid:
        return None
    how = rng.choice(["stopped", "converged", "perturbed"])
    if how == "perturbed":
        point = jnp.asarray(x + 10 ** rng.uniform(-12, 0) * rng.standard_normal(size), dtype)
    else:
        steps = 2000 if how == "converged" else int(10 ** rng.uniform(0, 3))
        start = jnp.full(size, 1 / d, dtype) if family == "simplex" else jnp.zeros(size, dtype)
        steps, point, state = _stopped(case.problem, case.solver, start, case.args, steps)
        if how == "converged" and not state.error <= dini.loop.tolerance(case.solver, point):
            how = "stopped"
    linear_solver = None
    if matrix_free:
        definite = family in ("ridge", "logistic", "lasso", "simplex", "box")
        linear_solver = dini.linear.CG() if definite else dini.linear.GMRES(restart=60)
    (got, forward), (back, reverse) = _certified(
        case.problem, point, case.args, tangents, cotangent, dini.Implicit(linear_solver=linear_solver)
    )
    eps = float(np.finfo(dtype).eps)
    common = dict(index=index, family=family, d=d, dtype=np.dtype(dtype).name, condition=own_condition, how=how)
    rows = []
    for mode, mine, want, certificate in (("jvp", got, dx, forward), ("vjp", back, gradient, reverse)):
        rows.append(
            common
            | dict(
                mode=mode,
                true=error(mine, want),
                estimate=float(certificate.error),
                verdict=Verdict(int(certificate.verdict)),
                rounding=own_condition * np.finfo(float).eps * 100,
                eps=eps,
                margin=float(certificate.margin),
                certificate=certificate,
            )
        )
    return rows


def report(rows):
    silent = [r for r in rows if r["verdict"] == Verdict.RELIABLE and not r["true"] <= 1e-2]
    above = [r for r in rows if r["true"] > max(r["rounding"], 10 * r["eps"])]
    ratio = np.array([r["estimate"] / r["true"] for r in above])
    ratio = np.where(np.isnan(ratio), np.inf, ratio)
    easy = [r for r in rows if r["how"] == "converged" and r["condition"] <= 10 ** (10 / 3)]
    bad = [r for r in easy if r["verdict"] != Verdict.RELIABLE]
    # converged to the solver's tolerance, and yet the derivative is over one percent off: rightly refused
    refused = [r for r in bad if r["true"] <= 1e-2]
    needless = [r for r in rows if r["verdict"] != Verdict.RELIABLE and r["true"] <= 1e-3]
    verdicts = collections.Counter(r["verdict"].name for r in rows)
    lines = [
        ("derivatives judged", str(len(rows)), ""),
        ("true error over 1e-2", str(sum(not r["true"] <= 1e-2 for r in rows)), ""),
        ("and called reliable", str(len(silent)), "0"),
        ("true error above rounding", str(len(above)), ""),
        ("of these, estimate >= true error", f"{100 * np.mean(ratio >= 1):.2f} %", "99 %"),
        ("of these, estimate <= 100 x true error", f"{100 * np.mean(ratio <= 100):.2f} %", "90 %"),
        ("of these, median of estimate / true error", f"{np.median(ratio):.1f}", ""),
        ("converged, condition <= 2e3", str(len(easy)), ""),
        (
            "of these, refused with a true error <= 1e-2",
            f"{len(refused)} ({100 * len(refused) / len(easy):.2f} %)",
            "1 %",
        ),
        ("of these, refused with a larger one, rightly", str(len(bad) - len(refused)), ""),
        ("all: refused with a true error below 1e-3", str(len(needless)), ""),
        *((f"verdict {name}", str(count), "") for name, count in verdicts.most_common()),
    ]
    under = [r for r, q in zip(above, ratio, strict=True) if q < 1]
    over = [r for r, q in zip(above, ratio, strict=True) if q > 100]
    return lines, dict(silent=silent, refused=refused, underestimated=under, overestimated=over)


def line(r):
    keys = ("index", "family", "d", "dtype", "how", "mode", "condition", "true", "estimate", "margin")
    return " ".join(f"{r[k]:.2e}" if isinstance(r[k], float) else str(r[k]) for k in keys) + " " + r["verdict"].name


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int)
    parser.add_argument("--verbose", action="store_true")
    args = parser.parse_args()
    if args.only is not None:
        for matrix_free in (False, True):
            for r in run(args.seed, args.only, matrix_free) or []:
                print(line(r), r["certificate"], sep="\n  ")
        return
    sections = []
    for matrix_free in (False, True):
        start, rows, index = time.time(), [], 0
        while len(rows) < 2 * args.count:
            rows += run(args.seed, index, matrix_free) or []
            index += 1
        title = f"{'Iterative' if matrix_free else 'Dense'} linear solver"
        print(f"{title}: {args.count} problems in {time.time() - start:.0f} s")
        lines, groups = report(rows)
        note = f"{args.count} problems; another {index - args.count} changed their active set when rounded."
        sections.append(f"## {title}\n\n{note}\n\n{table(('figure', 'value', 'bar'), lines)}")
        print(sections[-1], flush=True)
        for name, group in groups.items():
            for r in group if args.verbose else ():
                print(f"  {name}: {line(r)}")
    command = f"python benchmarks/certificate.py --count {args.count} --seed {args.seed}"
    write("certificate", "Are certificates right?", command, "\n\n".join(sections))


if __name__ == "__main__":
    main()
