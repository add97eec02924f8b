"""What a candidate is worth, from a few answers: which items it gets, what its answers say, and when they suffice.

- `scoring.py`: asks candidates and decides them; `items.py`: the search items as a table
- `choose.py`: orders of the items; `race.py`: which candidates of a generation get more items

Knows numbers and names only: no model, no database. `evomerge.search.loop` has its questions answered.
"""
