"""`evomerge zoo`: the built-in tiny models."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from evomerge.cli.streams import say


def run(words: Sequence[str]) -> int:
    """List the zoo's models and tasks, or train them anew."""
    if words[:1] == ["train"]:
        from evomerge.zoo.train import main as train

        return train(list(words[1:]))
    parser = argparse.ArgumentParser(
        prog="evomerge zoo",
        description="The built-in tiny models and tasks. `evomerge zoo train --help` trains them from scratch.",
    )
    parser.parse_args(words)

    from evomerge.zoo import MODELS, tasks_path, zoo_path

    print("models (name them zoo:NAME wherever a model is asked for)")
    for name in MODELS:
        say(f"  zoo:{name:<10} {zoo_path(name)}")
    print("tasks (evaluation.include_path=zoo:tasks)")
    for path in sorted(tasks_path().glob("*.yaml")):
        if not path.name.startswith("_"):
            say(f"  {path.stem}")
    return 0
