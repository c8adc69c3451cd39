"""Labels are scored beside those who write: everybody's turn comes, and no step takes long for them."""

import torch
from decoder.small import engine_over, request, small_decoder


def test_labels_are_scored_in_order_of_arrival_however_many_come_after():
    engine = engine_over(small_decoder(), max_rows=3)
    asked = request("which?", 1, task="classify", labels=["sea", "lake"])
    jobs = [engine.submit(engine.prepare(asked)) for _ in range(6)]
    for _ in range(20):
        jobs.append(engine.submit(engine.prepare(asked)))
        engine.step()
    are_done = [job.is_done for job in jobs]
    assert sum(are_done) > 10
    assert are_done == sorted(are_done, reverse=True)


def test_a_step_scores_few_tokens_however_many_and_long_the_labels_are():
    decoder, shapes = small_decoder(), []
    labels = [f"{i}{'x' * 150}" for i in range(20)] + [f"{i:05}" for i in range(20)]
    with decoder.model.decoder[0].register_forward_hook(lambda layer, given, _: shapes.append(given[0].shape)):
        scores = decoder.decode([request(task="classify", labels=labels)])[0].labels
    assert {label.label for label in scores} == set(labels)
    scored = [(rows, length) for rows, length, _ in shapes if length > 1]
    assert scored == [(2, 32)] * 10 + [(9, 7), (9, 7), (2, 7)]


def test_one_label_longer_than_a_step_should_score_is_scored_all_the_same(monkeypatch):
    monkeypatch.setattr("mmrag.decoder.job.SCORED_TOKENS", 8)
    answer = small_decoder().decode([request(task="classify", labels=["x" * 20, "y" * 20, "z"])])[0]
    assert abs(sum(label.score for label in answer.labels) - 1) < 1e-5
    assert torch.isfinite(torch.tensor([label.score for label in answer.labels])).all()
