"""Vocabularies that are built for a merge, and the chat template that it gets.

- `output.py`: the tokens of the result and their numbers, and which tokens are new to the tokenizer that is extended
- `rows.py`: which row of which model stands for each token; tensors put in that order
- `json_files.py`: a tokenizer's files with further tokens, or with another chat template
- `numbers.py`: numbers of tokens in a configuration and in generation settings
- `view.py`: an opened model as it is with the result's vocabulary: rows, configuration, numbers of special tokens
- `templates.py`: chat templates that evomerge brings along, those in a model's folder, and their syntax
"""
