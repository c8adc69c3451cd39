"""A plain T5 with random weights, as Hugging Face writes it."""

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers


def save_t5(directory: Path, texts: list[str], **shape) -> None:
    """Write config.json, model.safetensors and a tokenizer.json whose words come from `texts`."""
    from transformers import T5Config, T5ForConditionalGeneration

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<pad>", "</s>", "<unk>"]
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=special, initial_alphabet=alphabet)
    tokenizer.train_from_iterator(texts, trainer)
    torch.manual_seed(len(shape))
    values = dict(vocab_size=tokenizer.get_vocab_size(), d_ff=64, initializer_factor=1.0, decoder_start_token_id=0)
    model = T5ForConditionalGeneration(T5Config(**values | shape))
    if shape.get("tie_word_embeddings") is False:
        model.lm_head.weight = torch.nn.Parameter(torch.randn_like(model.lm_head.weight))
    with torch.no_grad():  # louder attention than at initialisation: a wrong bias or mask must change tokens
        for parameter in model.parameters():
            parameter.mul_(1.5)
    model.save_pretrained(directory)
    tokenizer.save(str(directory / "tokenizer.json"))
