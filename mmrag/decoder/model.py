"""The fusion decoder's network: passages and pictures in, the next token out.

    encode(batch) -> Memory      every passage on its own (Fusion-in-Decoder), image memory beside it
    begin(memory) -> State       cross keys and values of every layer, once
    step(ids, state) -> hidden   decoder over new tokens, cached
    logits(hidden), copy(...)    vocabulary and pointer
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmrag import onednn
from mmrag.decoder.attention import MASKED, Attention, CrossMemory, Run
from mmrag.decoder.evidence_embedding import EvidenceEmbedding
from mmrag.decoder.group import Group
from mmrag.decoder.heads import Copying, LabelHead, Pointer, Source, copied_probabilities
from mmrag.decoder.inputs import Batch, Chunk
from mmrag.decoder.layers import DecoderLayer, EncoderLayer, LayerCache, RMSNorm, Sequences
from mmrag.decoder.position_bias import RelativePositionBias
from mmrag.decoder.settings import DecoderModelConfig


@dataclass(slots=True)
class Memory:
    """What the decoder attends to: text [B, S, d], image [B, M, d] (None without evidence), masks True where real."""

    text: Tensor
    text_mask: Tensor
    image: Tensor | None
    image_mask: Tensor | None


@dataclass(slots=True)
class State:
    """One batch being decoded.

    Attributes:
        text, image: of each layer, what it reads; image None where a layer has no attention to it.
        caches: of each layer, what it remembers of the `num_written` tokens so far.
        last_ids: int64 [B, copy_context - 1], the last of them, for the pointer.
        question: what is added to each input [B, 1, d].
    """

    text: list[CrossMemory]
    image: list[CrossMemory | None]
    caches: list[LayerCache]
    source: Source
    num_written: int = 0
    last_ids: Tensor | None = None
    question: Tensor | float = 0.0


class FusionModel(nn.Module):
    """The whole network or, where `group` is set (by `parallel.shard`), one rank's share of it."""

    def __init__(self, config: DecoderModelConfig):
        super().__init__()
        self.config = config
        self.group: Group | None = None
        self.embedding = nn.Embedding(config.vocab_size, config.d_model)
        self.encoder = nn.ModuleList(EncoderLayer(config) for _ in range(config.num_layers))
        self.encoder_bias = RelativePositionBias(config, bidirectional=True)
        self.encoder_norm = RMSNorm(config)
        self.decoder = nn.ModuleList(DecoderLayer(config) for _ in range(config.num_decoder_layers))
        self.decoder_bias = RelativePositionBias(config, bidirectional=False)
        self.decoder_norm = RMSNorm(config)
        self.head = None if config.tied_head else nn.Linear(config.d_model, config.vocab_size, bias=False)
        self.pointer = Pointer(config) if config.pointer else None
        self.evidence = EvidenceEmbedding(config) if config.evidence else None
        self.labels = LabelHead(config) if config.labels else None
        if config.is_joined:
            self.joint = EncoderLayer(replace(config, convolution_width=0, sentence_pooling=False))
            self.joint_gate = nn.Parameter(torch.zeros(()))

    def encode(self, batch: Batch) -> Memory:
        """Encode every passage with its query."""
        *_, states = self.encode_by_layers(batch.chunks)
        return self.remember(states, batch)

    def remember(self, encoded: Tensor, batch: Batch) -> Memory:
        """The memory of each request, from the encoded tokens [n, d] of all chunks."""
        text = encoded[batch.positions]
        if self.evidence is None:
            return Memory(text, batch.source_mask, None, None)
        memory = Memory(text, batch.source_mask, *self.evidence.memory(batch))
        return self.join(memory) if self.config.is_joined else memory

    def encode_by_layers(self, chunks: list[Chunk]) -> Iterator[Tensor]:
        """States [T or a few more, d] of the tokens of all chunks after each layer, so that other work can be done in
        between; the last is the result."""
        x = self.embedding(torch.cat([chunk.ids.flatten() for chunk in chunks]))
        if self.evidence is not None:
            x = x + self.evidence.passages(chunks)
        places = [torch.arange(chunk.ids.shape[1], device=x.device).repeat(len(chunk.ids)) for chunk in chunks]
        # Four rows at a time are the same in any company, fewer are not; and few numbers of rows, see `onednn.filled`.
        num_more = onednn.filled(len(x) + -len(x) % 4) - len(x)
        sentences = F.pad(torch.cat([chunk.sentences for chunk in chunks]), (0, 1), value=num_more)
        positions = F.pad(torch.cat(places), (0, num_more))
        sequences = Sequences([self.run(chunk) for chunk in chunks], positions, sentences)
        x = F.pad(x, (0, 0, 0, num_more))
        for layer in self.encoder[:-1]:
            x = layer(x, sequences)
            yield x
        yield self.encoder_norm(self.encoder[-1](x, sequences))

    def run(self, chunk: Chunk) -> Run:
        """How the sequences of a chunk attend; with padding hidden where it has any."""
        num, length = chunk.ids.shape
        if torch.is_grad_enabled() or chunk.ids.is_cuda or not chunk.mask.all():
            return Run(num, length, self.encoder_bias(length, length) + hidden_keys(chunk.mask))
        return Run(num, length, self.encoder_bias.backwards(length, length), is_backwards=True)

    def join(self, memory: Memory) -> Memory:
        """Joint self-attention of text and image memory, entering through a gate."""
        x = torch.cat([memory.text, memory.image], 1)
        mask = torch.cat([memory.text_mask, memory.image_mask], 1)
        sequences = Sequences([Run(*mask.shape, hidden_keys(mask))])
        joined = self.joint(x.flatten(0, 1), sequences).view_as(x)
        x = x + self.joint_gate * (joined - x)
        num_text = memory.text.shape[1]
        return Memory(x[:, :num_text], memory.text_mask, x[:, num_text:], memory.image_mask)

    def begin(self, memory: Memory, batch: Batch) -> State:
        """Everything about the evidence that each step needs, computed once."""
        text, image = [], []
        for layer in self.decoder:
            text.append(self.text_memory(layer.cross.text, memory))
            image.append(image_memory(layer.cross.image, memory))
        states = memory.text if self.pointer is not None else memory.text[..., :0]
        source = Source(batch.source_ids, batch.copyable, states)
        question = self.evidence.asked(batch) if self.evidence is not None else 0.0
        return State(text, image, [LayerCache() for _ in self.decoder], source, question=question)

    def text_memory(self, attention: Attention, memory: Memory) -> CrossMemory:
        """Keys and values of the text; with `cross_modal` of the image memory, too, which counts as far as its gate is
        open."""
        if memory.image is None or not self.config.is_joined:
            return CrossMemory(*attention.project(memory.text), hidden_keys(memory.text_mask))
        joined = torch.cat([memory.text, memory.image], 1)
        mask = torch.cat([memory.text_mask, memory.image_mask], 1)
        shares = [memory.text.new_ones(memory.text.shape[1]), self.joint_gate.clamp(0, 1).expand(memory.image.shape[1])]
        return CrossMemory(*attention.project(joined), hidden_keys(mask), torch.cat(shares)[None, None, None])

    def step(self, ids: Tensor, state: State) -> Tensor:
        """Hidden states [B, T, d] of new target tokens [B, T]; the state moves on by T."""
        length, past = ids.shape[1], state.num_written
        bias = self.decoder_bias(length, past + length, start=past)
        if length > 1:
            future = torch.ones(length, past + length, dtype=torch.bool, device=ids.device).triu(past + 1)
            bias = bias.masked_fill(future, MASKED)
        state.num_written += length
        return self.decode(self.embedding(ids) + state.question, bias, state)

    def decode(self, x: Tensor, bias: Tensor, state: State) -> Tensor:
        """Hidden states of inputs x [B, T, d] at the places that `bias` [1 or B, H, T, past + T] tells."""
        for layer, text, image, cache in zip(self.decoder, state.text, state.image, state.caches, strict=True):
            x = layer(x, bias, text, image, cache)
        return self.decoder_norm(x)

    def logits(self, hidden: Tensor) -> Tensor:
        """Scores [..., V] of the vocabulary, on every rank, from decoder states [..., d]."""
        if self.config.scale_output:
            hidden = hidden * self.config.d_model**-0.5
        scores = hidden @ self.embedding.weight.T if self.head is None else self.head(hidden)
        return scores if self.group is None else self.group.concatenate(scores)[..., : self.config.vocab_size]

    def mean_over_heads(self, attention: Tensor) -> Tensor:
        """[B, T, S] of the attention [B, H, T, S] over this rank's heads: the mean over all heads."""
        mean = attention.mean(1)
        return mean if self.group is None else self.group.sum(mean) / self.group.size

    def copy(self, hidden: Tensor, ids: Tensor, state: State) -> Copying | None:
        """Where the pointer looks after the tokens `ids` [B, T], whose predecessors the state remembers."""
        if self.pointer is None:
            return None
        num = self.config.copy_context
        before = state.last_ids if state.last_ids is not None else ids.new_full((len(ids), num - 1), -2)
        written = torch.cat([before, ids], 1)
        state.last_ids = written[:, written.shape[1] - num + 1 :]
        return self.pointer(hidden, written.unfold(1, num, 1).flip(-1), state.source)

    def target_log_probabilities(
        self, ids: Tensor, targets: Tensor, real: Tensor, state: State
    ) -> tuple[Tensor, Tensor, Copying | None]:
        """Teacher forcing: log-probabilities [B, T] of `targets` after `ids`, 0 where not `real` [B, T]; with the
        hidden states and the pointer. The vocabulary is scored at real positions only: it is the dearest part."""
        hidden = self.step(ids, state)
        copying = self.copy(hidden, ids, state)
        logs = -F.cross_entropy(self.logits(hidden[real]).float(), targets[real], reduction="none")
        if copying is not None:
            share, copied = copying.share[real], copied_probabilities(copying, state.source.ids, targets)[real]
            logs = ((1 - share) * logs.exp() + share * copied).clamp(min=1e-9).log()
        return torch.zeros_like(real, dtype=logs.dtype).masked_scatter(real, logs), hidden, copying

    def open_gates(self) -> None:
        """Let the additions take part from the first step: for training from scratch, not for a trained T5."""
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                if name.endswith("gate") and parameter.ndim == 0:
                    parameter.fill_(1.0)


def hidden_keys(mask: Tensor) -> Tensor:
    """Bias [B, 1, 1, S] that hides the keys where `mask` [B, S] is False."""
    return torch.zeros(mask.shape, device=mask.device).masked_fill(~mask, MASKED)[:, None, None]


def image_memory(attention: Attention | None, memory: Memory) -> CrossMemory | None:
    """Keys and values of the image memory, for a layer that attends to it apart from the text; None for others.

    What is not there has a value of 0: who has no image memory at all gets nothing from it.
    """
    if attention is None or memory.image is None:
        return None
    keys, values = attention.project(memory.image)
    return CrossMemory(keys, values * memory.image_mask[:, None, :, None], hidden_keys(memory.image_mask))
