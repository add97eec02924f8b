"""The bilingual template grammar: little stories, each sentence an (English, Japanese) pair.

A *template* is one wording of one sentence; the wording of a change is a verb put into a frame, so a
held-out wording consists of known words in a combination that the models have never seen. Every template
and every pair of numbers belongs to exactly one split (``train``, ``valid``, ``test``); a story of a split
uses templates and a first calculation of that split only. The models are trained on ``train`` templates
alone; on numbers of all pairs as long as nobody sets up or solves a problem with them, else on ``train``
pairs alone.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

Split = Literal["train", "valid", "test"]
Language = Literal["en", "ja"]

LANGUAGES: tuple[Language, ...] = ("en", "ja")


class Pair(NamedTuple):
    """One text in both languages."""

    en: str
    ja: str

    def text(self, language: Language) -> str:
        """Return the text in one language."""
        return self.en if language == "en" else self.ja


class Thing(NamedTuple):
    """A thing one can count, with the Japanese counter word for it."""

    en: str
    ja: str
    counter: str


class Template(NamedTuple):
    """One wording of one sentence, and the split it belongs to."""

    en: str
    ja: str
    split: Split


NAMES = (
    Pair("Tom", "トム"),
    Pair("Mary", "メアリー"),
    Pair("Ken", "健"),
    Pair("Yuki", "雪"),
    Pair("Hana", "花子"),
    Pair("Taro", "太郎"),
    Pair("Emi", "恵美"),
    Pair("Bob", "ボブ"),
)
THINGS = (
    Thing("apples", "りんご", "個"),
    Thing("oranges", "みかん", "個"),
    Thing("books", "本", "冊"),
    Thing("pencils", "鉛筆", "本"),
    Thing("eggs", "卵", "個"),
    Thing("coins", "コイン", "枚"),
    Thing("cards", "カード", "枚"),
    Thing("candies", "あめ", "個"),
    Thing("balls", "ボール", "個"),
    Thing("stamps", "切手", "枚"),
)
PLACES = (Pair("bag", "袋"), Pair("room", "部屋"), Pair("basket", "かご"), Pair("drawer", "引き出し"))

_PERSON_GAIN = (
    Pair("gets", "もらいました"),
    Pair("buys", "買いました"),
    Pair("finds", "見つけました"),
    Pair("picks up", "拾いました"),
    Pair("borrows", "借りました"),
)
_PERSON_LOSS = (
    Pair("loses", "なくしました"),
    Pair("sells", "売りました"),
    Pair("throws away", "捨てました"),
    Pair("uses", "使いました"),
    Pair("gives away", "あげました"),
)
_PLACE_GAIN = (Pair("puts in", "入れました"), Pair("brings", "持ってきました"), Pair("adds", "加えました"))
_PLACE_LOSS = (
    Pair("takes out", "取り出しました"),
    Pair("breaks", "こわしました"),
    Pair("takes away", "持っていきました"),
)
# {v} is the verb, {n} and {m} people, {o} things, {c} their counter, {p} a place, {a} {b} numbers.
_CHANGE_FRAMES = (
    Pair("{n} {v} {b} {o}.", "{n}は{o}を{b}{c}{v}。"),
    Pair("Then {n} {v} {b} {o}.", "それから{n}は{o}を{b}{c}{v}。"),
    Pair("At night {n} {v} {b}.", "夜{n}は{b}{c}{v}。"),
    Pair("Today {n} {v} {b}.", "今日{n}は{b}{c}{v}。"),
    Pair("{n} {v} {b} more.", "{n}はさらに{b}{c}{v}。"),
)
_DAILY_FRAMES = (
    Pair("{n} {v} {b} {o} every day for {a} days.", "{n}は{a}日間毎日{o}を{b}{c}{v}。"),
    Pair("For {a} days {n} {v} {b} {o} every day.", "{a}日間{n}は毎日{o}を{b}{c}{v}。"),
)


def _crossed(frames: Sequence[Pair], verbs: Sequence[Pair]) -> tuple[Template, ...]:
    """Return every verb in every frame; the table's diagonals are held out, so that every word is also trained."""
    splits: tuple[Split, ...] = ("test", "valid", "train", "train", "train")
    return tuple(
        Template(frame.en.replace("{v}", verb.en), frame.ja.replace("{v}", verb.ja), splits[(i + j) % 5])
        for i, frame in enumerate(frames)
        for j, verb in enumerate(verbs)
    )


