"""The parts of the comparison: each takes its turns and says what must hold."""

import base64
import itertools
import math
import os
import statistics
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from loadtests.bench.compare_bare import Bare
from loadtests.bench.compare_client import open_loop, run
from loadtests.bench.compare_limit import BareAtItsBest
from loadtests.bench.compare_peers import ANSWER_PEERS, EMBEDDING_PEERS, OURS, Peer
from loadtests.bench.compare_servers import Server
from loadtests.bench.compare_turns import Running, Turn, ask, closed_turn, in_rounds, unable
from loadtests.bench.compare_workload import grouped, pictures, questions
from loadtests.bench.rows import Row

NUM_CALLERS, NUM_ANSWER_CALLERS, NUM_BATCH_CALLERS = 64, 32, 4
TURN_S, WARM_UP_S = 6.0, 2.0
NUM_TEXTS, NUM_PICTURES = 30_000, 600
"""More texts than our cache holds: when they come round again, it has forgotten them."""

BATCH = 256
OURS_NAME = OURS.name
BARE = "bare model"

Sides = dict[str, tuple[Peer, Server]]


@dataclass
class Part:
    """What one part found: the rows with their musts, everybody's median turn, and who is missing and why."""

    rows: list[Row] = field(default_factory=list)
    turns: dict[str, Turn] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)


