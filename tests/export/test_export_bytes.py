"""A second export has the bytes of the first: on another day, elsewhere, with other threads and another hash seed."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from evomerge.recipe import Recipe
from evomerge.record import Choice, ItemAnswer, ItemPrompt, Record, Score, Split, State
from evomerge.store import RunDir

LATER = """
import datetime, os, sys, time
day, threads = float(sys.argv[4]), int(sys.argv[5])
class Later(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return super().now(tz) + datetime.timedelta(days=day)
    @classmethod
    def today(cls):
        return super().today() + datetime.timedelta(days=day)
real = time.time
datetime.datetime, time.time = Later, lambda: real() + day * 86400
import torch
torch.set_num_threads(threads)
from evomerge import api
run, out, title = sys.argv[1:4]
api.export_several(run, out, front=True, title=title, shard_size=9_000)
"""


@pytest.fixture
def run(tmp_path: Path, recipe: Recipe) -> Path:
    score = {split: Score(0.5, 0.4, 0.6, 20) for split in Split}
    tasks = [{"name": "sums", "metric": "exact_match"}]
    names = {parent.name: str(parent.source.path) for parent in recipe.parents}
    config = {"name": "study", "seed": 3, "models": {"parents": names}, "evaluation": {"tasks": tasks}}
    with RunDir.create(tmp_path / "outputs" / "run", config=config) as run:
        database = run.database
        for number, name in enumerate(names):
            parent = Recipe(method="linear", parents=(recipe.parents[number],))
            database.add(Record(-1 - number, name, State.COMPLETE, parent, scores=score, fitness=0.4))
        for number in range(2):
            made = replace(recipe, parameters={"weight": 0.3 + number / 2})
            database.add(Record(number, f"candidate {number}", State.COMPLETE, made, (0.1,), 0.5, score))
        kept = [ItemAnswer("sums", item, [" ".join(f"word{item + i}" for i in range(20))]) for item in range(12)]
        settings = {"until": ["word9"], "max_gen_toks": 16}
        asked = [ItemPrompt("sums", item, [[f"word{item} word7 word8", settings]], "word1") for item in range(12)]
        for number in (-1, -2, 0, 1):
            database.answers.put(number, Split.TEST, kept, variant="plain")
        database.answers.put_prompts("plain", Split.TEST, asked)
        database.set_choice(Choice("front", (1, 0)))
    return run.path


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_a_second_export_has_the_same_bytes(run: Path, tmp_path: Path) -> None:
    found = []
    for place, day, threads, seed, zone in [("here", 0, 1, "1", "UTC"), ("there/deep", 300, 2, "77", "Asia/Tokyo")]:
        (tmp_path / place).mkdir(parents=True)
        out = tmp_path / place / f"out-{seed}"
        variables = {**os.environ, "PYTHONHASHSEED": seed, "TZ": zone, "PYTHONPATH": str(Path(__file__).parents[2])}
        words = [sys.executable, "-c", LATER, str(run), str(out), "study merge", str(day), str(threads)]
        done = subprocess.run(words, cwd=tmp_path / place, env=variables, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-3000:]
        found.append(contents(out))
    first, second = found
    assert first.keys() == second.keys()
    assert {name for name in first if first[name] != second[name]} == set()
    assert {Path(name).parts[0] for name in first} == {"candidate-0", "candidate-1"}
    assert {"candidate-0/README.md", "candidate-0/recipe.yaml", "candidate-0/tokenizer.json"} <= first.keys()
    assert "candidate-1/model-00002-of-00003.safetensors" in first
    card = first["candidate-1/README.md"].decode()
    assert "# study merge candidate-1" in card and "## Verified" in card and "prompts of its tasks" in card
