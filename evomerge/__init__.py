"""evomerge: evolve model-merge recipes.

`from evomerge import api` gives Python everything that the command line does: `api.search`, `.resume`, `.status`,
`.records`, `.space`, `.methods`, `.merge`, `.evaluate`, `.export`, `.push`. Importing this package loads nothing heavy.
"""

__version__ = "0.1.0"
