"""The part of the engine that computes: one rank's model, and what its sequences have read and written."""

import torch
from torch import Tensor

from mmrag.config import DecoderConfig
from mmrag.decoder.checkpoint import find_checkpoint, load_model
from mmrag.decoder.group import Group
from mmrag.decoder.heads import Copying, with_copied
from mmrag.decoder.looks import Onlooker
from mmrag.decoder.model import FusionModel, State
from mmrag.decoder.packed import can_pack, pack
from mmrag.decoder.plan import Admission, Plan, Result
from mmrag.decoder.prefill import Prefill
from mmrag.decoder.rows import Rows
from mmrag.decoder.sampling import Sampler, next_tokens
from mmrag.decoder.scoring import likelihoods
from mmrag.decoder.shelves import ShelvedMemory, Shelves


class Worker:
    """Does what a `Plan` says. Has no clock, draws nothing without a seed, and fails only when something is broken."""

    def __init__(self, model: FusionModel, max_rows: int = 16, max_new_tokens: int = 256):
        self.model = model
        self.device = model.embedding.weight.device
        self._size = max_rows, max_new_tokens
        self.reset()

    def reset(self) -> None:
        """Forget every sequence."""
        model, layers = self.model, range(len(self.model.decoder))
        self.rows, self.shelves = Rows(model, *self._size), Shelves()
        self._prefill: Prefill | None = None
        self._sequences: list[Admission] = []
        self._samplers: list[Sampler] = []
        text = [ShelvedMemory(self.shelves, "text", i) for i in layers]
        image = [ShelvedMemory(self.shelves, "image", i) if model.has_image_attention else None for i in layers]
        self._state = State(text, image, self.rows.caches, None)
        self._onlooker = Onlooker(model, self.shelves, text, image)

    @classmethod
    def load(cls, config: DecoderConfig, group: Group | None = None) -> "Worker":
        """A worker over the configured checkpoint, or over this rank's share of it.

        Raises ConfigurationError when it cannot be used.
        """
        dtype = torch.bfloat16 if torch.device(config.device).type == "cuda" else torch.float32
        model = load_model(find_checkpoint(config.model), config.device, group, dtype)
        if can_pack(config.device, dtype):
            pack(model)
        return cls(model, config.max_batch, config.max_new_tokens)

    @torch.inference_mode()
    def run(self, plan: Plan) -> Result:
        """One step."""
        result = Result()
        self._leave(plan)
        if self._sequences:
            self._write(plan.last_ids, result)
        if plan.scoring is not None:
            state = self.shelves.state_of(plan.scoring.row, self.rows.question[plan.scoring.row, None])
            result.scores = likelihoods(self.model, state, plan.scoring.targets)
        if plan.join:
            self._prefill = Prefill(self.model, plan.join, self.device)
        if self._prefill is not None and self._prefill.advance(plan.prefill_tokens):
            self._join()
            result.have_joined = True
        return result

    def _leave(self, plan: Plan) -> None:
        if plan.abandon:
            self._prefill = None
        for row in plan.leave:
            self.shelves.remove(row)
            moved = self.rows.remove(row)
            sequence, sampler = self._sequences.pop(), self._samplers.pop()
            if moved is not None:
                self._sequences[row], self._samplers[row] = sequence, sampler
                self.shelves.rename(moved, row)
        if plan.leave:
            self.shelves.refresh()

    def _join(self) -> None:
        for admission, state in zip(self._prefill.admissions, self._prefill.states, strict=True):
            row = self.rows.add(state.question)
            self.shelves.put(row, state)
            self._sequences.append(admission)
            self._samplers.append(Sampler(admission.sampling))
        self._prefill = None
        self.shelves.refresh()

    def _write(self, last_ids: list[int], result: Result) -> None:
        num = len(self._sequences)
        self._onlooker.watch([row for row, sequence in enumerate(self._sequences) if sequence.is_explained])
        bias = self.rows.begin_step(last_ids)
        ids = torch.tensor([[token] for token in last_ids + [0] * (len(bias) - num)], device=self.device)
        inputs = self.model.embedding(ids) + self.rows.question[: len(ids)]
        hidden = self.model.decode(inputs, bias, self._state)
        self.rows.end_step()
        scores, copyings = self._scores(hidden)
        result.tokens = next_tokens(scores, self._samplers, are_logarithms=self.model.pointer is None)
        result.looks = self._onlooker.looks(result.tokens, scores, copyings, self._sequences)
        for row, sequence in enumerate(self._sequences):
            if sequence.has_trained_labels and self.rows.lengths[row] == 1:
                result.label_probabilities[row] = self.model.labels(hidden[row]).float().softmax(-1)[0].tolist()

    def _scores(self, hidden: Tensor) -> tuple[Tensor, list[Copying]]:
        """Scores [P, V]: probabilities with a pointer, logits without; and where it looks, for each view."""
        logits = self.model.logits(hidden)
        if self.model.pointer is None:
            return logits[:, 0], []
        scores, copyings = logits[:, 0].float().softmax(-1), []
        last_ids = self.rows.last_written(self.model.config.copy_context)
        for view in self.shelves.views:
            copying = self.model.pointer(hidden[view.rows], last_ids[view.rows], view.source)
            scores[view.rows] = with_copied(scores[view.rows, None], copying, view.source.ids)[:, 0]
            copyings.append(copying)
        return scores, copyings
