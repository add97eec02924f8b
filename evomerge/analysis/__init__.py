"""What a result is worth: paired comparisons, the price of choosing, warnings in words.

- `comparison.py`: the paired difference of two models on the same items
- `winners_curse.py`: the luck of being chosen, taken out of a winner's score
- `verdict.py`: what a run's scores say, for `status`, the model card and the end of a search
"""
