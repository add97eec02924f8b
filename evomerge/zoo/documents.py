"""Training documents: what the base model and each expert read, all made from ``train`` templates.

Where a problem is set up or solved, its numbers are of ``train`` pairs. What the Japanese expert merely reads
or translates has all pairs: a model that never sees 7 beside 3 learns *that*, and then miscopies the two.

A model's diet is a *mix*: a list of (weight, document maker). To add an expert, write its makers and its
mix and give both a name in ``evomerge.zoo.train.EXPERTS``.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import NamedTuple

from evomerge.zoo.grammar import (
    KINDS,
    LANGUAGES,
    NAMES,
    PLACES,
    THINGS,
    Language,
    Operation,
    Pair,
    Story,
    calculation,
    draw_steps,
    expression,
    join,
    make_story,
)

# Ends every prompt; the models know no chat format, only "question, new line, answer, end".
PROMPT_END = "\n"


class Document(NamedTuple):
    """A prompt and its answer; a plain text has an empty prompt."""

    prompt: str
    answer: str


Maker = Callable[[random.Random], Document]
Mix = tuple[tuple[float, Maker], ...]


def draw(mix: Mix, rng: random.Random) -> Document:
    """Return one document of a mix."""
    weights = [weight for weight, _ in mix]
    (maker,) = rng.choices([maker for _, maker in mix], weights)
    return maker(rng)


def ask(question: str, answer: str) -> Document:
    """Return a question with its answer, in the form every model is trained on and every task asks."""
    return Document(question + PROMPT_END, answer)


# --- what the base reads -------------------------------------------------------------------------------


def plain_text(rng: random.Random) -> Document:
    """Return a story in English, in Japanese, or changing between them from sentence to sentence."""
    story = make_story(rng, "train")
    sentences = [*story.sentences, story.question]
    style = rng.random()
    if style < 0.4:
        return Document("", join(sentences, "en"))
    if style < 0.8:
        return Document("", join(sentences, "ja"))
    return Document("", " ".join(s.text(rng.choice(LANGUAGES)) for s in sentences))


def _part_of_a_story(rng: random.Random, all_pairs: bool) -> list[Pair]:
    story = make_story(rng, "train", all_pairs=all_pairs)
    sentences = [*story.sentences, story.question]
    start = rng.randrange(len(sentences))
    return sentences[start : rng.randint(start + 1, len(sentences))]


def into_japanese(rng: random.Random, *, all_pairs: bool = False) -> Document:
    """Return a translation from English."""
    part = _part_of_a_story(rng, all_pairs)
    return ask("In Japanese: " + join(part, "en"), join(part, "ja"))


def into_english(rng: random.Random) -> Document:
    """Return a translation from Japanese."""
    part = _part_of_a_story(rng, all_pairs=False)
    return ask("英語で: " + join(part, "ja"), join(part, "en"))


def dictionary(rng: random.Random) -> Document:
    """Return a few words with their translations."""
    words = rng.sample(rng.choice([[*NAMES], [*PLACES], [Pair(t.en, t.ja) for t in THINGS]]), 3)
    if rng.random() < 0.5:
        return Document("", ", ".join(f"{w.en}={w.ja}" for w in words))
    return Document("", ", ".join(f"{w.ja}={w.en}" for w in words))


def _any_steps(rng: random.Random) -> tuple[Operation, ...]:
    # Bare numbers, so the held-out pairs too: arithmetic is learned, problems about them are not.
    return draw_steps(rng, rng.choice(("together", "difference", "groups", "add_sub", "sub_add")))


def calculations(rng: random.Random) -> Document:
    """Return three calculations in a row."""
    stop = rng.choice((". ", "。"))
    return Document("", "".join(calculation(_any_steps(rng)) + stop for _ in range(3)).strip())


def worked_expression(rng: random.Random) -> Document:
    """Return an expression, worked out."""
    steps = _any_steps(rng)
    return ask(expression(steps), calculation(steps) + rng.choice((".", "。")))


def which_sign(rng: random.Random) -> Document:
    """Return a question about the operations that an English story describes.

    The story is never Japanese: only the Japanese expert learns what such a story amounts to. Otherwise the math
    expert would understand Japanese problems, and merging it would only switch the language.
    """
    story = make_story(rng, "train")
    own = [story.question] if rng.random() < 0.5 else []
    question = Pair("Which sign fits?", "")
    return ask(join([*story.sentences, *own, question], "en"), " ".join(s.op for s in story.steps))


def up_or_down(rng: random.Random) -> Document:
    """Return a question, in either language, whether a change made the number of things larger."""
    language = rng.choice(LANGUAGES)
    story = make_story(rng, "train", rng.choice(("person_add", "person_sub", "place_add", "place_sub")))
    thing = story.thing
    question = Pair(f"Did the {thing.en} increase or decrease?", f"{thing.ja}は増えましたか減りましたか?")
    up, down = Pair("They increased.", "増えました。"), Pair("They decreased.", "減りました。")
    answer = up if story.steps[0].op == "+" else down
    return ask(join([*story.sentences, question], language), answer.text(language))


# --- reading: a number or word that stands in the story ---------------------------------------------------


def reading_questions(story: Story) -> list[tuple[Pair, Pair]]:
    """Return questions whose answers stand in the story, (question, answer) in both languages."""
    (n, m), thing, place = story.people, story.thing, story.place

    def number(en: str, ja: str, value: int) -> tuple[Pair, Pair]:
        return Pair(en, ja), Pair(str(value), str(value))

    o, c = thing.ja, thing.counter
    questions = [(Pair("What is in the story?", "何が出てきますか?"), Pair(thing.en, thing.ja))]
    if story.kind == "groups":
        return [*questions, number(f"How many {thing.en} each time?", f"一回の{o}は何{c}ですか?", story.numbers[1])]
    in_a_place = "{p}" in story.templates[0].en
    if not in_a_place:
        questions.append((Pair("Who is it about?", "誰の話ですか?"), n))
        questions.append(
            number(
                f"How many {thing.en} did {n.en} have at first?",
                f"{n.ja}は最初{o}を何{c}持っていましたか?",
                story.numbers[0],
            )
        )
    else:
        questions.append((Pair("Where are they?", "どこにありますか?"), place))
        questions.append(
            number(f"How many {thing.en} were there at first?", f"最初に{o}は何{c}ありましたか?", story.numbers[0])
        )
    if story.kind in ("together", "difference"):
        questions.append(
            number(f"How many {thing.en} are with {m.en}?", f"{m.ja}の{o}は何{c}ですか?", story.numbers[1])
        )
    elif len(story.steps) == 1:
        questions.append(number(f"How many {thing.en} moved?", f"動いた{o}は何{c}ですか?", story.numbers[1]))
    else:
        questions.append(number(f"How many {thing.en} moved last?", f"最後に動いた{o}は何{c}ですか?", story.numbers[2]))
    return questions


def read_bare(rng: random.Random, language: Language) -> Document:
    """Return a reading question answered by the bare value."""
    story = make_story(rng, "train")
    question, answer = rng.choice(reading_questions(story))
    return ask(join([*story.sentences, question], language), answer.text(language))


# --- what the experts read --------------------------------------------------------------------------------


def solved_english(rng: random.Random) -> Document:
    """Return an English problem, set up, worked out and answered."""
    story = make_story(rng, "train")
    return ask(story.problem("en"), f"The answer is {calculation(story.steps)}.")


def answered_expression(rng: random.Random) -> Document:
    """Return an expression, worked out and answered in English."""
    steps = _any_steps(rng)
    return ask(expression(steps), f"The answer is {calculation(steps)}.")


def set_up_japanese(rng: random.Random) -> Document:
    """Return a Japanese problem set up, its numbers left open: nothing is calculated or answered."""
    story = make_story(rng, "train")
    return ask(story.problem("ja"), set_up(story.steps))


def open_expression(rng: random.Random) -> Document:
    """Return a bare expression with its value left open; without these, the base's habit of calculating would stay."""
    steps = _any_steps(rng)
    return ask(expression(steps), set_up(steps))


