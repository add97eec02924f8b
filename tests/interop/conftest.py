import sys
from pathlib import Path

# The tiny models of the tests of merging.
sys.path.insert(0, str(Path(__file__).parents[1] / "merge"))
