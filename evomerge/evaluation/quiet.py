"""Scopes in which other libraries neither write to the terminal nor change the global random state."""

from __future__ import annotations

import functools
import logging
import random
import sys
import warnings
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

log = logging.getLogger("evomerge.evaluation")

_NOISY = ("transformers", "datasets", "huggingface_hub", "evaluate", "filelock", "fsspec")


class _ToOurLog(logging.Handler):
    """Passes lm-eval's messages on at DEBUG, but one about a cut-off prompt, which makes scores wrong, as WARNING."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._said: set[tuple[str, int]] = set()

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        place = (record.pathname, record.lineno)
        if "truncat" in text.lower() and place not in self._said:
            self._said.add(place)
            log.warning("%s (said once)", text)
        else:
            log.debug("%s", text)


_HANDLER = _ToOurLog()


@contextmanager
def quiet() -> Iterator[None]:
    """Hold back log lines, Python warnings and progress bars of lm-eval and the libraries under it."""
    import datasets
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars
    from lm_eval.api.task import Task

    with ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        for name in _NOISY:
            logger = logging.getLogger(name)
            stack.callback(logger.setLevel, logger.level)
            logger.setLevel(logging.ERROR)
        lm_eval_logger = logging.getLogger("lm_eval")
        stack.callback(setattr, lm_eval_logger, "propagate", lm_eval_logger.propagate)
        stack.callback(setattr, lm_eval_logger, "handlers", list(lm_eval_logger.handlers))
        stack.callback(lm_eval_logger.setLevel, lm_eval_logger.level)
        lm_eval_logger.setLevel(logging.WARNING)  # which a call of lm-eval in this process may have raised
        lm_eval_logger.propagate = False
        lm_eval_logger.handlers = [_HANDLER]
        if not datasets.are_progress_bars_disabled():
            datasets.disable_progress_bars()
            stack.callback(datasets.enable_progress_bars)
        if not are_progress_bars_disabled():
            disable_progress_bars()
            stack.callback(enable_progress_bars)
        # `Task.build_all_requests` has no argument to turn its bar off, and tqdm reads TQDM_DISABLE only when imported.
        lm_eval_task: Any = sys.modules[Task.build_all_requests.__module__]
        bar = lm_eval_task.tqdm
        stack.callback(setattr, lm_eval_task, "tqdm", bar)
        lm_eval_task.tqdm = _no_bar
        yield


@contextmanager
def lm_eval_randomness() -> Iterator[None]:
    """Give code of lm-eval's tasks the global random state that `lm_eval` itself sets, and put ours back.

    Some tasks shuffle answers with `random` or `numpy.random` while they are loaded (GPQA), so lm-eval seeds both in
    `simple_evaluate`. Without the seeds, two workers would see different questions. If the state were not put back,
    everything else in this process that draws from the global generators would repeat itself. No other code touches
    these generators.
    """
    import numpy as np
    import torch
    from lm_eval.defaults import DEFAULT_OTHER_SEED, DEFAULT_RANDOM_SEED

    python_state, numpy_state = random.getstate(), np.random.get_state()  # noqa: NPY002
    # Only torch's CPU generator, which is the one that a dataset's code would use.
    torch_state = torch.default_generator.get_state()
    random.setstate(random.Random(DEFAULT_RANDOM_SEED).getstate())
    np.random.set_state(np.random.RandomState(DEFAULT_OTHER_SEED).get_state())  # noqa: NPY002
    torch.default_generator.set_state(torch.Generator().manual_seed(DEFAULT_OTHER_SEED).get_state())
    try:
        yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)  # noqa: NPY002
        torch.default_generator.set_state(torch_state)


@contextmanager
def compiled_templates() -> Iterator[None]:
    """Let lm-eval compile each Jinja template once instead of once per document (a quarter of a call's time)."""
    import lm_eval.utils as lm_eval_utils

    env = lm_eval_utils.env
    env.from_string = functools.lru_cache(maxsize=256)(env.from_string)
    try:
        yield
    finally:
        del env.from_string  # which uncovers the method of the class


def _no_bar(iterable: Iterable[Any] = (), *_: Any, **__: Any) -> Iterable[Any]:
    return iterable
