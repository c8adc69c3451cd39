"""The part of the engine that computes: one rank's model, and what its sequences have read and written."""

import logging
import os
from dataclasses import dataclass

import torch
from torch import Tensor

from mmrag.config import DecoderConfig
from mmrag.decoder.attribution_trace import AttributionTracer
from mmrag.decoder.cache_size import ROW_STEP, CacheSize, Place, StaticPlaces, rounded_up
from mmrag.decoder.checkpoint import find_checkpoint, load_model
from mmrag.decoder.copy_sources import CopySources
from mmrag.decoder.cross_attention_cache import CachedMemory, CrossAttentionCache
from mmrag.decoder.cuda_graph import CudaGraph
from mmrag.decoder.group import Group
from mmrag.decoder.heads import Copying
from mmrag.decoder.model import FusionModel, State
from mmrag.decoder.packed import can_pack, pack
from mmrag.decoder.plan import Admission, Choice, Plan, Result
from mmrag.decoder.prefill import Prefill
from mmrag.decoder.prefill_aside import PrefillAside, Reader
from mmrag.decoder.sampling import Sampler, next_tokens
from mmrag.decoder.self_attention_cache import SelfAttentionCache

log = logging.getLogger(__name__)

MAX_IMAGE_MEMORY = 256
"""Vectors of image memory for which there is room where shapes are static: two for each passage, and the grid."""


def static_source(config: DecoderConfig) -> int:
    """Room for what each sequence reads where shapes are static."""
    return rounded_up(config.max_passages * config.max_passage_tokens + MAX_IMAGE_MEMORY)


@dataclass(slots=True)
class Written:
    """What a step computed after `last_ids`.

    Attributes:
        hidden: states [P, 1, d].
        scores: [P, V]; probabilities with a pointer, logits without.
        copyings: where the pointer looks, for each view of the text's buckets.
    """

    last_ids: list[int]
    hidden: Tensor
    scores: Tensor
    copyings: list[Copying]


