"""Refuses layer paths that would compute something else in memory than their folder does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from evomerge.errors import CheckpointError
from evomerge.merge.cache import Latest
from evomerge.merge.files.model import OpenModel
from evomerge.merge.paths.compatible import CompatibleParents
from evomerge.merge.paths.placed import path_problems, problems_of_path
from evomerge.recipe import Step


class Places:
    """What is known of the places at which models' layers may stand.

    Each model is asked once whether its layers may stand anywhere, so that the candidates of a search pay nothing. Only
    a path over models whose layers may not is looked at for itself.
    """

    def __init__(self) -> None:
        self._fixed: Latest[int, list[str]] = Latest()
        self._paths: Latest[tuple[tuple[int, ...], tuple[tuple[str, int], ...]], list[str]] = Latest()

    def problems(self, opened: OpenModel) -> list[str]:
        """Return why a model's layers cannot run in any order; see `path_problems`."""
        return self._fixed.find(opened.serial, lambda: path_problems(opened))

    def check(self, compatible: CompatibleParents, path: Sequence[Step], models: Mapping[str, OpenModel]) -> None:
        """Check that a path computes in memory what its folder does.

        Args:
            compatible: the parents.
            path: layers that they have.
            models: each parent by its name, as its own files have it.

        Raises:
            CheckpointError: if it does not.
        """
        used = {name: models[name] for name in (compatible.members[0][0], *(step.parent for step in path))}
        if not any(self.problems(one) for one in used.values()):
            return
        key = (tuple(one.serial for one in models.values()), tuple((step.parent, step.layer) for step in path))
        problems = self._paths.find(key, lambda: problems_of_path(compatible, path))
        if problems:
            lines = "\n".join(f"  - {problem}" for problem in problems)
            first = compatible.members[0][0]
            raise CheckpointError(
                f"this path over layers of {first} ({compatible.first.label}) cannot run in memory as it would "
                f"from its folder:\n{lines}\nmerge it into a folder with `evomerge merge`, and evaluate that"
            )
