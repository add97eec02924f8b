"""Vocabularies that are built for a merge, and the chat template that it gets.

- `templates.py`: chat templates that evomerge brings along, those in a model's folder, and their syntax
"""
