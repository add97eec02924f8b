"""What models are asked, in words, for those who read their answers later."""

from __future__ import annotations

from collections.abc import Sequence

from evomerge.assembly.prepare import Prepared
from evomerge.merge.live.settings import Tokenizers
from evomerge.recipe import Recipe
from evomerge.record import ItemPrompt, Split
from evomerge.search.kept_answers import Asked


class AskedPrompts:
    """Returns the prompts of a split as the model of a recipe gets them; with chat templates, by its own tokenizer."""

    def __init__(self, prepared: Prepared) -> None:
        self._prepared = prepared
        self._tokenizers = Tokenizers()

    def __call__(self, recipe: Recipe, split: Split) -> Asked:
        """Return the name of what decides how prompts are written, and what returns them."""
        harness, tokenizer = self._prepared.harness, None
        if self._prepared.config.evaluation.chat.template:
            tokenizer = self._tokenizers.of(self._prepared.sources.tokenizer_of(recipe))

        def prompts() -> Sequence[ItemPrompt]:
            return harness.prompts(split, tokenizer)

        return harness.variant(tokenizer), prompts
