"""T5 checkpoints as they are published: several files with an index, a sentencepiece vocabulary, what goes wrong."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from decoder.t5 import save_t5
from safetensors.torch import load_file, save_file

from mmrag.decoder import FusionDecoder
from mmrag.decoder.tokens import load_tokenizer
from mmrag.errors import ConfigurationError
from mmrag.types import DecodeRequest

TEXTS = ["translate to German: the house is small", "hello"]
PIECES = ["<pad>", "</s>", "<unk>", "▁", "▁the", "▁house", "▁is", "▁small", *"abcdefghijklmnopqrstuvwxyz"]
CONTROL, UNKNOWN, NORMAL = 3, 2, 1


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("t5")
    save_t5(directory, TEXTS, feed_forward_proj="gated-gelu", d_model=32, d_kv=8, num_heads=4, num_layers=2)
    return directory


@pytest.fixture
def copied(checkpoint, tmp_path) -> Path:
    return Path(shutil.copytree(checkpoint, tmp_path / "copy"))


def answers(directory: Path) -> list[str]:
    requests = [DecodeRequest(text, None, None, None, [], max_new_tokens=12) for text in TEXTS]
    return [answer.text for answer in FusionDecoder.load(str(directory)).decode(requests)]


def test_several_files_with_an_index_are_one_checkpoint(checkpoint, copied):
    weights = load_file(copied / "model.safetensors")
    (copied / "model.safetensors").unlink()
    names, weight_map = sorted(weights), {}
    for number, part in enumerate((names[::2], names[1::2]), 1):
        file = f"model-{number:05}-of-00002.safetensors"
        save_file({name: weights[name] for name in part}, copied / file)
        weight_map |= dict.fromkeys(part, file)
    (copied / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    assert answers(copied) == answers(checkpoint)
    (copied / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(ConfigurationError, match="lacks model-00002-of-00002"):
        FusionDecoder.load(str(copied))


def test_bfloat16_weights_are_read(checkpoint, copied):
    weights = load_file(copied / "model.safetensors")
    save_file({name: w.bfloat16() for name, w in weights.items()}, copied / "model.safetensors")
    model = FusionDecoder.load(str(copied)).model
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())
    assert torch.equal(model.embedding.weight, weights["shared.weight"].bfloat16().float())


def write_sentencepiece(path: Path) -> None:
    from transformers.utils import sentencepiece_model_pb2_new as protocol

    model = protocol.ModelProto()
    for i, piece in enumerate(PIECES):
        kind = {0: CONTROL, 1: CONTROL, 2: UNKNOWN}.get(i, NORMAL)
        model.pieces.add(piece=piece, score=0.0 if i < 3 else -float(i), type=kind)
    model.trainer_spec.model_type, model.trainer_spec.unk_id = 1, 2
    path.write_bytes(model.SerializeToString())


def test_a_sentencepiece_vocabulary_is_read(copied):
    (copied / "tokenizer.json").unlink()
    write_sentencepiece(copied / "spiece.model")
    tokenizer = load_tokenizer(copied)
    ids = tokenizer.encode("the house is small", add_special_tokens=False).ids
    assert ids == [PIECES.index(piece) for piece in ("▁the", "▁house", "▁is", "▁small")]
    assert tokenizer.decode(ids) == "the house is small"
    assert tokenizer.token_to_id("</s>") == 1
    assert tokenizer.token_to_id("<extra_id_99>") == len(PIECES)  # the sentinels follow, the last one first
    assert all(isinstance(text, str) for text in answers(copied))


def test_what_is_missing_or_does_not_fit_is_said(copied):
    raw = json.loads((copied / "config.json").read_text())
    (copied / "config.json").write_text(json.dumps(raw | {"d_ff": 128}))
    with pytest.raises(ConfigurationError, match=r"has the shape \[32, 64\], config.json asks for \[32, 128\]"):
        FusionDecoder.load(str(copied))
    (copied / "config.json").write_text(json.dumps(raw | {"num_layers": 3}))
    with pytest.raises(ConfigurationError, match=r"missing encoder\.2\."):
        FusionDecoder.load(str(copied))
    (copied / "model.safetensors").unlink()
    with pytest.raises(ConfigurationError, match="has no model"):
        FusionDecoder.load(str(copied))
    (copied / "tokenizer.json").write_text("{}")
    with pytest.raises(ConfigurationError, match="tokenizer"):
        load_tokenizer(copied)
