"""Runs that belong together, and what the others are called."""

from __future__ import annotations

from typing import Any

from made_runs import HOSTILE

from evomerge.report.groups import groups_of, labels_of

FEW = {"candidates": 0, "baselines": False, "choice": None, "genes": False, "kinship": False}


def test_runs_that_differ_in_the_seed_alone_are_one_group(open_made: Any) -> None:
    runs = [open_made(seed=seed, config={"execution": {"device": f"cuda:{seed}"}}, **FEW) for seed in (0, 1)]
    (group,) = groups_of(runs)
    assert (group.label, group.runs, group.setting) == ("made up", tuple(runs), {})
    assert labels_of(runs) == ("seed 0", "seed 1")
    assert labels_of(runs[:1]) == ("made up",)


def test_a_group_is_called_by_what_most_others_have_not(open_made: Any) -> None:
    cma = {"optimizer": {"name": "cma", "sigma": 0.2}}
    wide = {"optimizer": {"name": "cma", "sigma": 0.4}}
    other = {"optimizer": {"name": "random"}, "fitness": {"items": 30}}
    runs = [open_made(seed=seed, config=config, **FEW) for config in (cma, wide, other) for seed in (0, 1)]
    groups = groups_of([*runs[::2], *runs[1::2]])
    assert [group.label for group in groups] == [
        "optimizer.sigma=0.2",
        "optimizer.sigma=0.4",
        "optimizer=random, fitness.items=30",  # a random search has no sigma that one could ask for
    ]
    assert groups[0].setting == {"optimizer.name": "cma", "optimizer.sigma": "0.2", "fitness.items": "–"}
    assert [group.label for group in groups_of([runs[0], runs[4]])] == [
        "optimizer=cma, fitness.items=–",
        "optimizer=random, fitness.items=30",
    ]
    assert [[run.seed for run in group.runs] for group in groups] == [[0, 1]] * 3
    assert labels_of(runs)[-1] == "optimizer=random, fitness.items=30, seed 1"


def test_a_name_that_no_other_group_has_says_enough(open_made: Any) -> None:
    runs = [
        open_made(name=name, config={"fitness": {"items": n}}, **FEW)
        for name, n in (("small", 1), ("large", 2), ("large", 3))
    ]
    assert [group.label for group in groups_of(runs)] == ["small", "large, fitness.items=2", "large, fitness.items=3"]
    assert groups_of(runs)[0].setting == {"fitness.items": "1"}


def test_equal_runs_have_labels_of_their_own(open_made: Any) -> None:
    runs = [open_made(seed=7, **FEW) for _ in range(2)]
    assert labels_of(runs) == ("seed 7 (run0)", "seed 7 (run1)")


def test_names_may_be_anything(open_made: Any) -> None:
    runs = [open_made(name=HOSTILE, config={"method": {"name": name * 99}}, **FEW) for name in (HOSTILE, "b")]
    assert len(set(labels_of(runs))) == 2
    assert all(len(label) < 200 for label in labels_of(runs))
