"""Our BERT computes what the transformers library computes."""

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, BertConfig, BertModel

from mmrag import onednn
from mmrag.config import TextEncoderConfig
from mmrag.encoders.bert import is_plain_bert, load_bert
from mmrag.encoders.packed_bert import PackedBert
from mmrag.encoders.tokenizer import model_directory
from tests.hardware import can_pack_bfloat16

SMALL = dict(
    vocab_size=99, hidden_size=32, num_hidden_layers=3, num_attention_heads=4, intermediate_size=48,
    max_position_embeddings=64, initializer_range=0.5,
)  # fmt: skip


@pytest.fixture
def inputs():
    """Texts of 20, 7 and 1 tokens."""
    torch.manual_seed(0)
    mask = torch.arange(20) < torch.tensor([20, 7, 1])[:, None]
    return {"input_ids": torch.randint(0, 99, (3, 20)) * mask, "attention_mask": mask.long()}


@pytest.mark.parametrize("prefix", ["", "bert."])
def test_equals_transformers_on_a_random_checkpoint(tmp_path, inputs, prefix):
    reference = BertModel(BertConfig(**SMALL)).eval()
    reference.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    save_file({prefix + name: value for name, value in weights.items()}, tmp_path / "model.safetensors")
    assert is_plain_bert(tmp_path)
    with torch.inference_mode():
        ours = load_bert(tmp_path)(**inputs).last_hidden_state
        theirs = reference(**inputs).last_hidden_state
    real = inputs["attention_mask"].bool()
    torch.testing.assert_close(ours[real], theirs[real], atol=2e-5, rtol=1e-4)


def test_equals_transformers_on_the_default_model(inputs):
    directory = model_directory(TextEncoderConfig().model)
    assert is_plain_bert(directory)
    with torch.inference_mode():
        ours = load_bert(directory)(**inputs).last_hidden_state
        theirs = AutoModel.from_pretrained(directory).eval()(**inputs).last_hidden_state
    real = inputs["attention_mask"].bool()
    torch.testing.assert_close(ours[real], theirs[real], atol=2e-5, rtol=1e-4)


def test_other_kinds_of_bert_are_left_to_transformers(tmp_path):
    BertModel(BertConfig(**SMALL, hidden_act="relu")).save_pretrained(tmp_path)
    assert not is_plain_bert(tmp_path)


def test_packed_it_computes_the_same(tmp_path, inputs):
    bert, real = small_bert(tmp_path), inputs["attention_mask"].bool()
    with torch.inference_mode():
        plain = bert(**inputs).last_hidden_state
        packed = PackedBert(bert, torch.float32)(**inputs).last_hidden_state
    torch.testing.assert_close(packed[real], plain[real], atol=2e-5, rtol=1e-4)


@can_pack_bfloat16
def test_packed_in_bfloat16_it_computes_nearly_the_same(tmp_path, inputs):
    bert, real = small_bert(tmp_path), inputs["attention_mask"].bool()
    with torch.inference_mode():
        plain = bert(**inputs).last_hidden_state
        rough = PackedBert(bert, torch.bfloat16)(**inputs).last_hidden_state
    pooled, roughly = (torch.where(real[..., None], states, 0.0).sum(1) for states in (plain, rough))
    assert torch.cosine_similarity(roughly, pooled).min() > 0.999


def small_bert(path):
    BertModel(BertConfig(**SMALL)).save_pretrained(path)
    return load_bert(path)


def test_packed_it_computes_nothing_where_there_is_no_token(tmp_path, inputs, monkeypatch):
    BertModel(BertConfig(**SMALL)).save_pretrained(tmp_path)
    packed, num_rows, product = PackedBert(load_bert(tmp_path), torch.float32), set(), onednn.product
    monkeypatch.setattr(onednn, "product", lambda x, *rest: num_rows.add(x.shape[0]) or product(x, *rest))
    inputs = {name: torch.cat([value] * 3) for name, value in inputs.items()}
    with torch.inference_mode():
        states = packed(**inputs, output_hidden_states=True).hidden_states
    assert num_rows == {onednn.filled(84)}  # 20 + 7 + 1 tokens, three times, of 180 places
    assert all(not kept[inputs["attention_mask"] == 0].any() for kept in states) and len(states) == 4
