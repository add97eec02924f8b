"""Segments, and a merge with a path through it in one genome."""

from __future__ import annotations

from typing import Any

import pytest
from genome_cases import make as make_parameters
from path_cases import AnySpace, joint, parents_of, paths, segments

from evomerge.errors import ConfigError
from evomerge.genome import JointSpace, SegmentSpace
from evomerge.recipe import Recipe

DEPTHS = {"a": 4, "b": 6}


def decode(space: AnySpace, **values: float) -> Recipe:
    """The start with some genes set; "__" stands for "." in names."""
    genome = dict(zip([gene.name for gene in space.genes], space.genome(space.start), strict=True))
    named = {name.replace("__", "."): value for name, value in values.items()}
    assert named.keys() <= genome.keys()
    return space.decode(list({**genome, **named}.values()))


def steps(recipe: Recipe) -> list[str]:
    """ "a1" is layer 1 of a; a scale follows an x."""
    return [f"{s.parent}{s.layer}" + (f"x{s.scale:g}" if s.scale != 1 else "") for s in recipe.path]


def test_a_segment_has_five_genes_of_mixed_kinds() -> None:
    space = segments(DEPTHS, segments=1, repeats=3)
    assert [(gene.name, gene.kind, gene.low, gene.high, gene.start) for gene in space.genes] == [
        ("segment1.source", "choice", 0, 1, 0),
        ("segment1.start", "integer", 0, 5, 1),
        ("segment1.length", "integer", 0, 6, 2),
        ("segment1.repeat", "integer", 1, 3, 1),
        ("segment1.scale", "float", 0.5, 2.0, 1.0),
        ("scale.last", "float", 0.5, 2.0, 1.0),
    ]
    assert space.genes[0].choices == ("a", "b")
    assert space.kinds == (-2, 6, 7, 3, 0, 0)
    assert segments({"zoo": 6, "ja": 6}).n_dims == 4 * 5 + 1


def test_genes_that_could_take_one_value_only_are_left_out() -> None:
    names = [gene.name for gene in segments({"a": 1}, segments=1, repeats=1, scales="none").genes]
    assert names == ["segment1.length"]


def test_segments_follow_one_another_between_the_ends() -> None:
    space = segments(DEPTHS, segments=3)
    assert steps(decode(space)) == ["a0", "a1", "a2", "a3"]
    recipe = decode(
        space,
        segment1__length=1,
        segment1__scale=0.8,
        segment2__source=1,
        segment2__start=2,
        segment2__length=3,
        segment2__repeat=2,
        segment2__scale=1.5,
        segment3__source=0,
        segment3__start=0,
        segment3__length=1,
        scale__last=0.5,
    )
    assert steps(recipe) == ["a0", "a1x0.8", "b2x1.5", "b3", "b4", "b2", "b3", "b4", "a0", "a3x0.5"]


def test_start_and_length_are_clipped_to_the_depth_of_the_source() -> None:
    space = segments(DEPTHS, segments=1)
    assert steps(decode(space, segment1__start=5, segment1__length=6)) == ["a0", "a3", "a3"]
    assert steps(decode(space, segment1__start=2, segment1__length=6)) == ["a0", "a2", "a3", "a3"]
    assert steps(decode(space, segment1__source=1, segment1__start=4, segment1__length=6)) == ["a0", "b4", "b5", "a3"]


def test_the_genes_of_a_segment_without_length_sleep() -> None:
    space = segments(DEPTHS, segments=2)
    start = decode(space).content_hash
    asleep = decode(space, segment2__source=0, segment2__start=0, segment2__repeat=2, segment2__scale=2.0)
    assert asleep.content_hash == start
    assert decode(space, segment2__length=1).content_hash != start


def test_a_limit_keeps_the_first_layers_and_fills_up_with_those_before_the_end() -> None:
    space = segments(DEPTHS, max_layers=5, segments=2)
    long = {"segment2__source": 1.0, "segment2__start": 0.0, "segment2__length": 6.0}
    assert steps(decode(space, **long)) == ["a0", "a1", "a2", "b0", "a3"]
    space = segments(DEPTHS, min_layers=7, segments=2)
    assert steps(decode(space, segment1__length=0)) == ["a0", "a2", "a1", "a2", "a1", "a2", "a3"]
    assert steps(decode(space)) == ["a0", "a1", "a2", "a2", "a1", "a2", "a3"]
    assert steps(decode(segments({"a": 1, "b": 3}, min_layers=4))) == ["a0", "a0", "a0", "a0"]


@pytest.mark.parametrize("value", [0.5, 1.5])
def test_an_integer_between_two_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match=f"gene segment1.length must be a whole number, but came {value}"):
        decode(segments(DEPTHS), segment1__length=value)


def test_all_mistakes_of_segments_are_named_at_once() -> None:
    arguments: dict[str, Any] = {"segments": 0, "repeats": None, "scales": "segments", "scale_low": -1}
    with pytest.raises(ConfigError) as caught:
        SegmentSpace(parents_of(DEPTHS), n_layers={"a": 4, "b": 0}, **arguments)
    text = str(caught.value)
    for part in ("`segments` must", "`repeats` must", "did you mean 'segment'", "`scale_low` must", "but came 0"):
        assert part in text
    assert len(caught.value.problems) == 6 - 1


def test_a_joint_genome_is_a_merge_with_a_path_through_it() -> None:
    space = joint({"merged": 4, "code": 2}, scales="step")
    merge = make_parameters(4, tokenizer="ja")
    inner = decode(space, weight__ja__head=0.25)
    assert inner.path == ()
    assert (
        inner.content_hash
        == merge.decode(
            [
                0.25 if gene.name == "weight.ja.head" else value
                for gene, value in zip(merge.genes, merge.genome(merge.start), strict=True)
            ]
        ).content_hash
    )
    recipe = decode(space, weight__ja__head=0.25, include__pass1__code__layer1=0.5)
    assert steps(recipe) == ["merged0", "merged1", "merged2", "code1", "merged3"]
    assert recipe.parents[0].source == inner
    assert recipe.parents[1] == parents_of({"code": 2})[0]
    scaled = decode(space, weight__ja__head=0.25, scale__last=0.9)
    assert steps(scaled) == ["merged0", "merged1", "merged2", "merged3x0.9"]
    assert [parent.source for parent in scaled.parents] == [inner]
    other = decode(space, weight__ja__head=0.5, scale__last=0.9)
    assert other.content_hash != scaled.content_hash
    assert space.kinds == (0,) * space.n_dims
    assert decode(space, scale__pass1__code__layer0=0.6).content_hash == decode(space).content_hash


def test_a_merge_of_another_depth_than_the_path_says_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"the merge has 4 layers, but `n_layers` .* says 5 for its first parent, merged"
    ):
        JointSpace(make_parameters(4), paths({"merged": 5, "code": 2}))
