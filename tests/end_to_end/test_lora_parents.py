"""Adapters as parents from the configuration to a checkpoint: search, stop, resume, a changed adapter, export."""

import sys
from pathlib import Path

import pytest
import tiny_search
import torch
from transformers import AutoModelForCausalLM

from evomerge import api
from evomerge.errors import EvomergeError, Interrupted
from evomerge.execution.base import StopSignal
from evomerge.record import Record, Score, Split

sys.path.append(str(Path(__file__).parents[1] / "merge" / "adapters"))

import peft_adapters


class StopAfter:
    """Asks a search to stop after so many candidates."""

    def __init__(self, candidates: int) -> None:
        self.signal, self._left = StopSignal(), candidates

    def phase(self, name: str, total: int | None, done: int) -> None:
        pass

    def scored(self, record: Record, split: Split, score: Score | None) -> None:
        if split == Split.SEARCH and not record.is_baseline:
            self._left -= 1
            if self._left == 0:
                self.signal.request()


def test_a_search_over_adapters_is_continued_and_exported(tmp_path: Path) -> None:
    file = tiny_search.write_tiny(tmp_path)
    base = tmp_path / "models" / "base"
    first = peft_adapters.adapt(base, tmp_path / "first", 1, target_modules=["q_proj", "down_proj"], r=2)
    second = peft_adapters.adapt(base, tmp_path / "second", 2, target_modules=["v_proj"], use_dora=True)
    parents = f"models.parents={{a:{first},b:{{path:{base},adapter:{second}}}}}"
    config = tiny_search.composed(file, parents)
    whole = api.search(config, run_dir=tmp_path / "whole").path
    stopped = tmp_path / "stopped"
    stop = StopAfter(2)
    with pytest.raises(Interrupted):
        api.search(config, run_dir=stopped, listener=stop, stop=stop.signal)
    api.resume(stopped)
    both = [[one.to_data() for one in api.records(run, baselines=True)] for run in (stopped, whole)]
    assert both[0] == both[1]
    assert {one.name for one in api.records(whole, baselines=True) if one.is_baseline} >= {"a", "b"}
    out = api.export(whole, tmp_path / "out", force=True)
    assert AutoModelForCausalLM.from_pretrained(out)(torch.tensor([[1, 2, 3]])).logits.isfinite().all()

    # Another adapter under the same name is another search.
    peft_adapters.adapt(base, first, 3, target_modules=["q_proj", "down_proj"], r=2)
    with pytest.raises(EvomergeError, match=r"a.*(adapter|changed)"):
        api.resume(whole)
