"""Training the fusion decoder: it learns to copy, resumes where it stopped, and writes what it says."""

import json
import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from decoder.small import DIMENSION, GRID, small_decoder

from mmrag import bfloat16
from mmrag.decoder import FusionDecoder
from mmrag.training.data import Asked, Example, Page, RetrievalSimulator, drop_modality, unit
from mmrag.training.decoder import exact_match, train_decoder
from mmrag.training.decoder_config import DecoderTrainingConfig

CONFIG = DecoderTrainingConfig(num_steps=90, max_batch=24, learning_rate=5e-3, num_warmup=10, bf16=False,
                               validate_every=30, save_every=10)


def examples(seed: int):
    """A letter is asked for, and stands behind "is" in one of two pages."""
    rng, simulator = random.Random(seed), RetrievalSimulator(np.random.default_rng(seed), DIMENSION, DIMENSION, GRID)
    while True:
        pages = [Page(rng.choice("ABC"), f"is {rng.choice('efghijkl')}") for _ in range(2)]
        asked = Asked("?", unit(simulator.rng, DIMENSION), named=True, shown=rng.random() < 0.3)
        request, gold = simulator.request(asked, pages, 0)
        yield Example(request, pages[0].text[-1], gold)


DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def fresh(device: str = "cpu") -> FusionDecoder:
    decoder = small_decoder()
    with torch.no_grad():
        for parameter in decoder.model.parameters():
            if parameter.ndim == 2:
                parameter.normal_(0, 0.1)
    return FusionDecoder(decoder.model, decoder.tokenizer, device)


@pytest.mark.parametrize("device", DEVICES)
def test_it_learns_to_answer_and_writes_its_results(device, tmp_path):
    held_out = [example for example, _ in zip(examples(1), range(60), strict=False)]
    before = exact_match(fresh(), held_out)["all"]
    trained = train_decoder(fresh(device), examples(0), CONFIG, tmp_path, validation=held_out)
    after = exact_match(trained, held_out)["all"]
    assert after > before + 0.2
    assert exact_match(FusionDecoder.load(str(tmp_path)), held_out)["all"] == pytest.approx(after, abs=0.05)
    entries = [json.loads(line) for line in (tmp_path / "training.jsonl").read_text().splitlines()]
    losses = [entry["answer"] for entry in entries if "answer" in entry]
    assert losses[-1] < 0.7 * losses[0]
    assert [entry["step"] for entry in entries if "exact_match" in entry] == [30, 60, 90]
    assert (tmp_path / "curve.png").stat().st_size > 1_000


@pytest.mark.parametrize("is_faster", [True, False])
def test_products_are_in_bfloat16_only_where_that_is_faster(is_faster, tmp_path, monkeypatch):
    monkeypatch.setattr(bfloat16, "is_faster", lambda device: is_faster)
    decoder, seen = fresh(), set()
    decoder.model.encoder[0].register_forward_hook(lambda *_: seen.add(torch.is_autocast_enabled("cpu")))
    config = replace(CONFIG, num_steps=1, max_batch=2, bf16=True, validate_every=0)
    train_decoder(decoder, examples(0), config, tmp_path)
    assert seen == {is_faster}


class Stopped(Exception):
    pass


def test_an_interrupted_run_goes_on_where_it_was_saved(tmp_path):
    seen = []

    def stop_at_half(progress: float) -> None:
        seen.append(progress)
        if progress >= 0.5 and len(seen) < 60:
            raise Stopped

    config = DecoderTrainingConfig(num_steps=20, max_batch=4, bf16=False, save_every=5)
    with pytest.raises(Stopped):
        train_decoder(fresh(), examples(0), config, tmp_path, on_progress=stop_at_half)
    stopped_after = len(seen)
    seen.extend([0.0] * 60)
    train_decoder(fresh(), examples(0), config, tmp_path, on_progress=stop_at_half)
    assert seen[stopped_after + 60] == 0.5
    assert len(seen) == stopped_after + 60 + 10


def test_slow_words_move_less_than_others(tmp_path):
    config = replace(CONFIG, num_steps=3, validate_every=0, slow_words_share=0.0)
    before = fresh().model.embedding.weight.clone()
    decoder = train_decoder(fresh(), examples(0), config, tmp_path, slow_words=torch.tensor([3, 5]))
    moved = (decoder.model.embedding.weight != before).any(-1)
    assert not moved[[3, 5]].any()
    assert moved.float().mean() > 0.5


def test_simulated_evidence_points_at_the_right_page():
    simulator = RetrievalSimulator(np.random.default_rng(0))
    pages = [Page(str(i), "text") for i in range(5)]
    leads, cosines = [], []
    for _ in range(200):
        asked = Asked(None, None, named=False, shown=True)
        request, gold = simulator.request(asked, pages, 2)
        assert request.passages[gold].title == "2"
        values = [passage.similarities["image_image"] for passage in request.passages]
        leads.append(values.index(max(values)) == gold)
        best = request.passages[gold]
        cosines.append(best.similarities["image_image"] - float(best.image_embedding @ request.image_embedding))
    assert np.mean(leads) > 0.9
    assert np.abs(np.mean(cosines)) < 0.05
    assert all("bm25" not in passage.similarities for passage in request.passages)


def test_dropped_modalities_leave_no_trace():
    simulator = RetrievalSimulator(np.random.default_rng(0))
    asked = Asked("question", unit(simulator.rng, 384), named=True, shown=True)
    request, _ = simulator.request(asked, [Page("a", "b"), Page("c", "d")], 0)
    drop_modality(request, simulator.rng, rate=1.0)
    assert request.text_embedding is None and request.image_grid is None
    assert all(p.text_embedding is None and "text_text" not in p.similarities for p in request.passages)
