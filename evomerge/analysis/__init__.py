"""What a result is worth: paired comparisons, the luck of the choice, warnings in words.

- `comparison.py`: the paired difference of two models on the same items
- `winners_curse.py`: a winner's score without the luck of being chosen
- `front.py`: fronts and their hypervolume; `choice.py`: what a search chose, as plain data
- `probed_answers.py`: what the first answers of the parents say before a search
- `skills.py`: task by task, beside the parent that is best at it; `lost_skills.py`: that in words
- `cautions.py`: what to bear in mind, the gravest first; `advice.py`: whether to use a merge, in a sentence
- `verdict.py`: what a run's scores are worth, for `status`, the model card and the end of a search
"""
