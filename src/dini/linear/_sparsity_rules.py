"""What single operations do to the elements of arrays; see ``_sparsity.py``.

A rule takes ``(value, eqn, inputs)``: a function that tells the value of an operand where it is known at trace time,
the equation, and the dependencies of its operands (``None``: constant). It returns for each output a list of matrices
whose union are the output's dependencies, or ``None`` where it does not know.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator
from contextvars import ContextVar
from typing import Any

import jax
import numpy as np
from jax import lax

from ._pattern import scipy_sparse

Terms = list[list[Any]] | None
# more dependencies than this in one intermediate array: no sparse pattern
_MOST, _MOST_IN_A_ROW = 1 << 20, 128
_least = ContextVar("_least", default=_MOST)


@contextlib.contextmanager
def sparse_only() -> Generator[None]:
    """Look for patterns with few nonzeros in each row alone, however few unknowns there are."""
    token = _least.set(0)
    try:
        yield
    finally:
        _least.reset(token)


class NotSparse(ValueError):
    """A map whose products mix too many elements for a sparse pattern to be useful."""


def check_count(count: int, width: int) -> None:
    """Raise :class:`NotSparse` for a number of dependencies on ``width`` elements that is too large."""
    if count > max(_least.get(), _MOST_IN_A_ROW * width):
        raise NotSparse(
            f"The program mixes too many elements for a sparse pattern: {count} dependencies on {width} unknowns. "
            "Declare the pattern to the solver, or use Dense() or a Krylov method."
        )


def size(atom: Any) -> int:
    """Return the number of elements of a variable of a jaxpr."""
    return int(np.prod(atom.aval.shape, dtype=np.int64))


def _ids(atom: Any) -> np.ndarray:
    return np.arange(size(atom)).reshape(atom.aval.shape)


def _take(m: Any, index: np.ndarray) -> Any:
    """Return the rows of ``m`` at an array of indices, in its order; a negative index is an empty row."""
    sparse = scipy_sparse()
    index = np.asarray(index).ravel()
    valid = index >= 0
    starts = np.concatenate([[0], np.cumsum(valid)])
    chosen = index[valid]
    check_count(int(np.diff(m.indptr)[chosen].sum(dtype=np.int64)), m.shape[1])
    return sparse.csr_matrix((np.ones(chosen.size, bool), chosen, starts), (index.size, m.shape[0])) @ m


def _collect(m: Any, target: np.ndarray, rows: int) -> Any:
    """Return ``rows`` rows: row ``i`` is the union of the rows of ``m`` whose target is ``i``; negative: nowhere."""
    sparse = scipy_sparse()
    target = np.asarray(target).ravel()
    source = np.flatnonzero(target >= 0)
    return sparse.csr_matrix((np.ones(source.size, bool), (target[source], source)), (rows, m.shape[0])) @ m


def _elementwise(value: Any, eqn: Any, inputs: list[Any]) -> Terms:
    shape = eqn.outvars[0].aval.shape
    terms = []
    for m, atom in zip(inputs, eqn.invars, strict=True):
        if m is not None:
            same = atom.aval.shape == shape
            terms.append(m if same else _take(m, np.broadcast_to(_ids(atom), shape)))
    return [terms for _ in eqn.outvars]


def _moves(index: Callable[[Any, np.ndarray], np.ndarray]) -> Callable[..., Terms]:
    """Return the rule of an operation that only moves the elements of its first operand."""

    def rule(value: Any, eqn: Any, inputs: list[Any]) -> Terms:
        if inputs[0] is None or any(m is not None for m in inputs[1:]):
            return None
        return [[_take(inputs[0], index(eqn, _ids(eqn.invars[0])))]]

    return rule


def _slice(eqn: Any, x: np.ndarray) -> np.ndarray:
    p = eqn.params
    strides = p["strides"] or (1,) * x.ndim
    return x[tuple(map(slice, p["start_indices"], p["limit_indices"], strides))]


def _reshape(eqn: Any, x: np.ndarray) -> np.ndarray:
    return x.reshape(eqn.outvars[0].aval.shape)


def _broadcast(eqn: Any, x: np.ndarray) -> np.ndarray:
    shape = eqn.outvars[0].aval.shape
    inner = [1] * len(shape)
    for dim, n in zip(eqn.params["broadcast_dimensions"], x.shape, strict=True):
        inner[dim] = n
    return np.broadcast_to(x.reshape(inner), shape)


def _padded(x: np.ndarray, config: Any) -> np.ndarray:
    for axis, (low, high, interior) in enumerate(config):
        n = x.shape[axis]
        wide = np.full((*x.shape[:axis], n + max(n - 1, 0) * interior, *x.shape[axis + 1 :]), -1)
        wide[(slice(None),) * axis + (slice(None, None, interior + 1),)] = x
        cut = (slice(None),) * axis + (slice(max(-low, 0), wide.shape[axis] - max(-high, 0)),)
        around = [(0, 0)] * x.ndim
        around[axis] = (max(low, 0), max(high, 0))
        x = np.pad(wide[cut], around, constant_values=-1)
    return x


def _pad(value: Any, eqn: Any, inputs: list[Any]) -> Terms:
    terms = []
    index = _padded(_ids(eqn.invars[0]), eqn.params["padding_config"])
    if inputs[0] is not None:
        terms.append(_take(inputs[0], index))
    if inputs[1] is not None:
        terms.append(_take(inputs[1], np.where(index < 0, 0, -1)))
    return [terms]


def _concatenate(value: Any, eqn: Any, inputs: list[Any]) -> Terms:
    terms, axis = [], eqn.params["dimension"]
    for k, m in enumerate(inputs):
        if m is not None:
            parts = [_ids(a) if i == k else np.full(a.aval.shape, -1) for i, a in enumerate(eqn.invars)]
            terms.append(_take(m, np.concatenate(parts, axis)))
    return [terms]


def _split(value: Any, eqn: Any, inputs: list[Any]) -> Terms:
    cuts = np.cumsum(eqn.params["sizes"])[:-1]
    return [[_take(inputs[0], part)] for part in np.split(_ids(eqn.invars[0]), cuts, eqn.params["axis"])]


def _reduce(value: Any, eqn: Any, inputs: list[Any]) -> Terms:
    if len(inputs) != 1:
        return None
    x = _ids(eqn.invars[0])
    axes = tuple(eqn.params["axes"])
    kept = np.expand_dims(_ids(eqn.outvars[0]), axes)
    return [[_collect(inputs[0], np.broadcast_to(kept, x.shape), size(eqn.outvars[0]))]]


def _cumulative(value: Any, eqn: Any, inputs: list[Any]) -> Terms:
    sparse = scipy_sparse()
    axis, n = eqn.params["axis"], eqn.invars[0].aval.shape[eqn.params["axis"]]
    check_count(size(eqn.invars[0]) * (n + 1) // 2, inputs[0].shape[1])
    lines = np.moveaxis(_ids(eqn.invars[0]), axis, -1).reshape(-1, n)
    later, earlier = np.tril_indices(n)
    if eqn.params["reverse"]:
        later, earlier = earlier, later
    rows, columns = lines[:, later].ravel(), lines[:, earlier].ravel()
    sums = sparse.csr_matrix((np.ones(rows.size, bool), (rows, columns)), (size(eqn.invars[0]),) * 2)
    return [[sums @ inputs[0]]]


def _dot(value: Any, eqn: Any, inputs: list[Any]) -> Terms:
    (contract, batch), terms = eqn.params["dimension_numbers"], []
    shape = eqn.outvars[0].aval.shape
    n = len(batch[0])
    free = [
        [d for d in range(len(atom.aval.shape)) if d not in (*contract[i], *batch[i])]
        for i, atom in enumerate(eqn.invars)
    ]
    for i, (m, atom) in enumerate(zip(inputs, eqn.invars, strict=True)):
        if m is None:
            continue
        # the output's axes: batch, free of the first operand, free of the second
        kept = [*batch[i], *free[i]]
        sizes = [atom.aval.shape[d] for d in kept]
        groups = np.arange(int(np.prod(sizes, dtype=np.int64))).reshape(sizes)
        spread = np.expand_dims(groups, tuple(range(len(kept), len(atom.aval.shape))))
        order = np.argsort([*kept, *contract[i]])
        target = np.broadcast_to(np.transpose(spread, order), atom.aval.shape)
        united = _collect(m, target, groups.size)
        place = [1] * len(shape)
        offset = n if i == 0 else n + len(free[0])
        for j, extent in enumerate(sizes):
            place[j if j < n else offset + j - n] = extent
        terms.append(_take(united, np.broadcast_to(groups.reshape(place), shape)))
    return [terms]


def _convolution(value: Any, eqn: Any, inputs: list[Any]) -> Terms:
    sparse = scipy_sparse()
    p = eqn.params
    if inputs[0] is None or inputs[1] is not None or p["batch_group_count"] != 1:
        return None
    spec, x, out = p["dimension_numbers"], eqn.invars[0].aval.shape, eqn.outvars[0].aval.shape
    kernel = eqn.invars[1].aval.shape
    x_spec, k_spec, out_spec = spec.lhs_spec, spec.rhs_spec, spec.out_spec
    groups, n_in, n_out = p["feature_group_count"], x[x_spec[1]], out[out_spec[1]]
    same_group = np.arange(n_out)[:, None] // (n_out // groups) == np.arange(n_in)[None, :] // (n_in // groups)
    factors = [sparse.identity(x[x_spec[0]], bool), sparse.coo_matrix(same_group)]
    for d in range(len(x) - 2):
        places = np.arange(out[out_spec[d + 2]])[:, None] * p["window_strides"][d] - p["padding"][d][0]
        places = places + np.arange(kernel[k_spec[d + 2]])[None, :] * p["rhs_dilation"][d]
        source, off = np.divmod(places, p["lhs_dilation"][d])
        inside = (off == 0) & (source >= 0) & (source < x[x_spec[d + 2]])
        rows = np.broadcast_to(np.arange(places.shape[0])[:, None], places.shape)
        shape = (places.shape[0], x[x_spec[d + 2]])
        factors.append(sparse.coo_matrix((np.ones(inside.sum(), bool), (rows[inside], source[inside])), shape))
    total = factors[0]
    for factor in factors[1:]:
        total = sparse.kron(total, factor, "coo")
    # from batch, feature, space to the axes as they lie
    x_ids = np.transpose(_ids(eqn.invars[0]), x_spec).ravel()
    out_ids = np.transpose(_ids(eqn.outvars[0]), out_spec).ravel()
    positions = (out_ids[total.row], x_ids[total.col])
    taps = sparse.csr_matrix((np.ones(total.nnz, bool), positions), (size(eqn.outvars[0]), size(eqn.invars[0])))
    return [[taps @ inputs[0]]]


def _gathered(x: np.ndarray, indices: Any, dimensions: Any, slice_sizes: Any, mode: Any) -> np.ndarray:
    """Return the elements that a gather takes, with -1 where it fills in a constant."""
    with jax.ensure_compile_time_eval():
        taken = lax.gather(
            x.astype(np.int32) + 1, np.asarray(indices), dimensions, slice_sizes, mode=mode, fill_value=0
        )
        return np.asarray(taken) - 1


def _gather(value: Any, eqn: Any, inputs: list[Any]) -> Terms:
    indices = value(eqn.invars[1])
    if inputs[0] is None or indices is None:
        return None
    p = eqn.params
    x = _ids(eqn.invars[0])
    return [[_take(inputs[0], _gathered(x, indices, p["dimension_numbers"], p["slice_sizes"], p["mode"]))]]


def _scatter(value: Any, eqn: Any, inputs: list[Any]) -> Terms:
    indices = value(eqn.invars[1])
    if indices is None:
        return None
    p, operand, updates = eqn.params, eqn.invars[0], eqn.invars[2]
    spec = p["dimension_numbers"]
    outside = {*spec.inserted_window_dims, *spec.operand_batching_dims}
    windows = iter([updates.aval.shape[d] for d in spec.update_window_dims])
    slice_sizes = tuple(1 if d in outside else next(windows) for d in range(len(operand.aval.shape)))
    # where an update goes is where a gather of the same geometry would read
    dimensions = lax.GatherDimensionNumbers(
        offset_dims=spec.update_window_dims,
        collapsed_slice_dims=spec.inserted_window_dims,
        start_index_map=spec.scatter_dims_to_operand_dims,
        operand_batching_dims=spec.operand_batching_dims,
        start_indices_batching_dims=spec.scatter_indices_batching_dims,
    )
    target = _gathered(_ids(operand), indices, dimensions, slice_sizes, p["mode"]).ravel()
    terms = []
    if inputs[0] is not None:
        kept = np.arange(size(operand))
        if eqn.primitive.name == "scatter":
            kept[target[target >= 0]] = -1
        terms.append(_take(inputs[0], kept))
    if inputs[2] is not None:
        terms.append(_collect(inputs[2], target, size(operand)))
    return [terms]


def _starts(value: Any, atoms: Any, shape: Any, sizes: Any) -> list[Any]:
    """Return where a window starts in each axis, ``None`` where it is not known."""
    starts = []
    for atom, n, k in zip(atoms, shape, sizes, strict=True):
        start = 0 if n == k else value(atom)
        starts.append(None if start is None else int(np.clip(int(start), 0, n - k)))
    return starts


def _dynamic_slice(value: Any, eqn: Any, inputs: list[Any]) -> Terms:
    x, sizes = _ids(eqn.invars[0]), eqn.params["slice_sizes"]
    starts = _starts(value, eqn.invars[1:], x.shape, sizes)
    # along an axis with an unknown start, each element may be any
    known = x[tuple(slice(None) if s is None else slice(s, s + k) for s, k in zip(starts, sizes, strict=True))]
    if all(s is not None for s in starts):
        return [[_take(inputs[0], known)]]
    axes = tuple(d for d, s in enumerate(starts) if s is None)
    united = [n for d, n in enumerate(known.shape) if d not in axes]
    groups = np.expand_dims(np.arange(int(np.prod(united, dtype=np.int64))).reshape(united), axes)
    target = np.full(x.size, -1)
    target[known.ravel()] = np.broadcast_to(groups, known.shape).ravel()
    rows = _collect(inputs[0], target, groups.size)
    return [[_take(rows, np.broadcast_to(groups, sizes))]]


def _dynamic_update(value: Any, eqn: Any, inputs: list[Any]) -> Terms:
    operand, update = eqn.invars[:2]
    shape, sizes = operand.aval.shape, update.aval.shape
    starts = _starts(value, eqn.invars[2:], shape, sizes)
    if any(s is None for s in starts):
        return None
    window = tuple(slice(s, s + k) for s, k in zip(starts, sizes, strict=True))
    kept, placed, terms = _ids(operand), np.full(shape, -1), []
    kept[window] = -1
    placed[window] = _ids(update)
    if inputs[0] is not None:
        terms.append(_take(inputs[0], kept))
    if inputs[1] is not None:
        terms.append(_take(inputs[1], placed))
    return [terms]


_ELEMENTWISE = (
    "add add_any sub mul div neg convert_element_type select_n real imag complex conj copy copy_p reduce_precision "
    "integer_pow max min abs sign exp exp2 log log1p expm1 sin cos tan tanh sinh cosh asin acos atan asinh acosh "
    "atanh sqrt rsqrt cbrt logistic erf erfc erf_inv lgamma digamma pow atan2 rem floor ceil round square clamp "
    "nextafter mul_no_nan"
)

RULES: dict[str, Callable[[Any, Any, list[Any]], Terms]] = {
    **dict.fromkeys(_ELEMENTWISE.split(), _elementwise),
    **dict.fromkeys(("reduce_sum", "reduce_max", "reduce_min", "reduce_prod"), _reduce),
    **dict.fromkeys(("cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp"), _cumulative),
    **dict.fromkeys(("scatter", "scatter-add", "scatter-mul", "scatter-min", "scatter-max"), _scatter),
    "optimization_barrier": lambda value, eqn, inputs: [[] if m is None else [m] for m in inputs],
    "slice": _moves(_slice),
    "reshape": _moves(_reshape),
    "squeeze": _moves(_reshape),
    "expand_dims": _moves(_reshape),
    "transpose": _moves(lambda eqn, x: x.transpose(eqn.params["permutation"])),
    "rev": _moves(lambda eqn, x: np.flip(x, eqn.params["dimensions"])),
    "broadcast_in_dim": _moves(_broadcast),
    "pad": _pad,
    "concatenate": _concatenate,
    "split": _split,
    "dot_general": _dot,
    "conv_general_dilated": _convolution,
    "gather": _gather,
    "dynamic_slice": _dynamic_slice,
    "dynamic_update_slice": _dynamic_update,
}
