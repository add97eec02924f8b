"""Layer paths from the configuration to a checkpoint: search, stop, resume, show, export, verify."""

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from evomerge import api
from evomerge.cli.compose import compose
from evomerge.cli.main import main
from evomerge.errors import Interrupted
from evomerge.execution.base import StopSignal
from evomerge.merge.live.models import LiveModels
from evomerge.record import Record, Score, Split

SMALL = ["budget.candidates=6", "evaluation.split={search:4,validation:4,test:4}", "evaluation.finalists=2"]


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


def rows(run: Path) -> list[dict]:
    return [record.to_data() for record in api.records(run, baselines=True)]


@pytest.mark.slow
def test_weights_first_then_layers_stopped_in_each_stage_and_resumed(tmp_path: Path) -> None:
    config = compose(["zoo_ps_then_dfs", *SMALL])
    whole = api.search(config, run_dir=tmp_path / "whole").path
    stopped = tmp_path / "stopped"
    for candidates in (2, 2):  # in the first stage; after two more, in the second
        stop = StopAfter(candidates)
        with pytest.raises(Interrupted):
            if stopped.exists():
                api.resume(stopped, listener=stop, stop=stop.signal)
            else:
                api.search(config, run_dir=stopped, listener=stop, stop=stop.signal)
    api.resume(stopped)
    assert rows(stopped) == rows(whole)
    found = api.records(whole)
    assert [bool(record.recipe.path) for record in found[:3]] == [False] * 3
    best = max(found[:3], key=lambda record: (record.fitness, -record.number))
    for record in found[3:]:
        recipe = record.recipe
        # A later candidate runs over the best merge of the first stage, or is that merge itself.
        assert recipe == best.recipe or recipe.parents[0].source == best.recipe


@pytest.fixture(scope="module")
def joint_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return api.search(compose(["zoo_joint", *SMALL]), run_dir=tmp_path_factory.mktemp("joint") / "run").path


@pytest.mark.slow
def test_a_joint_candidate_is_saved_as_a_stock_checkpoint(joint_run: Path, tmp_path: Path) -> None:
    from evomerge.export import export_run
    from evomerge.store.run_dir import RunDir

    stacked = [record for record in api.records(joint_run) if record.recipe.path]
    assert stacked
    number, recipe = stacked[-1].number, stacked[-1].recipe
    with RunDir.open(joint_run) as run:
        export_run(run, tmp_path / "out", number=number)
    saved = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32)
    assert type(saved).__name__ == "LlamaForCausalLM"
    assert saved.config.num_hidden_layers == len(recipe.path)
    live = LiveModels(dtype="float32")
    live.write(recipe)
    tokens = torch.randint(saved.config.vocab_size, (3, 20), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        one, two = saved(tokens).logits, live.model(tokens).logits
    assert float((one - two).abs().max() / two.abs().max()) < 1e-4


@pytest.mark.slow
def test_a_path_is_searched_shown_exported_and_verified_from_the_command_line(tmp_path: Path, capsys) -> None:
    run, out = tmp_path / "run", tmp_path / "model"
    assert main(["search", "zoo_dataflow", *SMALL, f"run.dir={run}"]) == 0
    capsys.readouterr()
    assert main(["show", str(run)]) == 0
    assert "japanese" in capsys.readouterr().out
    assert (run / "path.svg").read_text().startswith("<svg") and (run / "path.png").stat().st_size > 1000
    assert main(["export", str(run), "--out", str(out)]) == 0
    assert "verified" in capsys.readouterr().out
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("トムはりんごを3個持っています。\n")
    assert main(["verify", str(run), str(out), "--prompts", str(prompts), "--tokens", "4", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["passed"] is True
    status = api.status(run)
    assert [baseline["name"] for baseline in status["baselines"]] == ["japanese", "math", "average"]


def test_a_run_without_a_path_has_nothing_to_show(zoo_run: Path, capsys) -> None:
    assert main(["show", str(zoo_run)]) == 2
    assert "no layer path to draw" in capsys.readouterr().err
