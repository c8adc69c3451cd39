"""A decoder shared among real processes answers as the whole one does, and each holds its share only."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from decoder.ranked import decode, on_each_rank
from decoder.small import request, small_decoder
from decoder.t5 import save_t5
from safetensors import safe_open

from mmrag.decoder.checkpoint import load_model
from mmrag.decoder.parallel import check_divisible, style_of
from mmrag.errors import ConfigurationError
from mmrag.types import DecodeRequest, Sampling

TEXTS = ["translate to German: the house is small", "hello", "summarize: a long text that goes on " * 6]
T5S = {
    "t5 v1.0": dict(feed_forward_proj="relu", d_model=32, d_kv=8, num_heads=4, num_layers=2),
    "t5 v1.1": dict(feed_forward_proj="gated-gelu", d_model=48, d_kv=8, num_heads=4, num_layers=2,
                    num_decoder_layers=1, tie_word_embeddings=False),
}
FUSIONS = {
    "dual stream": dict(fusion="dual_stream", question_in_decoder=True),
    "cross modal": dict(fusion="cross_modal", scores="scaled_dot", gated=True),
    "reads states": dict(question_model="any", question_layers=[2, 4], sentence_pooling=True),
    "untied, odd vocabulary": dict(tied_head=False, vocab_size=8 + 256 + 1, pointer=False),
}


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory) -> dict[str, Path]:
    """Checkpoints with random weights of both kinds, by name."""
    root = tmp_path_factory.mktemp("checkpoints")
    for name, changes in FUSIONS.items():
        small_decoder(**changes).save(root / name)
    for name, shape in T5S.items():
        save_t5(root / name, TEXTS, **shape)
    return {name: root / name for name in FUSIONS | T5S}


def asked(name: str) -> list[DecodeRequest]:
    if name in T5S:
        return [DecodeRequest(text, None, None, None, [], max_new_tokens=10) for text in TEXTS]
    alone = request("what?", 0, image_embedding=None, image_grid=None, max_new_tokens=8)
    labelled = request(task="classify", labels=["sea", "Zürich"])
    sampled = request("who?", 2, max_new_tokens=8, sampling=Sampling(temperature=0.7, top_k=5, seed=3))
    shown = request(None, 5, text_embedding=None, max_new_tokens=8)
    return [request(explain=True, max_new_tokens=8), alone, shown, labelled, sampled]


def answers(group, checkpoints: dict[str, Path]) -> dict[str, list]:
    """What each checkpoint answers, shared among the ranks of `group` or whole where there is none."""
    return {name: decode(group, directory, asked(name)) for name, directory in checkpoints.items()}


@pytest.mark.parametrize("size", [2, 4])
def test_shared_by_several_it_writes_the_same_tokens(checkpoints, size):
    expected = answers(None, checkpoints)
    [found, *others] = on_each_rank(size, answers, checkpoints)
    for name in checkpoints:
        for answer, alone in zip(found[name], expected[name], strict=True):
            assert (answer.text, answer.num_tokens) == (alone.text, alone.num_tokens), name
            check_the_rest(answer, alone)
    assert not any(answer for other in others for answer in other.values())  # only rank 0 hands out
    assert len({answer.text for of_one in expected.values() for answer in of_one}) > 10


def check_the_rest(answer, alone) -> None:
    if alone.labels:
        assert [label.score for label in answer.labels] == pytest.approx([s.score for s in alone.labels], abs=1e-4)
    if alone.attribution:
        assert answer.attribution.passages == pytest.approx(alone.attribution.passages, abs=2e-3)
        for row, row_alone in zip(answer.attribution.regions, alone.attribution.regions, strict=True):
            assert row == pytest.approx(row_alone, abs=2e-3)


def num_numbers(group, directory: Path) -> int:
    return sum(p.numel() for p in load_model(directory, group=group).parameters())


def test_what_is_cut_is_divided_and_nothing_is_lost(checkpoints):
    directory = checkpoints["t5 v1.0"]
    whole = num_numbers(None, directory)
    norms = 32 * (2 * 2 + 3 * 2 + 2)
    assert sum(on_each_rank(2, num_numbers, directory)) == whole + norms


class Counting:
    """Opens safetensors files and counts the numbers that are read of them."""

    def __init__(self):
        self.num_read = 0

    def __call__(self, path, framework):
        outer, file = self, safe_open(path, framework)

        class File:
            def __enter__(self):
                return self

            def __exit__(self, *_):
                file.__exit__(*_)

            def keys(self):
                return file.keys()

            def get_tensor(self, name):
                return outer.noted(file.get_tensor(name))

            def get_slice(self, name):
                return Slice(file.get_slice(name))

        class Slice:
            def __init__(self, whole):
                self._whole, self.get_shape = whole, whole.get_shape

            def __getitem__(self, part):
                return outer.noted(self._whole[part])

        return File()

    def noted(self, tensor):
        self.num_read += tensor.numel()
        return tensor


@pytest.mark.parametrize("name", FUSIONS | T5S)
def test_a_rank_reads_no_more_of_the_files_than_it_holds(checkpoints, name, monkeypatch):
    counting = Counting()
    monkeypatch.setattr("mmrag.decoder.weights.safe_open", counting)
    model = load_model(checkpoints[name], group=SimpleNamespace(rank=0, size=2))
    assert counting.num_read == sum(parameter.numel() for parameter in model.parameters())


def test_every_matrix_of_attention_and_feed_forward_is_cut():
    model = small_decoder(gated=True, tied_head=False).model
    whole = {name for name, module in model.named_modules() if hasattr(module, "weight") and not style_of(name)}
    kept = ("norm", "cross.join", "pointer.", "evidence.", "labels.")
    assert [name for name in whole if not any(part in name for part in kept)] == []


def test_heads_that_cannot_be_divided_are_refused_with_what_can():
    config = replace(small_decoder().model.config, num_heads=6, d_ff=48)
    with pytest.raises(ConfigurationError, match=r"tensor_parallel_size 4 .* 6 heads .*choose one of 1, 2, 3, 6"):
        check_divisible(config, 4)
    with pytest.raises(ConfigurationError, match="50"):
        check_divisible(replace(config, num_heads=4, d_ff=50), 4)


def test_a_rank_refuses_at_the_start(checkpoints):
    with pytest.raises(ConfigurationError, match="tensor_parallel_size 3 does not divide"):
        on_each_rank(3, num_numbers, checkpoints["dual stream"])