TEMPLATES: dict[str, tuple[Template, ...]] = {
    "person_start": (
        Template("{n} has {a} {o}.", "{n}は{o}を{a}{c}持っています。", "train"),
        Template("At first {n} has {a} {o}.", "最初{n}は{o}を{a}{c}持っています。", "train"),
        Template("{n} has {a} {o} today.", "{n}は今日{o}を{a}{c}持っています。", "train"),
        Template("Today {n} has {a} {o}.", "今日{n}は{o}を{a}{c}持っています。", "valid"),
        Template("{n} has {a} {o} at first.", "{n}は最初{o}を{a}{c}持っています。", "test"),
    ),
    "person_gain": _crossed(_CHANGE_FRAMES, _PERSON_GAIN),
    "person_loss": _crossed(_CHANGE_FRAMES, _PERSON_LOSS),
    "person_question": (
        Template("How many {o} does {n} have now?", "{n}は今{o}を何{c}持っていますか?", "train"),
        Template("How many {o} does {n} have at the end?", "最後に{n}は{o}を何{c}持っていますか?", "train"),
        Template("How many {o} at the end does {n} have?", "{n}は最後に{o}を何{c}持っていますか?", "valid"),
        Template("How many {o} does {n} now have?", "今{n}は{o}を何{c}持っていますか?", "test"),
    ),
    "place_start": (
        Template("There are {a} {o} in the {p}.", "{p}に{o}が{a}{c}あります。", "train"),
        Template("At first there are {a} {o} in the {p}.", "最初{p}に{o}が{a}{c}あります。", "train"),
        Template("The {p} holds {a} {o}.", "{p}に{o}が{a}{c}入っています。", "train"),
        Template("Today there are {a} {o} in the {p}.", "今日{p}に{o}が{a}{c}あります。", "valid"),
        Template("At first the {p} holds {a} {o}.", "最初{p}に{o}が{a}{c}入っています。", "test"),
    ),
    "place_gain": _crossed(_CHANGE_FRAMES, _PLACE_GAIN),
    "place_loss": _crossed(_CHANGE_FRAMES, _PLACE_LOSS),
    "place_question": (
        Template("How many {o} are in the {p} now?", "{p}に{o}は今何{c}ありますか?", "train"),
        Template("How many {o} are in the {p} at the end?", "最後に{p}に{o}は何{c}ありますか?", "train"),
        Template("How many {o} at the end are in the {p}?", "{p}に{o}は最後に何{c}ありますか?", "valid"),
        Template("How many {o} are now in the {p}?", "今{p}に{o}は何{c}ありますか?", "test"),
    ),
    "groups": (
        Template(
            "There are {a} {p}s. Each {p} holds {b} {o}.",
            "{p}が{a}つあります。それぞれの{p}に{o}が{b}{c}入っています。",
            "train",
        ),
        Template("{a} children have {b} {o} each.", "{a}人の子供が{o}を{b}{c}ずつ持っています。", "train"),
        Template(
            "There are {a} {p}s. There are {b} {o} in each {p}.",
            "{p}が{a}つあります。それぞれの{p}に{o}が{b}{c}あります。",
            "test",
        ),
        Template(
            "There are {a} {p}s. Each {p} has {b} {o}.",
            "{p}が{a}つあります。それぞれの{p}に{o}が{b}{c}ずつ入っています。",
            "valid",
        ),
        *_crossed(_DAILY_FRAMES, _PERSON_GAIN),
    ),
    "groups_question": (
        Template("How many {o} are there in total?", "{o}は全部で何{c}ありますか?", "train"),
        Template("How many {o} is that altogether?", "{o}は合わせて何{c}ですか?", "train"),
        Template("How many {o} altogether is that?", "合わせて{o}は何{c}ですか?", "valid"),
        Template("How many {o} in total are there?", "全部で{o}は何{c}ありますか?", "test"),
    ),
    "together_question": (
        Template("How many {o} do they have together?", "二人は合わせて{o}を何{c}持っていますか?", "train"),
        Template("How many {o} do they have in total?", "二人は全部で{o}を何{c}持っていますか?", "train"),
        Template("How many {o} in total do they have?", "全部で二人は{o}を何{c}持っていますか?", "valid"),
        Template("How many {o} together do they have?", "合わせて二人は{o}を何{c}持っていますか?", "test"),
    ),
    "difference_question": (
        Template("How many more {o} does {n} have than {m}?", "{n}は{m}より{o}を何{c}多く持っていますか?", "train"),
        Template("How many {o} does {n} have more than {m}?", "{n}は{m}より何{c}多く{o}を持っていますか?", "valid"),
        Template("How many {o} more does {n} have than {m}?", "{m}より{n}は{o}を何{c}多く持っていますか?", "test"),
    ),
}

KINDS = (
    "person_add",
    "person_sub",
    "place_add",
    "place_sub",
    "groups",
    "together",
    "difference",
    "add_sub",
    "sub_add",
)
MAX_NUMBER = 15
MAX_FACTOR = 8


class Operation(NamedTuple):
    """One calculation of two numbers."""

    op: Literal["+", "-", "*"]
    left: int
    right: int

    @property
    def result(self) -> int:
        """The value of the calculation."""
        if self.op == "+":
            return self.left + self.right
        return self.left - self.right if self.op == "-" else self.left * self.right


@dataclass(frozen=True)
class Story:
    """A word problem in both languages, with what is needed to ask about it."""

    kind: str
    sentences: tuple[Pair, ...]
    question: Pair
    steps: tuple[Operation, ...]
    numbers: tuple[int, ...]
    people: tuple[Pair, Pair]
    thing: Thing
    place: Pair
    templates: tuple[Template, ...]

    @property
    def answer(self) -> int:
        """The number asked for."""
        return self.steps[-1].result

    def problem(self, language: Language) -> str:
        """Return sentences and question in one language."""
        return join([*self.sentences, self.question], language)


