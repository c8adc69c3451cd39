"""What the engine's benchmark asks, and of what."""

import json

from loadtests.bench.engine_atlas import alike_questions, mixed_questions, write_on
from loadtests.bench.engine_sides import Ours
from loadtests.bench.engine_workload import DECODER, MAX_INPUT, SHAPES, title

NUM = 8


def test_the_plain_t5_has_the_shape_of_the_atlas_decoder_and_is_not_called_it():
    config = json.loads((DECODER / "config.json").read_text())
    shape = SHAPES["atlas"]
    assert {name: config[name] for name in shape if name in config} == {
        name: value for name, value in shape.items() if name != "feed_forward_proj"
    }
    assert len(shape) == 8 and shape["feed_forward_proj"] == "relu" and not config["gated"]
    assert title("atlas") == "T5 of the atlas decoder's shape"


def test_the_atlas_decoder_writes_as_much_as_is_asked_for_over_evidence_of_mixed_length():
    ours, asked = Ours(DECODER), mixed_questions(NUM, scale=1.0)
    write_on(ours.engine)
    for one in asked:
        documents = [passage.document_id for passage in one.request.passages]
        assert 1 <= len(documents) == len(set(documents)) <= 20
    sizes = [ours.engine.prepare(one.request).sequence.num_tokens for one in asked]
    assert max(sizes) > 3 * min(sizes) and max(sizes) < 1.2 * MAX_INPUT
    short = mixed_questions(NUM, scale=0.02)
    written = ours.run(short).written
    assert [len(tokens) for tokens in written] == [one.request.max_new_tokens for one in short]


def test_its_limit_is_as_many_equal_questions_for_each_length():
    ours, asked = Ours(DECODER), mixed_questions(NUM, scale=0.3)
    groups = alike_questions(ours.engine, asked, 4)
    assert [len(group) for group in groups] == [NUM] * 4
    assert all(one == group[0] for group in groups for one in group)
    sizes = [ours.engine.prepare(group[0].request).sequence.num_tokens for group in groups]
    assert sizes == sorted(sizes) and sizes[0] < sizes[-1]
