"""A small byte-level BPE tokenizer, trained on the toy world's own sentences; it can spell any text."""

from collections.abc import Iterable

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

BOS, PAD, EOS, UNK = "<s>", "<pad>", "</s>", "<unk>"
"""In this order, so that padding has id 1 as in RoBERTa, whose position embeddings count on it."""


def train_tokenizer(
    texts: Iterable[str], *, vocab_size: int = 1500, max_length: int = 77
) -> PreTrainedTokenizerFast:
    """Train a tokenizer that puts BOS and EOS around a text if special tokens are requested.

    Args:
        texts: Training texts.
        vocab_size: At most; 256 of them are the bytes.
        max_length: Longest input a model with it reads.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[BOS, PAD, EOS, UNK],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A {EOS}", special_tokens=[(BOS, 0), (EOS, 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BOS,
        pad_token=PAD,
        eos_token=EOS,
        unk_token=UNK,
        model_max_length=max_length,
    )
