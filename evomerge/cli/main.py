"""The command `evomerge`: runs the module of the subcommand, and turns errors into messages and exit statuses.

Exit status: 0 on success, 2 on bad input, 130 on interrupt, 1 on anything else.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence

from evomerge.cli.failures import is_foreign_exit, report_failure
from evomerge.cli.quiet import be_quiet
from evomerge.cli.streams import GONE, finish_output, safe_streams
from evomerge.errors import ConfigError, unknown_name

COMMANDS = {
    "search": "evolve a merge: evomerge search experiment=zoo_ja_math, or your own YAML file",
    "resume": "continue a run after Ctrl-C or a crash, or with a larger budget",
    "status": "where a run stands: budget spent, baselines, best; with --watch live",
    "top": "the live view of a run from elsewhere, or all running ones of a folder",
    "records": "one JSON line per candidate, in order of proposal",
    "answers": "what models answered, side by side: the winner beside the best parent, lost items first",
    "log": "send a run to TensorBoard, trackio, Weights & Biases or MLflow",
    "explain": "what a key of the configuration means, with its type, range and default; or all keys",
    "space": "list the genes of a configuration with their ranges and starts",
    "inspect": "what models are, and whether they are of one ancestry, before they are merged",
    "report": "what runs found, as one page to look at: scores, progress, the merge, answers, costs",
    "dashboard": "all runs of a folder in the browser, live: list, follow, compare",
    "show": "draw the layer path of a run's best merge, or of a recipe, as SVG and PNG",
    "profile": "run a few candidates of a configuration, and say where the time goes",
    "methods": "list the merge methods, or explain one",
    "merge": "build the model of a recipe on disk",
    "convert": "a mergekit YAML as a recipe of evomerge, or the other way",
    "evaluate": "score a model, a recipe or a run's best on tasks; or a search's models on all items",
    "export": "write a run's best merge as a Hugging Face folder with a model card",
    "extract-lora": "what distinguishes a model from its base, as a LoRA adapter of a rank",
    "to-gguf": "a model as a GGUF file, by your llama.cpp",
    "estimate": "scores on all items from answers to a few, with intervals",
    "verify": "compare a saved model folder with the live model of its recipe or run",
    "push": "upload a run's best merge to the Hub (private unless told otherwise)",
    "zoo": "the built-in tiny models: list them, or train them anew",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    with safe_streams():
        try:
            status = _run(words)
        except BrokenPipeError:
            status = GONE  # the reader of the pipe (`head`, say) is gone
        except SystemExit as error:
            if not is_foreign_exit(error):  # of --help and of wrong arguments
                finish_output()
                raise
            status = report_failure(error)
        except BaseException as error:  # anybody's code may raise anything
            status = report_failure(error)
        return max(status, finish_output())


def _run(words: Sequence[str]) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        print(_usage())
        return 0 if words else 2
    if words[0] in ("-V", "--version"):
        from evomerge import __version__

        print(f"evomerge {__version__}")
        return 0
    if not sys.stderr.isatty():
        # Progress bars of transformers, datasets and the Hub would fill a log file. They read this when imported.
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    be_quiet(False)
    if words[0] not in COMMANDS:
        raise ConfigError(unknown_name("command", words[0], COMMANDS))
    status: int = importlib.import_module(f"evomerge.cli.{words[0].replace('-', '_')}").run(words[1:])
    return status


def _usage() -> str:
    width = max(map(len, COMMANDS))
    lines = "\n".join(f"  {name:<{width}}  {text}" for name, text in COMMANDS.items())
    return (
        "evomerge: evolve model-merge recipes\n\n"
        f"usage: evomerge COMMAND [ARGUMENTS]\n\n{lines}\n\n"
        "`evomerge COMMAND --help` says more."
    )


if __name__ == "__main__":
    sys.exit(main())
