"""Which tensors share their genes: blocks of layers times groups of roles, and the embeddings and the head.

A model's tensors inside layers have the roles attention, mlp, norm and other; outside of layers are the embedding, the
head, the final norm and rarely others. By its role, the norm before the attention cannot be told from the one before
the MLP, so the norms of a layer are in one group. Roles that the user does not name (norm, other) join `mlp`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from evomerge.errors import unknown_name

INNER_ROLES = ("attention", "mlp", "norm", "other")
OUTER_ROLES = ("embedding", "head", "norm", "other")
EMBEDDINGS = ("own", "shared", "block")


@dataclass(frozen=True)
class Place:
    """Tensors as a recipe's group selects them: by a half-open range of layers, roles, parts of names; None: all."""

    layers: tuple[int, int] | None
    roles: tuple[str, ...] | None
    tensors: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Region:
    """Tensors that share their genes.

    Attributes:
        name: the last part of its genes' names, for example "layers0-1.attention" or "embeddings".
        places: the places of its tensors. In a recipe, places inside layers come first, since a place outside of layers
            (`layers` None) also matches tensors of its roles inside layers.
    """

    name: str
    places: tuple[Place, ...]

    @property
    def holds_matrices(self) -> bool:
        """Whether it holds linear maps: tensors of layers that are not all norms."""
        # Places without layers are those outside of all layers, unless they name no roles or roles of layers.
        return any(
            {"attention", "mlp"} & set(place.roles or INNER_ROLES)
            or (place.layers is not None and place.roles != ("norm",))
            for place in self.places
        )


def make_regions(
    n_layers: int,
    blocks: int | str | Sequence[Sequence[int]],
    roles: Mapping[str, Sequence[str]] | Sequence[Sequence[str]] | None,
    embeddings: str,
    tied: bool,
    problems: list[str],
) -> tuple[Region, ...]:
    """Return the regions of a model in the order of the forward pass; together they hold every tensor exactly once.

    Args:
        n_layers: layers of the model.
        blocks: a number of blocks, as equal as possible, the longer ones first; "layers": each layer is one; or a list
            of half-open ranges `[start, stop)` that cover all layers in order.
        roles: the roles that share genes within a block, by name or as plain lists; None: all share them.
        embeddings: the genes of embedding and head (with the final norm): "own": each has its own; "shared": both have
            the same; "block": those of the first and the last block (of the roles that are grouped with `norm`).
        tied: whether the head is the embedding, so that it cannot have genes of its own; the final norm then has its
            genes (with "block": those of the last block).
        problems: gets one sentence per mistake; with any mistake, the result is of no use.
    """
    if isinstance(n_layers, bool) or not isinstance(n_layers, int) or n_layers < 1:
        problems.append(f"the number of layers must be a whole number from 1, but came {n_layers!r}")
        return ()
    if embeddings not in EMBEDDINGS:
        problems.append(unknown_name("`space.embeddings`", str(embeddings), EMBEDDINGS))
    ranges = _ranges(n_layers, blocks, problems)
    groups = _role_groups(roles, problems)
    if problems:
        return ()
    inner = [
        [Region(_name(block, group), (Place(block, roles_),)) for group, roles_ in groups.items()] for block in ranges
    ]
    holds_norm = next(i for i, roles_ in enumerate(groups.values()) if roles_ is None or "norm" in roles_)
    regions = [region for block in inner for region in block]
    if embeddings == "block":
        first, last = inner[0][holds_norm], inner[-1][holds_norm]
        outer = {first.name: Place(None, OUTER_ROLES)}
        if first is not last:
            outer = {
                first.name: Place(None, ("embedding", "head") if tied else ("embedding",)),
                last.name: Place(None, ("norm", "other") if tied else ("head", "norm", "other")),
            }
        return tuple(
            Region(region.name, (*region.places, outer[region.name])) if region.name in outer else region
            for region in regions
        )
    if tied:
        return (Region("embeddings", (Place(None, OUTER_ROLES),)), *regions)
    if embeddings == "shared":
        return (Region("embeddings_and_head", (Place(None, OUTER_ROLES),)), *regions)
    return (
        Region("embeddings", (Place(None, ("embedding",)),)),
        *regions,
        Region("head", (Place(None, ("head", "norm", "other")),)),
    )


