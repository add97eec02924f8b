"""The live view of a search: what is drawn of a `Moment`, and where. A block is one file."""