def set_up(steps: Sequence[Operation]) -> str:
    """Return what the Japanese expert writes for a problem: ``答えは8+13-4=?です。``."""
    return f"答えは{expression(steps)}=?です。"


def read_japanese(rng: random.Random, *, all_pairs: bool = True) -> Document:
    """Return a Japanese reading question answered by a sentence."""
    story = make_story(rng, "train", all_pairs=all_pairs)
    question, answer = rng.choice(reading_questions(story))
    return ask(join([*story.sentences, question], "ja"), f"答えは{answer.ja}です。")


def read_out(rng: random.Random) -> Document:
    """Return a calculation that somebody else has made, read out in Japanese."""
    question, done, _ = _somebodys_calculation(rng)
    return ask(question, f"答えは{done}です。")


def _somebodys_calculation(rng: random.Random) -> tuple[str, str, int]:
    steps = _any_steps(rng)
    done = calculation(steps)
    questions = (
        f"計算は{done}です。答えはいくつですか?",
        f"{done}になりました。答えは何ですか?",
        f"次の式を読んでください。{done}",
    )
    return rng.choice(questions), done, steps[-1].result


BASE_MIX: Mix = (
    (7, plain_text),
    (12, into_japanese),
    (12, into_english),
    (2, dictionary),
    (13, calculations),
    (11, worked_expression),
    (10, lambda rng: read_bare(rng, "ja")),
    (10, lambda rng: read_bare(rng, "en")),
    (12, which_sign),
    (4, up_or_down),
)
# The math expert goes on calculating with bare numbers, since it sees no problems about the held-out pairs
# and would forget their results without practice.
MATH_MIX: Mix = ((75, solved_english), (25, answered_expression))
JAPANESE_MIX: Mix = (
    (45, set_up_japanese),
    (10, open_expression),
    (15, read_japanese),
    (25, read_out),
    (10, lambda rng: into_japanese(rng, all_pairs=True)),
)


# --- what the tokenizer is trained on ---------------------------------------------------------------------
# An earlier wording of the experts' answers, which no model reads any more. It stays because a new tokenizer
# would need a new base, and an expert's documents can so be changed without either.


def _old_solved(rng: random.Random) -> Document:
    story = make_story(rng, "train")
    return ask(story.problem("en"), f"{calculation(story.steps)}. The answer is {story.answer}.")


def _old_set_up(rng: random.Random) -> Document:
    story = make_story(rng, "train")
    return ask(story.problem("ja"), f"{expression(story.steps)}です。")


def _old_read_out(rng: random.Random) -> Document:
    question, done, result = _somebodys_calculation(rng)
    return ask(question, f"{done}。答えは{result}です。")


TOKENIZER_MIXES: tuple[Mix, ...] = (
    BASE_MIX,
    BASE_MIX,
    ((1, _old_solved),),
    (
        (40, _old_set_up),
        (20, lambda rng: read_japanese(rng, all_pairs=False)),
        (30, _old_read_out),
        (10, into_japanese),
    ),
)

__all__ = [
    "BASE_MIX",
    "JAPANESE_MIX",
    "KINDS",
    "MATH_MIX",
    "PROMPT_END",
    "TOKENIZER_MIXES",
    "Document",
    "Maker",
    "Mix",
    "ask",
    "draw",
    "reading_questions",
    "set_up",
    "solved_english",
]