def _ranges(n_layers: int, blocks: Any, problems: list[str]) -> list[tuple[int, int]]:
    if blocks == "layers":
        return [(i, i + 1) for i in range(n_layers)]
    if isinstance(blocks, int) and not isinstance(blocks, bool):
        if not 1 <= blocks <= n_layers:
            problems.append(f"`space.blocks` must be from 1 to {n_layers}, the number of layers, but came {blocks}")
            return []
        short, longer = divmod(n_layers, blocks)
        stops = [i * short + min(i, longer) for i in range(blocks + 1)]
        return list(pairwise(stops))
    ranges = _pairs(blocks)
    if ranges is None:
        problems.append(
            "`space.blocks` must be a number of blocks, 'layers', or a list of [start, stop] pairs with start < stop, "
            f"but came {blocks!r}"
        )
        return []
    at = 0
    for start, stop in ranges:
        if start != at:
            problems.append(
                f"`space.blocks` must hold each layer once, in order, but [{start}, {stop}] follows layer {at - 1}"
                if at
                else f"`space.blocks` must begin at layer 0, but begins at {start}"
            )
            return []
        at = stop
    if at != n_layers:
        problems.append(f"`space.blocks` must end at {n_layers}, the number of layers, but ends at {at}")
    return ranges


def _pairs(blocks: Any) -> list[tuple[int, int]] | None:
    if isinstance(blocks, str) or not isinstance(blocks, Sequence) or not blocks:
        return None
    pairs = []
    for pair in blocks:
        whole = isinstance(pair, Sequence) and not isinstance(pair, str) and len(pair) == 2
        if not whole or not all(isinstance(i, int) and not isinstance(i, bool) for i in pair) or pair[0] >= pair[1]:
            return None
        pairs.append((pair[0], pair[1]))
    return pairs


def _role_groups(roles: Any, problems: list[str]) -> dict[str, tuple[str, ...] | None]:
    """Return group name to roles; the name "" with None stands for all roles together."""
    if roles is None:
        return {"": None}
    if isinstance(roles, str) or not isinstance(roles, (Mapping, Sequence)) or not roles:
        problems.append(f"`space.roles` must map names to lists of roles, or be null, but came {roles!r}")
        return {}
    named = roles.items() if isinstance(roles, Mapping) else [(_joined(group), group) for group in roles]
    groups: dict[str, list[str]] = {}
    for name, group in named:
        if isinstance(group, str) or not isinstance(group, Sequence) or not group:
            problems.append(f"`space.roles.{name}` must list roles, like [attention], but came {group!r}")
            continue
        for role in group:
            if role in ("embedding", "head"):
                problems.append(f"`space.roles.{name}` holds {role!r}, which is not in a layer: see `space.embeddings`")
            elif role not in INNER_ROLES:
                problems.append(unknown_name(f"role in `space.roles.{name}`", str(role), INNER_ROLES))
            elif any(role in other for other in groups.values()) or list(group).count(role) > 1:
                problems.append(f"`space.roles` must hold each role once, but {role!r} is there again in {name!r}")
        groups[str(name)] = list(group)
    for role in ("attention", "mlp"):
        if not problems and not any(role in group for group in groups.values()):
            problems.append(f"`space.roles` must say where {role!r} belongs, but no group holds it")
    if problems:
        return {}
    for role in ("norm", "other"):
        if not any(role in group for group in groups.values()):
            next(group for group in groups.values() if "mlp" in group).append(role)
    if len(groups) == 1:
        return {"": None}
    return {name: tuple(group) for name, group in groups.items()}


def _joined(group: Any) -> str:
    return "+".join(map(str, group)) if isinstance(group, (list, tuple)) else str(group)


def _name(block: tuple[int, int], group: str) -> str:
    start, last = block[0], block[1] - 1
    layers = f"layers{start}" if start == last else f"layers{start}-{last}"
    return f"{layers}.{group}" if group else layers
