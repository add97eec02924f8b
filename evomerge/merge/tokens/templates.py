"""Chat templates: those that evomerge brings along, those of a model's folder, and whether Jinja can read one.

The built-in ones are written from the formats that their models' makers publish. Where a format knows no system
message, it stands in front of the first user's message.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evomerge.errors import CheckpointError

JINJA, MORE_TEMPLATES = "chat_template.jinja", "additional_chat_templates"
DEFAULT = "default"
"""The name of the template that is taken where none is named."""

_FIRST_SYSTEM = """\
{%- if messages and messages[0]['role'] == 'system' -%}
{%- set system = messages[0]['content'] | trim -%}{%- set turns = messages[1:] -%}
{%- else -%}
{%- set system = '' -%}{%- set turns = messages -%}
{%- endif -%}
"""

BUILT_IN: Mapping[str, str] = {
    "alpaca": _FIRST_SYSTEM
    + """\
{{- system if system else 'Below is an instruction that describes a task. \
Write a response that appropriately completes the request.' -}}
{%- for turn in turns -%}
{{- '\\n\\n### ' + ('Response' if turn['role'] == 'assistant' else 'Instruction') + ':\\n' + turn['content'] | trim -}}
{%- if turn['role'] == 'assistant' and eos_token is defined -%}{{- eos_token -}}{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '\\n\\n### Response:\\n' -}}{%- endif -%}
""",
    "chatml": """\
{%- for message in messages -%}
{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}
""",
    "exaone": """\
{%- for message in messages -%}
{{- '[|' + message['role'] + '|]' + message['content'] | trim -}}
{{- '\\n' if message['role'] == 'user' else '[|endofturn|]\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '[|assistant|]' -}}{%- endif -%}
""",
    "llama3": """\
{%- if bos_token is defined -%}{{- bos_token -}}{%- endif -%}
{%- for message in messages -%}
{{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' + message['content'] | trim + '<|eot_id|>' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' -}}{%- endif -%}
""",
    "mistral": _FIRST_SYSTEM
    + """\
{%- if bos_token is defined -%}{{- bos_token -}}{%- endif -%}
{%- for turn in turns -%}
{%- if turn['role'] == 'assistant' -%}
{{- ' ' + turn['content'] | trim -}}{%- if eos_token is defined -%}{{- eos_token -}}{%- endif -%}
{%- else -%}
{{- '[INST] ' + (system + '\\n\\n' if system and loop.first else '') + turn['content'] | trim + ' [/INST]' -}}
{%- endif -%}
{%- endfor -%}
""",
}
"""Name to the text of a template."""


@functools.lru_cache(maxsize=16)  # each candidate of a search asks about the same text
def syntax_problem(text: str) -> str | None:
    """Return why Jinja cannot read a chat template; None: it can."""
    from jinja2 import TemplateSyntaxError, nodes
    from jinja2.ext import Extension
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        """Transformers' own tag, around what the model writes."""

        tags = {"generation"}  # noqa: RUF012

        def parse(self, parser: Any) -> Any:
            line = next(parser.stream).lineno
            return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True)).set_lineno(line)

    try:
        ImmutableSandboxedEnvironment(extensions=[Generation, "jinja2.ext.loopcontrols"]).parse(text)
    except TemplateSyntaxError as error:
        return f"{error.message} (line {error.lineno})"
    return None


def read_templates(folder: Path) -> dict[str, str]:
    """Return name to text of the chat templates in a model's folder; the one without a name is called `DEFAULT`.

    Raises:
        CheckpointError: if a file cannot be read.
    """
    found: dict[str, str] = {}
    try:
        for name in ("tokenizer_config.json", "chat_template.json"):
            if (folder / name).is_file():
                said = json.loads((folder / name).read_text(encoding="utf-8")).get("chat_template")
                if isinstance(said, list):
                    found |= {str(one["name"]): str(one["template"]) for one in said}
                elif said:
                    found[DEFAULT] = str(said)
        if (folder / JINJA).is_file():
            found[DEFAULT] = (folder / JINJA).read_text(encoding="utf-8")
        for path in sorted((folder / MORE_TEMPLATES).glob("*.jinja")):
            found[path.stem] = path.read_text(encoding="utf-8")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"cannot read the chat template in {folder}: {error}") from error
    return found
