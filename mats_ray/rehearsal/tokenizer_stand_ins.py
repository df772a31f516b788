"""Tokenizers in published formats, of published sizes and special tokens, trained on a rehearsal's texts.

Published vocabularies have tens of thousands of entries, which a few thousand texts do not yield: the rest is
filled with entries that no text becomes, so that every id a model generates has a token.
"""

import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

LEARNT = 4_000
"""Number of entries learnt from the texts, at most."""


_LLAMA_TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<unk>"}
_LLAMA_SETTINGS = {
    "tokenizer_class": "LlamaTokenizer",
    "add_bos_token": True,
    "add_eos_token": False,
    "legacy": False,
    "model_max_length": 4096,
}


_TURN, _END_OF_TURN = "<|im_start|>", "<|im_end|>"
_CHATML = (
    "{%- for message in messages %}"
    "{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}"
    "{{- '<|im_start|>assistant\\n' }}"
    "{%- if enable_thinking is defined and enable_thinking is false %}"
    "{{- '<think>\\n\\n</think>\\n\\n' }}"
    "{%- endif %}"
    "{%- endif %}"
)
"""Qwen3's chat template, without system prompts and tools."""


def _fillers(count: int) -> Iterator[str]:
    return (f"stand-in-{number:06d}" for number in range(count))


def write_byte_bpe(folder: Path, texts: Sequence[str], *, size: int, special: dict[int, str]) -> Tokenizer:
    """Write GPT-2's files (``vocab.json``, ``merges.txt``) and ``tokenizer.json``: byte-level BPE.

    Args:
        folder: Where to.
        texts: Texts to train on.
        size: Number of entries, the special ones included.
        special: Special tokens by id; ids below ``size`` that are not special are bytes, merges or filler.
    """
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=LEARNT, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    learner.train_from_iterator(texts, trainer)
    learnt = json.loads(learner.to_str())["model"]
    vocabulary: dict[str, int] = dict(learnt["vocab"])
    free = (number for number in range(len(vocabulary), size) if number not in special)
    vocabulary |= {filler: number for number, filler in zip(free, _fillers(size), strict=False)}
    merges = [tuple(pair) for pair in learnt["merges"]]
    tokenizer = Tokenizer(
        models.BPE(vocab=vocabulary | {text: n for n, text in special.items()}, merges=merges)
    )
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(special.values()))
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.model.save(str(folder))
    tokenizer.save(str(folder / "tokenizer.json"))
    return tokenizer


def write_gpt2_tokenizer(folder: Path, texts: Sequence[str]) -> None:
    """Write a tokenizer as ``openai-community/gpt2`` has it: 50,257 entries, the last ``<|endoftext|>``."""
    end = "<|endoftext|>"
    write_byte_bpe(folder, texts, size=50_257, special={50_256: end})
    settings = {"tokenizer_class": "GPT2Tokenizer", "model_max_length": 1024}
    settings |= dict.fromkeys(("bos_token", "eos_token", "unk_token"), end)
    _write(folder / "tokenizer_config.json", settings)


def write_qwen_tokenizer(folder: Path, texts: Sequence[str]) -> None:
    """Write a tokenizer as Qwen3 has it: byte-level BPE, ChatML, a template that can leave out thinking."""
    special = {151_643: "<|endoftext|>", 151_644: _TURN, 151_645: _END_OF_TURN}
    write_byte_bpe(folder, texts, size=151_669, special=special)
    settings = {
        "tokenizer_class": "Qwen2Tokenizer",
        "model_max_length": 131_072,
        "eos_token": _END_OF_TURN,
        "pad_token": "<|endoftext|>",
        "bos_token": None,
        "unk_token": None,
        "chat_template": _CHATML,
    }
    _write(folder / "tokenizer_config.json", settings)


def write_modernbert_tokenizer(folder: Path, texts: Sequence[str]) -> None:
    """Write a tokenizer as ModernBERT has it, PE-AV's text tower: ``[CLS] text [SEP]``, 50,368 entries."""
    special = {50_280: "[UNK]", 50_281: "[CLS]", 50_282: "[SEP]", 50_283: "[PAD]", 50_284: "[MASK]"}
    tokenizer = write_byte_bpe(folder, texts, size=50_368, special=special)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 50_281), ("[SEP]", 50_282)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 8_192}
    names = ("unk", "cls", "sep", "pad", "mask")
    settings |= {f"{name}_token": token for name, token in zip(names, special.values(), strict=True)}
    _write(folder / "tokenizer_config.json", settings)


def write_llama_tokenizer(folder: Path, texts: Sequence[str], *, size: int = 32_000) -> None:
    """Write a sentencepiece model as LLaMA 2 and Vicuna have it: BPE with bytes as fallback."""
    import sentencepiece
    from sentencepiece import sentencepiece_model_pb2

    trained = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts),
        model_writer=trained,
        model_type="bpe",
        vocab_size=LEARNT,
        hard_vocab_limit=False,
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        split_digits=True,
        character_coverage=1.0,
        minloglevel=2,
    )
    model = sentencepiece_model_pb2.ModelProto.FromString(trained.getvalue())  # pyright: ignore[reportAttributeAccessIssue]
    unused = type(model.pieces[0]).UNUSED
    for filler in _fillers(size - len(model.pieces)):
        model.pieces.add(piece=filler, score=0.0, type=unused)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.model").write_bytes(model.SerializeToString())
    _write(folder / "tokenizer_config.json", {**_LLAMA_SETTINGS, **_LLAMA_TOKENS})
    _write(folder / "special_tokens_map.json", dict(_LLAMA_TOKENS))


def _write(path: Path, tree: dict[str, object]) -> None:
    path.write_text(json.dumps(tree, indent=2) + "\n", "utf-8")
