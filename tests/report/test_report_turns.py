"""Prompts that chat templates wrote are shown as turns, others as they are."""

import pytest

from evomerge.report.turns import turns_of

TALK = [("system", "Be brief."), ("user", "1 + 1?"), ("assistant", "2"), ("user", "2 + 2?")]

WRITTEN = {
    "chatml": "".join(f"<|im_start|>{who}\n{said}<|im_end|>\n" for who, said in TALK) + "<|im_start|>assistant\n",
    "llama 3": "<|begin_of_text|>"
    + "".join(f"<|start_header_id|>{who}<|end_header_id|>\n\n{said}<|eot_id|>" for who, said in TALK)
    + "<|start_header_id|>assistant<|end_header_id|>\n\n",
    "llama 2": "<s>[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\n1 + 1? [/INST] 2 </s><s>[INST] 2 + 2? [/INST]",
    "phi": "".join(f"<|{who}|>\n{said}<|end|>\n" for who, said in TALK) + "<|assistant|>\n",
    "zephyr": "".join(f"<|{who}|>\n{said}</s>\n" for who, said in TALK) + "<|assistant|>\n",
    "harmony": "".join(f"<|start|>{who}<|message|>{said}<|end|>" for who, said in TALK)
    + "<|start|>assistant<|message|>",
    "command r": "<BOS_TOKEN>"
    + "".join(
        f"<|START_OF_TURN_TOKEN|><|{name}_TOKEN|>{said}<|END_OF_TURN_TOKEN|>"
        for name, (_, said) in zip(("SYSTEM", "USER", "CHATBOT", "USER"), TALK, strict=True)
    ),
}


@pytest.mark.parametrize("template", WRITTEN)
def test_turns_of_known_templates(template: str) -> None:
    assert turns_of(WRITTEN[template]) == TALK


def test_gemma_calls_itself_model_and_knows_no_system() -> None:
    prompt = (
        "<bos><start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\nHo<end_of_turn>\n<start_of_turn>user\nSo?"
    )
    assert turns_of(prompt) == [("user", "Hi"), ("assistant", "Ho"), ("user", "So?")]


@pytest.mark.parametrize("prompt", ["", "Q: 1 + 1?\nA:", "What does <|im_start|>user mean?", "[1, 2] [INST]"])
def test_other_prompts_are_no_chats(prompt: str) -> None:
    assert turns_of(prompt) is None


def test_what_the_model_is_made_to_begin_with_stays() -> None:
    assert turns_of("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n<think>") == [
        ("user", "Hi"),
        ("assistant", "<think>"),
    ]
