"""mergekit's YAML, read and written.

- `schema.py`: the file as data; unknown keys are mistakes, all of them named at once
- `values.py`: numbers, gradients and filters, and which level counts
- `vocabulary.py`: methods and parameters of mergekit in our words
- `reader.py`: a file of one or several merges as a recipe · `build.py`: one merge · `columns.py`: slices ·
  `groups.py`: parameters · `parts.py`: parts of names · `tokens.py`: tokenizers · `models.py`: what models tell
- `writer.py`: a recipe as such a file, with `settings.py` for its parameters
"""

from evomerge.interop.mergekit.reader import Reading, looks_like_mergekit, read_mergekit
from evomerge.interop.mergekit.writer import MergekitFile, write_mergekit

__all__ = ["MergekitFile", "Reading", "looks_like_mergekit", "read_mergekit", "write_mergekit"]