def join(sentences: Sequence[Pair], language: Language) -> str:
    """Return sentences joined, with blanks in English only."""
    return (" " if language == "en" else "").join(s.text(language) for s in sentences)


def expression(steps: Sequence[Operation]) -> str:
    """Return the set-up of a problem, nothing calculated: ``8+13-4``."""
    return f"{steps[0].left}" + "".join(f"{s.op}{s.right}" for s in steps)


def calculation(steps: Sequence[Operation]) -> str:
    """Return the expression worked out step by step: ``8+13-4=21-4=17``."""
    lines = [expression(steps)]
    for i, step in enumerate(steps):
        rest = "".join(f"{s.op}{s.right}" for s in steps[i + 1 :])
        lines.append(f"{step.result}{rest}")
    return "=".join(lines)


def pair_split(step: Operation) -> Split:
    """Return the split of a calculation: one in five is for the test, one in ten for validation.

    The order of the numbers of a sum or product does not matter, so knowing 3+5 from training does not
    help with a held-out 5+3: both are in the same split.
    """
    left, right = step.left, step.right
    if step.op != "-":
        left, right = min(left, right), max(left, right)
    place = hashlib.sha256(f"44:{left}{step.op}{right}".encode()).digest()[0] % 10
    return "test" if place < 2 else "valid" if place == 2 else "train"


def draw_steps(rng: random.Random, kind: str) -> tuple[Operation, ...]:
    """Return the calculations of a story of one kind; every number is 2 or more, every result 1 or more.

    Raises:
        ValueError: if there is no such kind.
    """
    if kind in ("person_add", "place_add", "together"):
        return (Operation("+", rng.randint(2, MAX_NUMBER), rng.randint(2, MAX_NUMBER)),)
    if kind in ("person_sub", "place_sub", "difference"):
        left = rng.randint(3, MAX_NUMBER)
        return (Operation("-", left, rng.randint(2, left - 1)),)
    if kind == "groups":
        return (Operation("*", rng.randint(2, MAX_FACTOR), rng.randint(2, MAX_FACTOR)),)
    if kind == "add_sub":
        first = Operation("+", rng.randint(2, 12), rng.randint(2, 8))
        return first, Operation("-", first.result, rng.randint(2, min(MAX_NUMBER, first.result - 1)))
    if kind == "sub_add":
        left = rng.randint(3, MAX_NUMBER)
        first = Operation("-", left, rng.randint(2, left - 1))
        return first, Operation("+", first.result, rng.randint(2, MAX_NUMBER))
    raise ValueError(f"unknown kind of story {kind!r}; known: {', '.join(KINDS)}")


def _steps_of_split(rng: random.Random, kind: str, split: Split) -> tuple[Operation, ...]:
    while True:
        steps = draw_steps(rng, kind)
        # Training never shows a held-out pair in a later step either; a test story needs only its first.
        if all(pair_split(s) == split for s in (steps if split == "train" else steps[:1])):
            return steps


def make_story(rng: random.Random, split: Split, kind: str | None = None, *, all_pairs: bool = False) -> Story:
    """Return a story with templates of one split, and with numbers of that split unless all pairs are allowed."""
    kind = kind or rng.choice(KINDS)
    steps = draw_steps(rng, kind) if all_pairs else _steps_of_split(rng, kind, split)
    people = rng.sample(NAMES, 2)
    thing = rng.choice(THINGS)
    place = rng.choice(PLACES)
    used: list[Template] = []

    def say(slot: str, a: int = 0, b: int = 0, *, swap: bool = False) -> Pair:
        template = rng.choice([t for t in TEMPLATES[slot] if t.split == split])
        used.append(template)
        n, m = reversed(people) if swap else people
        return Pair(
            template.en.format(n=n.en, m=m.en, o=thing.en, p=place.en, a=a, b=b),
            template.ja.format(n=n.ja, m=m.ja, o=thing.ja, c=thing.counter, p=place.ja, a=a, b=b),
        )

    first = steps[0]
    if kind == "groups":
        sentences = [say("groups", first.left, first.right)]
        question = say("groups_question")
    elif kind in ("together", "difference"):
        sentences = [say("person_start", first.left), say("person_start", first.right, swap=True)]
        question = say(f"{kind}_question")
    else:
        where = kind.split("_")[0] if kind.startswith("p") else rng.choice(("person", "place"))
        sentences = [say(f"{where}_start", first.left)]
        for step in steps:
            sentences.append(say(f"{where}_{'gain' if step.op == '+' else 'loss'}", b=step.right))
        question = say(f"{where}_question")
    numbers = (first.left, *(s.right for s in steps))
    return Story(kind, tuple(sentences), question, steps, numbers, (people[0], people[1]), thing, place, tuple(used))
