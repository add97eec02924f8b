"""How `evaluate` asks a model: lm-eval's own settings, which stand in for those of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from evomerge.errors import ConfigError
from evomerge.evaluation.chat import Chat, chat_problems
from evomerge.evaluation.harness import LmHarness
from evomerge.evaluation.task import TaskSpec, generation_problems
from evomerge.merge.live.settings import Tokenizers
from evomerge.merge.sources import Sources
from evomerge.recipe import Recipe


@dataclass(frozen=True)
class Asking:
    """Settings by the names that lm-eval has for them; None: as a run says, else lm-eval's default.

    Attributes:
        apply_chat_template: whether models are asked by their chat template; a name: by that one of several.
        system_instruction: the system message, before a task's own description.
        chat_template_args: what else the template is given, by name.
        fewshot_as_multiturn: whether solved examples are turns of a chat.
        think_end_token: the text, or the id of the token, behind which an answer begins.
        num_fewshot: solved examples in front of each question, of each task that does not fix them at none.
        gen_kwargs: settings that take the place of those of each task that asks for texts.
    """

    apply_chat_template: bool | str | None = None
    system_instruction: str | None = None
    chat_template_args: Mapping[str, Any] | None = None
    fewshot_as_multiturn: bool | None = None
    think_end_token: str | int | None = None
    num_fewshot: int | None = None
    gen_kwargs: Mapping[str, Any] | None = None

    def chat(self, own: Chat) -> Chat:
        """Return how models are asked.

        Args:
            own: how a run asks them.

        Raises:
            ConfigError: with every mistake of the settings alone.
        """
        said: dict[str, Any] = {
            "template": self.apply_chat_template,
            "system": self.system_instruction,
            "arguments": self.chat_template_args,
            "fewshot_as_turns": self.fewshot_as_multiturn,
            "think_end_token": None if self.think_end_token is None else str(self.think_end_token),
        }
        if self.apply_chat_template is False and self.chat_template_args is None:
            own = replace(own, arguments={})
        chat = replace(own, **{name: one for name, one in said.items() if one is not None})
        problems = chat_problems(
            chat, asks="apply_chat_template", arguments="chat_template_args", marker="think_end_token"
        )
        if self.fewshot_as_multiturn and not chat.template:
            problems.append("`fewshot_as_multiturn` is for a chat, but models are asked in plain text")
        problems += generation_problems(self.gen_kwargs or {}, "gen_kwargs")
        shots: Any = self.num_fewshot
        if shots is not None and (not isinstance(shots, int) or isinstance(shots, bool) or shots < 0):
            problems.append(f"`num_fewshot` must be a whole number of at least 0, but came {shots!r}")
        if problems:
            raise ConfigError(problems)
        return chat

    def of(self, spec: TaskSpec) -> TaskSpec:
        """Return an entry with the settings of its task."""
        shots = spec.num_fewshot if self.num_fewshot is None else self.num_fewshot
        generation = {**(spec.generation or {}), **(self.gen_kwargs or {})}
        return replace(spec, num_fewshot=shots, generation=generation or None)

    @property
    def changes_tasks(self) -> bool:
        """Whether tasks are asked in another way than they, or a run's entries, say."""
        return self.num_fewshot is not None or bool(self.gen_kwargs)


def check_asking(harness: LmHarness, chat: Chat, recipe: Recipe, who: str, sources: Sources) -> list[str]:
    """Check before any weights are read that a model can be asked so.

    Args:
        harness: the tasks.
        chat: how they are asked.
        recipe: the model.
        who: how a sentence calls it.
        sources: the opened models.

    Returns:
        What the user should know, one sentence each.

    Raises:
        ConfigError: with everything that fails.
        CheckpointError: if the tokenizer or the configuration cannot be read.
    """
    from lm_eval.models.utils import resolve_max_length

    tokenizer = Tokenizers().of(sources.tokenizer_of(recipe))
    lacking = chat.lacking(tokenizer) if chat.template else None
    if lacking is not None:
        raise ConfigError(f"the tokenizer of {who} has {lacking}, so it cannot be asked by one")
    problems, notes = harness.tried_templates([(who, tokenizer)])
    donor = sources.like(recipe.parents[0].source if recipe.path else recipe)
    problems += harness.generation_problems([(who, int(resolve_max_length(donor.config, tokenizer)))])
    if problems:
        raise ConfigError(problems)
    return notes
