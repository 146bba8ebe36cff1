"""How all tests run: a persistent compilation cache, quick compilations, few threads."""

import ctypes
import gc
import itertools
import os
import tempfile
from pathlib import Path

# Two pytest workers share two cores: more threads in each would only wait for one another. OpenBLAS is behind NumPy's,
# SciPy's and JAX's linear algebra.
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import jax
import pytest

pytest_plugins = ("by_default", "budget", "pytester")

#: Linux allows a process some 65,000 mappings, and a compiled program takes several: beyond, XLA fails to compile
_MAPS, _MANY = Path("/proc/self/maps"), 30_000
#: bytes that a worker may hold between two tests; what it needs within one comes on top
_STATM, _LARGE = Path("/proc/self/statm"), 1_200_000_000
_tests, _kept = itertools.count(1), [0]

_CACHE = Path(os.environ.get("DINI_TEST_CACHE", Path(tempfile.gettempdir()) / "dini-jax-cache"))
jax.config.update("jax_compilation_cache_dir", str(_CACHE))
# writing a program to the cache takes about as long as compiling it: only what is slow is worth it
jax.config.update("jax_persistent_cache_min_compile_time_secs", 1.0)
# most of the time of all tests is XLA's, for programs that run once or twice: LLVM need not make them fast, which saves
# a quarter; DINI_TEST_OPTIMIZED=1 compiles as users do
jax.config.update("jax_disable_most_optimizations", not os.environ.get("DINI_TEST_OPTIMIZED"))
# nobody reads where in the source each operation of a program comes from; to write it down costs 7 % of all tests
jax.config.update("jax_traceback_in_locations_limit", 0)


def _resident():
    return int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if _STATM.exists() else 0


def _give_back():
    """Return to the system what the C library holds free: after many compilations that is most of it."""
    if (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)) is not None:
        trim(0)


@pytest.fixture(autouse=True)
def few_programs():
    """Forget all compiled programs before a worker runs out of memory mappings, or holds too much memory."""
    yield
    # a worker that cannot become smaller than this does not try after every test
    large = max(_LARGE, 1.25 * _kept[0])
    full = next(_tests) % 20 == 0 and _MAPS.exists() and _MAPS.read_bytes().count(b"\n") > _MANY
    if _resident() > large:
        _give_back()
        full |= _resident() > 0.8 * large
    if full:
        for array in jax.live_arrays():
            array.block_until_ready()
        jax.clear_caches()
        gc.collect()
        _give_back()
        _kept[0] = _resident()
