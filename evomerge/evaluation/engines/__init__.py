"""Engines run the forward passes. They know requests and tokens, but no tasks.

- `base.py`: the contract; `registry.py`: the engines by name
- `hf.py`: the default engine; `lm_eval.py`: lm-eval's own wrapper; `vllm.py` (and `vllm_*.py`): vLLM
- `encoding.py`: requests as token ids; `batching.py`, `memory.py`: which requests share a pass
- `generation.py`, `stopping.py`, `likelihood.py`: greedy answers, where they end, log-probabilities of continuations
- `rows.py`, `kv_cache.py`, `forward.py`, `finite.py`: a batch on its way through the model
- `units.py`: the units that idle workers may steal; `support.py`: what a model can do, found by trial
"""
