"""What a candidate is worth, from a few answers: which items it gets, what they say, and when it has had enough.

Knows numbers and names only: no model, no database. `search.py` runs what it asks for and stores what it says.
"""
