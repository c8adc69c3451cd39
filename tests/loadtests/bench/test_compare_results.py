"""What the comparison writes down, and that its pieces fit together."""

import ast
import itertools
import json
from xml.etree import ElementTree

import numpy as np
import orjson

from loadtests.bench import compare_parts
from loadtests.bench.compare_parts import Part
from loadtests.bench.compare_peers import ANSWER_PEERS, EMBEDDING_PEERS, OURS, SERVERS, read_response
from loadtests.bench.compare_results import as_text, plot, store, versions
from loadtests.bench.compare_turns import Running, Turn
from loadtests.bench.compare_workload import grouped, pictures, questions
from loadtests.bench.rows import Row
from mmrag.config import CacheConfig, Limits
from mmrag.images import decode_image

MACHINE = {"commit": "abc", "cores": 2}


def part(ours: float, theirs: float, must: float, **missing: str) -> Part:
    turns = {"mmrag": Turn(per_s=ours), "A & B": Turn(per_s=theirs), "bare model": Turn(per_s=300.0)}
    return Part([Row("texts: against the best", ours, theirs, "/s", must)], turns, ["a note"], missing)


def test_the_text_tells_ratio_must_everybody_and_who_is_missing():
    parts = {"texts": part(200.0, 100.0, 2.3, infinity="does not start")}
    text = as_text(parts, {"images": "OSError: gone"}, MACHINE, {"scale": 1.0})
    assert "| 2.00 | ≥ 2.3 | ✗ missed |" in text and "| A & B | 100 |" in text
    assert "- infinity is not compared: does not start" in text and "a note" in text
    assert "## images\n\ncould not be measured: OSError: gone" in text
    assert versions()["litserve"] in text and versions()["ray"] in text


def test_parts_measured_later_stand_beside_the_earlier_ones(tmp_path):
    store({"images": part(90.0, 60.0, 1.3, x="gone")}, MACHINE, {}, tmp_path)
    store({"texts": part(250.0, 100.0, 2.3, y="late")}, MACHINE, {}, tmp_path)
    store({"images": part(60.0, 60.0, 1.3)}, MACHINE | {"commit": "def", "is_modified": True}, {}, tmp_path)
    text = (tmp_path / "compare.md").read_text()
    assert "| 2.50 | ≥ 2.3 | ✓ |" in text and "| 1.00 | ≥ 1.3 | ✗ missed |" in text
    assert "- y is not compared: late" in text and "gone" not in text
    assert "measured at abc," in text and "measured at def with changes," in text
    assert list(json.loads((tmp_path / "compare.json").read_text())) == ["texts", "images"]


def test_a_must_is_missed_where_nobody_was_left_to_compare_with():
    alone = Part(turns={"mmrag": Turn(per_s=9.0), "bare model": Turn(per_s=9.0), "dead": Turn()}, missing={"x": "gone"})
    row = compare_parts._against_best("texts", alone, 2.3)
    assert not row.is_met and row.name == "texts (nobody; without x)"


def test_the_plot_is_an_svg_with_a_bar_for_each_as_long_as_it_is_fast():
    root = ElementTree.fromstring(plot({"texts": part(200.0, 100.0, 1.0).turns, "overload": {}}))
    bars = {bar.get("class"): float(bar.get("width")) for bar in root.iter() if bar.tag.endswith("rect")}
    assert round(bars["ours"] / bars["bar"], 1) == 2 and round(bars["bare"] / bars["ours"], 1) == 1.5
    assert "A & B" in [text.text for text in root.iter() if text.tag.endswith("text")]


def test_every_peer_has_its_server_and_its_pinned_packages():
    for peer in [*EMBEDDING_PEERS, *ANSWER_PEERS]:
        pins = (SERVERS / "requirements" / f"{peer.environment}.txt").read_text().splitlines()
        assert pins and all("==" in line for line in pins if not line.startswith("#")), peer.name
    for source in SERVERS.rglob("*.py"):
        ast.parse(source.read_text())


def test_our_responses_are_read_in_both_shapes():
    encoded = {"data": [{"embedding": "AACAPwAAAEA="}]}
    assert read_response(OURS, orjson.dumps(encoded)).tolist() == [1.0, 2.0]
    assert read_response(OURS, orjson.dumps({"data": [{"embedding": [1.0, 2.0]}]})).tolist() == [1.0, 2.0]
    assert read_response(OURS, b'{"answer": "Lima"}') == "Lima"


def test_nobody_is_asked_the_same_twice_within_what_our_cache_remembers(tmp_path):
    assert CacheConfig().max_entries < compare_parts.NUM_TEXTS
    comparison = compare_parts.Comparison(Running(tmp_path), set(), 1.0, 1, print)
    ours = comparison._texts_for("mmrag")
    mine = [next(ours)] + [next(comparison._texts_for(name)) for name in ["a", "b"] * 5]
    assert len(set(mine)) == 5 and mine[1:3] == [mine[0]] * 2, "others get the same in the same order"
    assert comparison._texts_for("mmrag") is ours and next(ours) == mine[3]
    asked = questions(500)
    assert len(set(asked)) == 500 and asked == questions(500) and set(asked) != set(questions(500, seed=2))
    assert [len(group) for group in itertools.islice(grouped(iter(asked), 200), 3)] == [200, 200, 100]


def test_a_picture_made_distinct_looks_the_same():
    import base64

    [file] = pictures(1)
    others = [compare_parts._distinct_picture(file, number) for number in (1, 2)]
    assert len({file, *others}) == 3
    seen = [decode_image(base64.b64decode(one), Limits()) for one in (file, *others)]
    assert np.array_equal(seen[0], seen[1]) and np.array_equal(seen[0], seen[2])
