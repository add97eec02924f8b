"""NearSwap: the base takes over the parent's entries where both are near, and moves by t at most elsewhere.

The model card that names it (https://huggingface.co/alchemonaut/QuartetAnemoi-70B-t0.0001) interpolates each entry with
w = clamp(t / |θ0 − θ_1|, 0, 1). Since w τ = sign(τ) min(t, |τ|), this is θ0 plus the task vector clipped to [−t, t].
"""

from __future__ import annotations

from evomerge.merge.kernels.program import Clip, Program
from evomerge.merge.methods.base import BASE, Method, task_vectors, too_small
from evomerge.recipe.method import MethodSpec, Parameter

METHOD = Method(
    spec=MethodSpec(
        name="nearswap",
        summary="base plus the parent's task vector, no entry of which moves by more than t",
        paper="https://huggingface.co/alchemonaut/QuartetAnemoi-70B-t0.0001",
        topic="task vectors",
        parameters=(Parameter("t", 1e-4, 1e-5, 1e-2, log=True, doc="the most that an entry moves"),),
        n_parents=(1, 1),
        formula="θ = (1 − w) θ0 + w θ_1, w = clamp(t / |θ0 − θ_1|, 0, 1); that is θ0 + clamp(τ_1, −t, t)",
        notes="Entries that differ by up to t are the parent's. t = 0: the base. A candidate costs one pass.",
    ),
    merge=lambda inputs: task_vectors(inputs)[0].clamp_(-inputs.number("t"), inputs.number("t")).add_(inputs.origin),
    program=lambda inputs: Program(weight=(1.0,), masks=(Clip(inputs.number("t")),)),
    active=lambda values: (0,),
    one_input=lambda values: BASE if values["t"] == 0.0 else None,
    problems=lambda values: too_small(values, "t"),
)
