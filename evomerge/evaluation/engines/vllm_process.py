"""Puts back what vLLM changes in the process that starts it, since other parts of a worker rely on these settings.

vLLM 0.32, with its engine in this process, seeds the global generators of Python, numpy and torch, replaces
`torch.set_num_threads` by a function that does nothing (on CPUs), sets the number of threads (unless OMP_NUM_THREADS is
set), and writes environment variables that child processes inherit (LD_PRELOAD, NUMEXPR_MAX_THREADS, …). Three changes
are left: its own VLLM_ variables, which it reads again later; the process group of torch.distributed, which
`VllmEngine` destroys; and on CPU machines `torch.accelerator.synchronize`, which does nothing from then on.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

SETTINGS: Mapping[str, str] = {
    # The engine shares this process's memory, so that weights are passed on as they are.
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    # The log-probability of the token after a full context needs one position more than the model has.
    "VLLM_ALLOW_LONG_MAX_MODEL_LEN": "1",
    # vLLM reports its use to its makers by default.
    "VLLM_NO_USAGE_STATS": "1",
}
"""Environment variables that the engine needs, set while it runs."""


@contextmanager
def unchanged_process() -> Iterator[None]:
    """Put back the global random state, torch's threads and the environment at the end of a block."""
    import numpy as np
    import torch

    python_state, numpy_state = random.getstate(), np.random.get_state()  # noqa: NPY002
    generators = [torch.default_generator, *(torch.cuda.default_generators if torch.cuda.is_initialized() else ())]
    torch_states = [generator.get_state() for generator in generators]
    set_num_threads, n_threads = torch.set_num_threads, torch.get_num_threads()
    environment = dict(os.environ)
    try:
        yield
    finally:
        for name in [name for name in os.environ if name not in environment and not name.startswith("VLLM_")]:
            del os.environ[name]
        os.environ.update({name: value for name, value in environment.items() if not name.startswith("VLLM_")})
        torch.set_num_threads = set_num_threads
        torch.set_num_threads(n_threads)
        random.setstate(python_state)
        np.random.set_state(numpy_state)  # noqa: NPY002
        for generator, state in zip(generators, torch_states, strict=True):
            generator.set_state(state)


@contextmanager
def vllm_settings() -> Iterator[None]:
    """Set what the engine needs (see `SETTINGS`), and silence its log unless the user chose a level."""
    wanted = {**SETTINGS, "VLLM_LOGGING_LEVEL": os.environ.get("VLLM_LOGGING_LEVEL", "ERROR")}
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