class Comparison:
    """Runs the parts that are asked for.

    Attributes:
        found: what each found, in the order of their measurement; `on_part` is told of each at once.
        failed: the parts that could not be measured, and why.
    """

    def __init__(
        self, running: Running, peers: set[str], scale: float, num_rounds: int, on_part: Callable[[str, Part], None]
    ):
        self.found: dict[str, Part] = {}
        self.failed: dict[str, str] = {}
        self._running, self._wanted, self._on_part = running, peers, on_part
        self._num_rounds = num_rounds
        self._turn_s, self._warm_up_s = max(0.7, TURN_S * scale), max(0.3, WARM_UP_S * scale)
        self._questions, self._texts = questions(NUM_TEXTS), {}
        self._scale = scale
        self._bare = BareAtItsBest(self._turn_s)

    def close(self) -> None:
        """End the bare model."""
        self._bare.close()

    def measure(self, parts: list[str]) -> None:
        """Servers of the same kind are started once for all parts that need them."""
        ours = self._running.start([OURS])
        if not ours:
            self.failed = dict.fromkeys(parts, f"{OURS_NAME} {self._running.missing[OURS_NAME]}")
            return
        self._among(ours, EMBEDDING_PEERS, "theirs", {"texts": self._documented, "images": self._images}, parts)
        self._among(ours, EMBEDDING_PEERS, "ours", {"session": self._same_session}, parts)
        self._among(ours, ANSWER_PEERS, "theirs", {"answers": self._answers}, parts)
        alone = {"batches": self._batches, "alone": self._alone, "overload": self._overload, "cache": self._cache}
        for name in (name for name in alone if name in parts):
            self._take(name, lambda name=name: alone[name](*ours[OURS_NAME]))

    def _among(
        self, ours: Sides, peers: list[Peer], session: str, work: dict[str, Callable[[Sides], Part]], parts: list[str]
    ) -> None:
        """Those of `parts` that are in `work`, with the peers, which run only for that."""
        names = [name for name in work if name in parts]
        if not names:
            return
        sides = ours | self._start(peers, session)
        for name in names:
            self._take(name, lambda name=name: work[name](sides))
        self._stop(sides)

    def _take(self, name: str, work: Callable[[], Part]) -> None:
        """What fails is said, and the other parts are still measured."""
        print(f"{name}:", file=sys.stderr, flush=True)
        try:
            self.found[name] = work()
            self._on_part(name, self.found[name])
        except Exception as error:
            traceback.print_exc()
            self.failed[name] = f"{type(error).__name__}: {error}"

    def _documented(self, sides: Sides) -> Part:
        part = self._everybody(sides, "texts", self._texts_for, NUM_CALLERS, has_bare=True)
        part.missing |= self._bare.missing
        mine, bare = part.turns[OURS_NAME], part.turns[BARE]
        part.notes.append(f"the bare model at its best: {self._bare.settings}")
        what = f"embeddings, one short text a request, {NUM_CALLERS} callers"
        part.rows = [
            _against_best(f"{what}: against the best peer", part, 2.3),
            Row(f"{what}: against the bare model at its best", mine.per_s, bare.per_s, "/s", 0.7),
            Row("encoder at saturation: processor time for each text, against the bare model's",
                mine.encoder_cpu_ms, bare.cpu_ms, "ms", 1.25, is_at_most=True),
            Row("encoder at saturation: busy part of the cores",
                mine.busy_cores / len(os.sched_getaffinity(0)), None, "", 0.95),
            Row("encoder at saturation: the longest wait, in medians",
                mine.max_ms / mine.p50_ms, None, "", 3.0, is_at_most=True),
        ]  # fmt: skip
        return part

    def _same_session(self, sides: Sides) -> Part:
        part = self._everybody(sides, "texts", self._texts_for, NUM_CALLERS)
        what = f"embeddings, {NUM_CALLERS} callers, our model session inside theirs: against the best peer"
        part.rows = [_against_best(what, part, 1.3)]
        return part

    def _images(self, sides: Sides) -> Part:
        files = pictures(max(100, round(NUM_PICTURES * self._scale)))
        bodies = (_distinct_picture(file, number) for number, file in enumerate(itertools.cycle(files)))
        part = self._everybody(sides, "images", lambda name: bodies, NUM_CALLERS)
        what = f"image embeddings, {NUM_CALLERS} callers: against the best peer"
        part.rows = [_against_best(what, part, 1.3)]
        return part

    def _batches(self, peer: Peer, server: Server) -> Part:
        requests = (peer.request("texts", texts) for texts in grouped(self._texts_for(OURS_NAME), BATCH))
        sides = {
            OURS_NAME: lambda: closed_turn(server, requests, NUM_BATCH_CALLERS, self._turn_s, self._warm_up_s),
            BARE: self._bare.turn,
        }
        turns = self._medians(sides)
        mine = BATCH * turns[OURS_NAME].per_s
        what = f"embeddings, {BATCH} texts a request, {NUM_BATCH_CALLERS} callers, texts/s: against the bare model"
        return Part([Row(what, mine, turns[BARE].per_s, "/s", 0.95)], turns)

    def _cache(self, peer: Peer, server: Server) -> Part:
        texts = self._texts_for(OURS_NAME)
        repeated = itertools.cycle([peer.request("texts", next(texts)) for _ in range(100)])
        fresh = (peer.request("texts", text) for text in texts)
        turns = self._medians({
            "repeated": lambda: closed_turn(server, repeated, NUM_CALLERS, self._turn_s, self._warm_up_s),
            "new": lambda: closed_turn(server, fresh, NUM_CALLERS, self._turn_s, self._warm_up_s),
        })  # fmt: skip
        hit, miss = turns["repeated"].per_s, turns["new"].per_s
        return Part([Row("embeddings, repeated text (a cache hit) against a new one", hit, miss, "/s", 5.0)], turns)

    def _answers(self, sides: Sides) -> Part:
        part = self._everybody(sides, "answers", self._texts_for, NUM_ANSWER_CALLERS)
        what = f"whole answers, {NUM_ANSWER_CALLERS} callers: against the best peer"
        whole_ms, models_ms = part.turns[OURS_NAME].cpu_ms or math.nan, self._models_ms()
        name = "whole answers at saturation: part of the processor time spent outside the models"
        part.rows = [
            _against_best(what, part, 3.0),
            Row(name, 1 - models_ms / whole_ms, None, "", 0.25, is_at_most=True),
        ]
        part.notes.append(f"processor time of an answer: {whole_ms:.1f} ms, of its models alone {models_ms:.1f} ms")
        part.notes.append(self._agreement({name: sides[name] for name in part.turns}))
        return part

    def _models_ms(self) -> float:
        """Processor time of the models for a whole answer; nan where it could not be measured."""
        bare = Bare()
        try:
            asked = questions(256, seed=2)
            job = {"questions": asked, "num_callers": NUM_ANSWER_CALLERS, "span_s": self._turn_s}
            return 1000 * bare.do(do="models", **job)[0]["cpu_s"]
        except RuntimeError as error:
            print(error, file=sys.stderr, flush=True)
            return math.nan
        finally:
            bare.close()

    def _alone(self, peer: Peer, server: Server) -> Part:
        requests = (peer.request("answers", text) for text in self._texts_for(OURS_NAME))
        bare = Bare()
        asked = itertools.cycle(questions(2_000, seed=3))

        def in_process() -> dict[str, float]:
            some = list(itertools.islice(asked, 400))
            median_ms = statistics.median(bare.do(do="alone", questions=some, span_s=self._turn_s)[0]["latencies_ms"])
            return {"p50_ms": median_ms, "per_s": 1000 / median_ms}

        try:
            in_process()  # loads the models
            sides = {OURS_NAME: lambda: closed_turn(server, requests, 1, self._turn_s, self._warm_up_s)}
            turns = self._medians(sides | {"plain pipeline, in process": in_process})
        finally:
            bare.close()
        mine, plain = turns[OURS_NAME].p50_ms, turns["plain pipeline, in process"].p50_ms
        name = "whole answers, one caller, warm: what the service adds to the median of the pipeline in process"
        return Part([Row(name, mine - plain, None, "ms", 8.0, is_at_most=True)], turns)

    def _overload(self, peer: Peer, server: Server) -> Part:
        requests = (peer.request("answers", text) for text in self._texts_for(OURS_NAME))
        at_peak = closed_turn(server, requests, NUM_ANSWER_CALLERS, 2 * self._turn_s, self._warm_up_s)
        with server.turn():
            load = run(open_loop(server.port, requests, 2 * at_peak.per_s, 2 * self._turn_s, self._warm_up_s))
        turn = Turn.of(load)
        refused = turn.refused_per_s / (turn.refused_per_s + turn.per_s) if turn.per_s else 1.0
        what = "twice the load that saturates"
        rows = [
            Row(f"{what}: goodput, of the peak", turn.per_s, at_peak.per_s, "/s", 0.9),
            Row(f"{what}: p99, of that at saturation", turn.p99_ms, at_peak.p99_ms, "ms", 2.0, is_at_most=True),
            Row(f"{what}: refused with 429", refused, None, ""),
            Row(f"{what}: failed otherwise", turn.failed_per_s, None, "/s", 0.0, is_at_most=True),
        ]
        return Part(rows, {"saturated": at_peak, what: turn}, [load.problem] if load.problem else [])

    def _everybody(
        self, sides: Sides, kind: str, asked: Callable[[str], Iterator[str]], num_callers: int, has_bare: bool = False
    ) -> Part:
        """Everybody's turns; `asked` gives what is asked of each, by its name."""
        missing = self._running.missing | unable(sides, kind, next(asked(OURS_NAME)))
        if OURS_NAME in missing:
            raise RuntimeError(f"{OURS_NAME} {missing[OURS_NAME]}")

        def side(peer: Peer, server: Server) -> Callable[[], Turn]:
            requests = (peer.request(kind, one) for one in asked(peer.name))
            return lambda: closed_turn(server, requests, num_callers, self._turn_s, self._warm_up_s)

        turns: dict[str, Callable[[], Turn]] = {name: side(*sides[name]) for name in sides if name not in missing}
        if has_bare:
            turns[BARE] = self._bare.turn
        return Part(turns=self._medians(turns), missing=missing)

    def _texts_for(self, name: str) -> Iterator[str]:
        """The same texts for everybody in the same order; who comes round has asked all the others in between.

        Each goes on where it stopped: a text that others took meanwhile would come back too soon, from our cache.
        """
        return self._texts.setdefault(name, itertools.cycle(self._questions))

    def _agreement(self, sides: Sides) -> str:
        """How many answers of each are ours word for word."""
        asked, answers = questions(20, seed=5), {}
        try:
            for name, (peer, server) in sides.items():
                with server.turn():
                    answers[name] = [ask(peer, server, "answers", one) for one in asked]
        except (ValueError, KeyError, TypeError, OSError) as error:
            return f"whether answers are the same could not be told: {name}: {error}"
        mine = answers.pop(OURS_NAME)
        equal = {name: sum(a == b for a, b in zip(mine, theirs, strict=True)) for name, theirs in answers.items()}
        shares = ", ".join(f"{name} {num} of {len(asked)}" for name, num in equal.items())
        return f"the same answers as ours: {shares}"

    def _medians(self, sides: dict[str, Callable[[], Any]]) -> dict[str, Turn]:
        rounds = in_rounds(sides, self._num_rounds)
        return {
            name: Turn.median([turn if isinstance(turn, Turn) else Turn(**turn) for turn in turns])
            for name, turns in rounds.items()
        }

    def _start(self, peers: list[Peer], session: str = "theirs") -> Sides:
        return self._running.start([peer for peer in peers if peer.key in self._wanted], session)

    def _stop(self, sides: Sides) -> None:
        self._running.stop([server for name, (_, server) in sides.items() if name != OURS_NAME])


PARTS = ("texts", "images", "session", "answers", "batches", "alone", "overload", "cache")


def _against_best(name: str, part: Part, must: float) -> Row:
    """Not met where nobody is left to compare with."""
    others = {one: turn.per_s for one, turn in part.turns.items() if one not in (OURS_NAME, BARE) and turn.per_s}
    best = max(others, key=others.get, default="nobody")
    without = f"; without {', '.join(part.missing)}" if part.missing else ""
    return Row(f"{name} ({best}{without})", part.turns[OURS_NAME].per_s, others.get(best, math.nan), "/s", must)


def _distinct_picture(file: str, number: int) -> str:
    """The same picture in another file: bytes after a JPEG's end are read by nobody, but no cache knows them."""
    return base64.b64encode(base64.b64decode(file) + number.to_bytes(8)).decode()