class Worker:
    """Does what a `Plan` says. Has no clock, draws nothing without a seed, and fails only when something is broken."""

    def __init__(
        self, model: FusionModel, max_rows: int = 16, max_new_tokens: int = 256, static_source: int | None = None,
        reader: Reader | None = None,
    ):  # fmt: skip
        """`static_source`: reserve so many source tokens for each row, so that every step has the same shapes.
        `reader`: newcomers are read by it, not between steps.

        On a GPU it `looks_ahead`: the next step is begun before the results of the last are handed out, so that the
        device is not idle meanwhile; whoever ends with those results has been computed once more, in vain. Ranks of a
        group do not: each goes on from the tokens that rank 0 chose."""
        self.model = model
        self._reader = reader
        self._prefill: Prefill | PrefillAside | None = None
        self.device = model.embedding.weight.device
        self.max_rows, self.max_new_tokens = max_rows, max_new_tokens
        self.looks_ahead = self.device.type == "cuda" and model.group is None
        self.cache_size = cache_size_of(model, max_rows, static_source)
        self.reset()

    def reset(self) -> None:
        """Forget every sequence."""
        model, layers = self.model, range(len(self.model.decoder))
        static = self.cache_size.static
        self.self_cache = SelfAttentionCache(model, self.max_rows, self.max_new_tokens, static is not None)
        self.cross_cache = CrossAttentionCache(static)
        config, num_rows = model.config, self.self_cache.max_rows
        self.copy_sources = CopySources(num_rows, config.copy_context, config.vocab_size, static is not None)
        self._abandon()
        self._ahead: Written | None = None
        self._sequences: list[Admission] = []
        self._samplers: list[Sampler] = []
        text = [CachedMemory(self.cross_cache.text, i) for i in layers]
        image = [CachedMemory(self.cross_cache.image, i) if model.config.has_image_attention else None for i in layers]
        self._state = State(text, image, self.self_cache.layers, None)
        is_graph = self.device.type == "cuda" and static is not None
        self._graph = CudaGraph(self._compute, self.self_cache.forget) if is_graph else None
        self._tracer = AttributionTracer(model, self.cross_cache.text, text, image)

    @classmethod
    def load(cls, config: DecoderConfig, group: Group | None = None) -> "Worker":
        """A worker over the configured checkpoint, or over this rank's share of it.

        Raises ConfigurationError when it cannot be used.
        """
        is_cuda = torch.device(config.device).type == "cuda"
        dtype = torch.bfloat16 if is_cuda else torch.float32
        model = load_model(find_checkpoint(config.model), config.device, group, dtype)
        if can_pack(config.device, dtype):
            pack(model)
        reader = Reader() if group is None and not is_cuda and leaves_a_core(config.num_threads) else None
        source = static_source(config) if is_cuda else None
        size = cache_size_of(model, config.max_batch, source)
        num_rows = size.num_rows_within(config.memory_bytes, config.max_batch, config.max_new_tokens)
        if num_rows < config.max_batch:
            log.warning("decoder.memory_bytes is enough for a batch of %d, not %d", num_rows, config.max_batch)
        return cls(model, num_rows, config.max_new_tokens, source, reader)

    @property
    def table_bytes(self) -> int:
        """What the rows take, whoever is there; the rest of the memory is for what is read."""
        return self.cache_size.table_bytes(self.max_rows, self.max_new_tokens)

    @torch.inference_mode()
    def run(self, plan: Plan) -> Result:
        """One step."""
        result = Result()
        written, self._ahead = self._ahead, None
        chosen = self._choose(written) if written is not None else None
        self._leave(plan)
        if chosen is None and self._sequences:
            chosen = self._choose(self._write(plan.last_ids))
        result.choices = [chosen[id(sequence)] for sequence in self._sequences]
        if plan.scoring is not None:
            state = self.cross_cache.state_of(plan.scoring.row, self.self_cache.question[plan.scoring.row, None])
            result.scores = likelihoods(self.model, state, plan.scoring.targets)
        if plan.join:
            prefill = Prefill(self.model, plan.join, self.device)
            self._prefill = prefill if self._reader is None else self._reader.begin(prefill)
        if self._prefill is not None and self._prefill.advance(plan.prefill_tokens):
            self._join()
            result.have_joined = True
        if self.looks_ahead and self._sequences:
            newcomers = [self.model.config.start_id] * (len(self._sequences) - len(result.choices))
            self._ahead = self._write([choice.token for choice in result.choices] + newcomers)
        return result

    def _leave(self, plan: Plan) -> None:
        if plan.abandon:
            self._abandon()
        for row in plan.leave:
            self.cross_cache.remove(row)
            moved = self.self_cache.remove(row)
            sequence, sampler = self._sequences.pop(), self._samplers.pop()
            if moved is not None:
                self._sequences[row], self._samplers[row] = sequence, sampler
                self.cross_cache.rename(moved, row)
        if plan.leave:
            self._refresh()

    def _abandon(self) -> None:
        if self._prefill is not None:
            self._prefill.abandon()
        self._prefill = None

    def _join(self) -> None:
        for admission in self._prefill.admissions:
            state = self._prefill.states.pop(0)  # so that it is not there twice for longer than it is copied
            row = self.self_cache.add(state.question)
            self.cross_cache.put(row, state)
            self._sequences.append(admission)
            self._samplers.append(Sampler(admission.sampling, admission.words))
        self._prefill = None
        self._refresh()

    def _refresh(self) -> None:
        self.cross_cache.refresh()
        if self.model.pointer is not None:
            self.copy_sources.refresh(self.cross_cache.text.views)

    def _write(self, last_ids: list[int]) -> Written:
        explained = [row for row, sequence in enumerate(self._sequences) if sequence.is_explained]
        inputs = self.self_cache.begin_step(last_ids)
        if self._graph is not None:
            self._graph.record(*inputs)  # in the very first step, even where it will not run as a graph
        self._tracer.watch(explained)
        compute = self._graph if self._graph is not None and not explained else self._compute
        written = Written(last_ids, *compute(*inputs))
        self.self_cache.end_step()
        return written

    def _choose(self, written: Written) -> dict[int, Choice]:
        """By the `id` of each sequence's admission: rows may still move."""
        hidden, scores, is_generated = written.hidden, written.scores, self.model.pointer is None
        tokens = next_tokens(scores, written.last_ids, self._samplers, are_logarithms=is_generated)
        traces = self._tracer.traces(tokens, scores, written.copyings, self._sequences)
        chosen = {}
        for row, (sequence, token) in enumerate(zip(self._sequences, tokens, strict=True)):
            choice = chosen[id(sequence)] = Choice(token, traces.get(row))
            if sequence.has_trained_labels and self.self_cache.lengths[row] == 1:
                choice.label_probabilities = self.model.labels(hidden[row]).float().softmax(-1)[0].tolist()
        return chosen

    def _compute(self, ids: Tensor, positions: Tensor, recent: Tensor) -> tuple:
        """All of `Written` but the last tokens."""
        self.self_cache.step.positions = positions
        inputs = self.model.embedding(ids) + self.self_cache.question[: len(ids)]
        hidden = self.model.decode(inputs, self.self_cache.bias(), self._state)
        return hidden, *self._scores(hidden, recent)

    def _scores(self, hidden: Tensor, recent: Tensor) -> tuple:
        logits = self.model.logits(hidden)[:, 0]
        if self.model.pointer is None:
            return logits, []
        pointer, sources, texts = self.model.pointer, self.copy_sources, self.cross_cache.text
        parts = zip(texts.apart(pointer.queries(hidden)), sources.bonuses(pointer, recent), texts.views, strict=True)
        looks = [pointer.look(queries, bonus, view.source) for queries, bonus, view in parts]
        attentions, contexts = zip(*looks, strict=True)
        can_copy = sources.tokens.can_copy[: len(hidden)]
        shares = pointer.share_of(hidden, texts.together(contexts, len(hidden))) * can_copy
        scores = logits.float().softmax(-1).mul_(1 - shares)
        copyings = list(map(Copying, attentions, texts.apart(shares)))
        sources.add_copied(scores, copyings)
        return scores, copyings


