"""mergekit's YAML, read and written.

- `schema.py`: the file as data; unknown keys are mistakes, all of them named at once
- `values.py`: numbers, gradients and filters, and which level counts
- `vocabulary.py`: methods and parameters of mergekit in our words
- `reader.py`: a file of one or several merges as a recipe · `build.py`: one merge · `columns.py`: slices ·
  `groups.py`: parameters · `parts.py`: parts of names · `tokens.py`: tokenizers · `models.py`: what models tell
- `passthrough.py`: a layer path without scales as mergekit's passthrough YAML
"""

from evomerge.interop.mergekit.passthrough import passthrough_problems, passthrough_yaml
from evomerge.interop.mergekit.reader import Reading, looks_like_mergekit, read_mergekit

__all__ = ["Reading", "looks_like_mergekit", "passthrough_problems", "passthrough_yaml", "read_mergekit"]
