"""How answers of real engines end, and which prompts are cut, on models whose answers are known."""

import pickle
from pathlib import Path
from typing import Any

import pytest
from evaluation_helpers import CHOICE, GENERATION, write_task
from rigged_models import rigged_model, saying

from evomerge.evaluation.engines.encoding import Encoder, is_cut
from evomerge.evaluation.engines.stopping import Stops, Text
from evomerge.evaluation.engines.units import UnitRange
from evomerge.evaluation.harness import LmHarness
from evomerge.evaluation.measures.registry import ALWAYS
from evomerge.evaluation.task import SplitSizes, TaskSpec
from evomerge.record import Split

CONTEXT = 24


@pytest.fixture(scope="module")
def crisp(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    """A model that answers "crisp" to every question: five letters and the end token."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    path = rigged_model(tmp_path_factory.mktemp("crisp"), saying("crisp"), context=CONTEXT)
    return AutoModelForCausalLM.from_pretrained(path), AutoTokenizer.from_pretrained(path)


def measured(
    folder: Path,
    crisp: tuple[Any, Any],
    *,
    limit: int,
    until: tuple[str, ...] = ("\n",),
    engine: str = "hf",
    **more: Any,
) -> list[dict[str, float]]:
    """Return the measures of two answers to questions of 2 and 11 characters."""
    settings = {"until": list(until), "max_gen_toks": limit, "do_sample": False, **more}
    documents = [{"question": "1:", "answer": "crisp"}, {"question": "1234567890:", "answer": "crisp"}]
    write_task(folder, "words", {"test": documents}, **{**GENERATION, "generation_kwargs": settings})
    harness = LmHarness(
        [TaskSpec("words", "exact_match")],
        sizes=SplitSizes(search=None, validation=0, test=0),
        include_path=[folder],
        engine=engine,
        measures=ALWAYS,
    )
    return [dict(score.metrics) for score in harness.score(*crisp, Split.SEARCH)]


@pytest.mark.parametrize("engine", ["hf", "lm-eval"])
@pytest.mark.parametrize(
    ("limit", "until", "cut", "n_tokens"),
    [
        (8, ("\n",), 0.0, 6),
        (6, ("\n",), 0.0, 6),  # the last token that it may have ends it
        (5, ("\n",), 1.0, 5),
        (5, ("sp",), 0.0, 5),  # the stop text comes with the last token
        (4, ("sp",), 1.0, 4),
        (5, ("s",), 0.0, 4),
    ],
)
def test_an_answer_is_cut_if_neither_an_end_token_nor_a_stop_text_ended_it(
    crisp: tuple[Any, Any], tmp_path: Path, engine: str, limit: int, until: tuple[str, ...], cut: float, n_tokens: int
) -> None:
    for found in measured(tmp_path, crisp, limit=limit, until=until, engine=engine):
        assert found["cut_answers"] == cut
        if engine == "hf":
            assert found["generated_tokens"] == n_tokens


def test_what_lm_eval_answers_is_cut_by_its_length(crisp: tuple[Any, Any], tmp_path: Path) -> None:
    beams = {"num_beams": 2}
    assert [one["cut_answers"] for one in measured(tmp_path / "a", crisp, limit=5, **beams)] == [1.0, 1.0]
    found = measured(tmp_path / "b", crisp, limit=8, **beams)
    assert [one["cut_answers"] for one in found] == [0.0, 0.0]
    assert not any("cut_prompts" in one for one in found)  # lm-eval encodes them itself


@pytest.mark.parametrize("engine", ["hf", "lm-eval"])
def test_prompts_that_leave_no_room_for_the_answer_are_cut(crisp: tuple[Any, Any], tmp_path: Path, engine: str) -> None:
    fits = measured(tmp_path / "a", crisp, limit=CONTEXT - 11, engine=engine)
    assert [one["cut_prompts"] for one in fits] == [0.0, 0.0]
    longer = measured(tmp_path / "b", crisp, limit=CONTEXT - 10, engine=engine)
    assert [one["cut_prompts"] for one in longer] == [0.0, 1.0]
    assert all(one["exact_match"] == 1.0 and one["cut_answers"] == 0.0 for one in longer)


def test_contexts_of_options_are_cut_and_counted_by_item(crisp: tuple[Any, Any], tmp_path: Path) -> None:
    documents = [
        {"question": "q" * length, "choices": ["a", "bcdef"], "gold": 0} for length in (CONTEXT - 5, CONTEXT - 4, 40)
    ]
    write_task(tmp_path, "options", {"test": documents}, **CHOICE)
    harness = LmHarness(
        [TaskSpec("options", "acc")],
        sizes=SplitSizes(search=None, validation=0, test=0),
        include_path=[tmp_path],
        measures=ALWAYS,
    )
    # Read are the context, a space, and the option but for its last letter.
    found = [dict(score.metrics) for score in harness.score(*crisp, Split.SEARCH)]
    assert [one["cut_prompts"] for one in found] == [0.0, 1.0, 1.0]
    assert not any("cut_answers" in one for one in found)


def test_the_encoder_says_how_much_it_cut(crisp: tuple[Any, Any]) -> None:
    encoder = Encoder(crisp[1], 10)
    cut = encoder.encode("generate_until", ("1234567890", {"until": ["\n"], "max_gen_toks": 4}))
    assert (cut.prompt, cut.n_cut) == (tuple(crisp[1]("567890")["input_ids"]), 4)  # type: ignore[union-attr]
    whole = encoder.encode("generate_until", ("567890", {"until": ["\n"], "max_gen_toks": 4}))
    assert whole.n_cut == 0  # type: ignore[union-attr]
    assert encoder.encode("loglikelihood", ("1234567890", "ab")).n_cut == 1  # type: ignore[union-attr]
    rolling = encoder.encode("loglikelihood_rolling", ("1234567890" * 3,))
    assert [is_cut(one) for one in (cut, whole, rolling, None)] == [True, False, False, None]


def test_why_an_answer_ended_goes_with_it_to_another_process(crisp: tuple[Any, Any], tmp_path: Path) -> None:
    measured(tmp_path, crisp, limit=5)
    harness = LmHarness(
        [TaskSpec("words", "exact_match")],
        sizes=SplitSizes(search=None, validation=0, test=0),
        include_path=[tmp_path],
        measures=ALWAYS,
    )
    answers = pickle.loads(pickle.dumps(harness.answers(*crisp, Split.SEARCH, None, UnitRange())))
    scores = harness.scores(*crisp, Split.SEARCH, None, [answers])
    assert [score.metrics["cut_answers"] for score in scores] == [1.0, 1.0]
    text = Text("crisp", 5, cut=True)
    assert (pickle.loads(pickle.dumps(text)).cut, pickle.loads(pickle.dumps(Text("a", 1))).cut) == (True, False)


def test_an_answer_of_special_tokens_alone_is_empty(crisp: tuple[Any, Any]) -> None:
    tokenizer = crisp[1]
    stops = Stops(tokenizer, ["\n", tokenizer.eos_token])
    end = tokenizer.eos_token_id
    assert stops.text([end], limit=1, eos={end}) == "" and not stops.text([end], limit=1, eos={end}).cut
    assert not stops.text([end], limit=1, eos=set()).cut  # the tokenizer's end of text is a stop text, too
