"""From a recipe or a run to a model folder that any Hugging Face tool loads, and to the Hub.

- `hf_folder.py`: weights, config, tokenizer, recipe and card in one folder that appears whole
- `verify.py`: whether such a folder computes what its recipe does
- `from_run.py`: the winner of a run, with what the run's database says about it
- `model_card.py`: README.md with Hub metadata, and how to reproduce
- `card_scores.py`, `card_items.py`, `card_answers.py`, `search_facts.py`, `asked.py`: its sections
- `model_index.py`: the results in that metadata, each task by its own metric
- `licences.py`: the models of which a recipe is made, their licences and languages
- `licence_terms.py`: what licences ask, and which cannot be kept at once
- `revisions.py`: which commits of Hub models were used
- `publishing.py`: what may stand in a folder that is published: no secrets, no folders of this machine
- `outline.py`: what an export would write, without its weights
- `publication.py`: where a merge is published, and the others of its search beside it
- `hub.py`: upload in one commit, private unless told otherwise
- `hub_place.py`, `hub_errors.py`: whose token it is and what is there; what went wrong, in words
"""

from evomerge.export.from_run import export_run
from evomerge.export.hf_folder import ExportReport, export_recipe
from evomerge.export.hub import HubFile, Pushed, push
from evomerge.export.model_card import model_card

__all__ = ["ExportReport", "HubFile", "Pushed", "export_recipe", "export_run", "model_card", "push"]
