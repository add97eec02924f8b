"""Recipes with layer paths for the tests of the report."""

import numpy as np

from evomerge.recipe import ModelSource, Parent, Recipe, Step


def path_recipe(path: list[Step], sources: dict[str, ModelSource | Recipe] | None = None) -> Recipe:
    """A recipe over the parents that a path names, in order of appearance, or over those that `sources` lists."""
    names = dict.fromkeys(step.parent for step in path)
    chosen = sources or {name: ModelSource(f"org/{name}") for name in names}
    return Recipe("passthrough", tuple(Parent(name, source) for name, source in chosen.items()), path=tuple(path))


def example() -> Recipe:
    """Ten steps with a jump, a jump back, two repeated layers and three scales."""
    steps = [("math", 0, 1.0), ("math", 1, 1.0), ("math", 2, 1.0), ("math", 3, 1.0), ("japanese", 2, 0.8)]
    steps += [("japanese", 3, 1.0), ("japanese", 3, 1.3), ("math", 2, 0.62), ("math", 3, 1.0), ("math", 5, 1.0)]
    return path_recipe([Step(*step) for step in steps])


def random_recipe(n_steps: int, n_parents: int, seed: int) -> Recipe:
    generator = np.random.default_rng(seed)
    names = [f"parent-number-{i}-with-a-name-that-fills-more-than-its-column" for i in range(n_parents)]
    steps = [
        Step(names[generator.integers(n_parents)], int(generator.integers(120)), float(np.exp(generator.normal())) ** 2)
        for _ in range(n_steps)
    ]
    return path_recipe(steps)