def cache_size_of(model: FusionModel, max_rows: int, static_source: int | None) -> CacheSize:
    """What sequences of this model take, on this rank."""
    num_ranks = 1 if model.group is None else model.group.size
    static = None
    if static_source is not None:
        num_places = rounded_up(max_rows, ROW_STEP)
        static = StaticPlaces(Place(static_source, num_places), Place(MAX_IMAGE_MEMORY, num_places))
    return CacheSize(model.config, model.embedding.weight.element_size(), num_ranks, static)


def leaves_a_core(num_threads: int | None) -> bool:
    """Whether steps that use so many threads leave as many cores to somebody else; None: they use all."""
    return num_threads is not None and 2 * num_threads <= len(os.sched_getaffinity(0))


def likelihoods(model: FusionModel, state: State, targets: list[list[int]]) -> list[float]:
    """Log-likelihood of each sequence of tokens after a fresh state [1], whose evidence they all read."""
    given, wanted, real = (tensor.to(state.source.ids.device) for tensor in teacher_forced(model, targets))
    log_probabilities, _, _ = model.target_log_probabilities(given, wanted, real, state)
    return log_probabilities.sum(1).tolist()


def teacher_forced(model: FusionModel, targets: list[list[int]]) -> tuple[Tensor, Tensor, Tensor]:
    """What the decoder is given, what it should write next, and where that is real; [n, T] each."""
    lengths = torch.tensor([len(target) for target in targets])
    wanted = torch.full((len(targets), int(lengths.max())), model.config.pad_id)
    for i, target in enumerate(targets):
        wanted[i, : len(target)] = torch.tensor(target)
    given = torch.cat([torch.full_like(wanted[:, :1], model.config.start_id), wanted[:, :-1]], 1)
    return given, wanted, torch.arange(wanted.shape[1]) < lengths[:, None]
