"""Tiny tokenizers with the chat templates and control tokens of published models; no file is downloaded.

Templates are those published with Qwen/Qwen3-8B (its parts about tools left out),
meta-llama/Meta-Llama-3-8B-Instruct and mistralai/Mistral-7B-Instruct-v0.1 and -v0.3 (without tools).
"""
# ruff: noqa: E501 (templates stand as they are published)

import json
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from tests.world import TEXTS, seeded, tiny_llm

AUDIO = "<|audio|>"
"""A control token in the place of the audio prefix, to compare halves with a whole chat's tokens."""

_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""How Qwen and LLaMA 3 cut a text before they look for pairs."""

QWEN3 = r"""{%- if messages[0].role == 'system' %}
    {{- '<|im_start|>system\n' + messages[0].content + '<|im_end|>\n' }}
{%- endif %}
{%- set ns = namespace(multi_step_tool=true, last_query_index=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.multi_step_tool and message.role == "user" and message.content is string %}
        {%- set ns.multi_step_tool = false %}
        {%- set ns.last_query_index = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.content is string %}
        {%- set content = message.content %}
    {%- else %}
        {%- set content = '' %}
    {%- endif %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\n' + content + '<|im_end|>' + '\n' }}
    {%- elif message.role == "assistant" %}
        {%- set reasoning_content = '' %}
        {%- if message.reasoning_content is string %}
            {%- set reasoning_content = message.reasoning_content %}
        {%- else %}
            {%- if '</think>' in content %}
                {%- set reasoning_content = content.split('</think>')[0].rstrip('\n').split('<think>')[-1].lstrip('\n') %}
                {%- set content = content.split('</think>')[-1].lstrip('\n') %}
            {%- endif %}
        {%- endif %}
        {%- if loop.index0 > ns.last_query_index %}
            {%- if loop.last or (not loop.last and reasoning_content) %}
                {{- '<|im_start|>' + message.role + '\n<think>\n' + reasoning_content.strip('\n') + '\n</think>\n\n' + content.lstrip('\n') }}
            {%- else %}
                {{- '<|im_start|>' + message.role + '\n' + content }}
            {%- endif %}
        {%- else %}
            {{- '<|im_start|>' + message.role + '\n' + content }}
        {%- endif %}
        {{- '<|im_end|>\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\n\n</think>\n\n' }}
    {%- endif %}
{%- endif %}"""
LLAMA3 = (
    "{% set loop_messages = messages %}{% for message in loop_messages %}{% set content = '<|start_header_id|>' + "
    "message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}"
    "{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
_MISTRAL = (
    "{{{{ bos_token }}}}{{% for message in messages %}}{{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}}"
    "{{{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}}}{{% endif %}}"
    "{{% if message['role'] == 'user' %}}{{{{ '[INST] ' + message['content'] + '{close}' }}}}"
    "{{% elif message['role'] == 'assistant' %}}{{{{ {answer} }}}}"
    "{{% else %}}{{{{ raise_exception('Only user and assistant roles are supported!') }}}}{{% endif %}}{{% endfor %}}"
)
MISTRAL_V1 = _MISTRAL.format(close=" [/INST]", answer="message['content'] + eos_token + ' '")
MISTRAL_V3 = _MISTRAL.format(close="[/INST]", answer="' ' + message['content'] + eos_token")


def qwen3() -> PreTrainedTokenizerFast:
    """Byte-level, no BOS; EOS is the end of a turn. ``<think>`` is an added token that is not special."""
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", AUDIO]
    tokenizer = _byte_level(special)
    tokenizer.add_tokens([AddedToken(word, special=False) for word in ("<think>", "</think>", "<tool_call>")])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        extra_special_tokens=special[1:2] + special[3:],
        chat_template=QWEN3,
    )


def llama3() -> PreTrainedTokenizerFast:
    """Byte-level; BOS is put in front of any text; EOS is not the end of a turn."""
    special = [
        "<|begin_of_text|>",
        "<|end_of_text|>",
        "<|start_header_id|>",
        "<|end_header_id|>",
        "<|eot_id|>",
    ]
    tokenizer = _byte_level([*special, AUDIO])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<|begin_of_text|> $A", special_tokens=[("<|begin_of_text|>", 0)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=special[0],
        eos_token=special[1],
        extra_special_tokens=[*special[2:], AUDIO],
        chat_template=LLAMA3,
    )


def mistral_v3() -> PreTrainedTokenizerFast:
    """SentencePiece's spaces, BOS put in front of any text; ``[INST]`` is a control token."""
    return _sentencepiece(["<s>", "</s>", "<unk>", "[INST]", "[/INST]", AUDIO], MISTRAL_V3)


def mistral_v1() -> PreTrainedTokenizerFast:
    """As ``mistral_v3``, but ``[INST]`` is text."""
    return _sentencepiece(["<s>", "</s>", "<unk>", AUDIO], MISTRAL_V1)


def tiny_chat_llm(directory: Path) -> Path:
    """Write the language model of ``tiny_llm`` with the tokenizer of ``qwen3``."""
    tokenizer, path = qwen3(), tiny_llm(directory)
    llm = AutoModelForCausalLM.from_pretrained(path)
    with seeded(0):
        llm.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    llm.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def _byte_level(special: list[str]) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=special,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator([*TEXTS, "user assistant\n\n system\n"] * 4, trainer)
    return tokenizer


def _sentencepiece(special: list[str], template: str) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=500,
        special_tokens=[*special, *(f"<0x{byte:02X}>" for byte in range(256))],
        initial_alphabet=sorted(set("".join(TEXTS)) - {"\n", " "}),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    # bytes are part of the vocabulary, and no added tokens
    plain = Tokenizer.from_str(_without_added_bytes(tokenizer.to_str()))
    plain.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return PreTrainedTokenizerFast(
        tokenizer_object=plain,
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        extra_special_tokens=special[3:],
        chat_template=template,
    )


def _without_added_bytes(text: str) -> str:
    tree = json.loads(text)
    tree["added_tokens"] = [token for token in tree["added_tokens"] if not token["content"].startswith("<0x")]
    return json.dumps(tree)
