"""What the fusion decoder is to make small: the answers' unlikelihood, and what helps it on the way."""

import torch
import torch.nn.functional as F
from torch import Tensor

from mmrag import bfloat16
from mmrag.decoder.fusion import FusionDecoder
from mmrag.decoder.heads import Copying
from mmrag.decoder.inputs import Batch
from mmrag.decoder.worker import teacher_forced
from mmrag.training.data import Example
from mmrag.training.decoder_config import DecoderTrainingConfig
from mmrag.training.device import device_kind
from mmrag.training.topics import TopicClassifier


def loss_of(
    decoder: FusionDecoder, examples: list[Example], config: DecoderTrainingConfig, topics: TopicClassifier
) -> dict[str, Tensor]:
    """Likelihood of the answers, the pointer's alignment, the label head where the target is a trained label, and the
    topics where there are any."""
    model, device = decoder.model, decoder.device
    batch = decoder.inputs.build([example.request for example in examples]).to(device)
    given, wanted, real = (tensor.to(device) for tensor in target_tensors(decoder, examples, batch))
    is_mixed = config.bf16 and bfloat16.is_faster(device)
    with torch.autocast(device_kind(device), torch.bfloat16, enabled=is_mixed):
        memory = model.encode(batch)
        state = model.begin(memory, batch)
        log_probabilities, hidden, copying = model.target_log_probabilities(given, wanted, real, state)
        losses = {"answer": -log_probabilities.sum() / real.sum()}
        losses["labels"] = label_loss(decoder, examples, hidden[:, 0])
        if topics.topics:
            losses["topics"] = topics.loss(memory.text, hidden[:, 0], batch, examples)
    losses["alignment"] = alignment_loss(copying, wanted, batch, examples, model.config.end_id)
    losses["loss"] = losses["answer"] + config.alignment_weight * losses["alignment"] + 0.1 * losses["labels"]
    losses["loss"] = losses["loss"] + config.topic_weight * losses.get("topics", 0.0)
    return losses


def target_tensors(decoder: FusionDecoder, examples: list[Example], batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """What the decoder is given, what it should write [B, T], and which of these are real."""
    end_id = decoder.model.config.end_id
    return teacher_forced(
        decoder.model, [[*target_ids(decoder, example, batch, b), end_id] for b, example in enumerate(examples)]
    )


def target_ids(decoder: FusionDecoder, example: Example, batch: Batch, b: int) -> list[int]:
    """The answer's tokens as they stand in the gold passage: a word has others after a space than after a quote."""
    spaced = decoder.tokenizer.encode(" " + example.target, add_special_tokens=False).ids
    if example.gold >= 0:
        source = batch.prompts[b][example.gold].ids
        bare = decoder.tokenizer.encode(example.target, add_special_tokens=False).ids
        if not contains(source, spaced) and contains(source, bare):
            return bare
    return spaced


def contains(ids: list[int], part: list[int]) -> bool:
    return any(ids[i : i + len(part)] == part for i, token in enumerate(ids) if token == part[0])


def alignment_loss(
    copying: Copying | None, wanted: Tensor, batch: Batch, examples: list[Example], end_id: int
) -> Tensor:
    """-log of the pointer's mass on tokens of the gold passage that equal the wanted one."""
    if copying is None:
        return torch.zeros((), device=wanted.device)
    gold = torch.tensor([example.gold for example in examples], device=wanted.device)
    in_gold = (batch.passage_of == gold[:, None]) & batch.copyable & (gold >= 0)[:, None]
    right = (batch.source_ids[:, None] == wanted[..., None]) & in_gold[:, None]
    found = right.any(-1) & (wanted != end_id)
    mass = (copying.attention * right).sum(-1).clamp(min=1e-6)
    return -(mass.log() * found).sum() / found.sum().clamp(min=1)


def label_loss(decoder: FusionDecoder, examples: list[Example], states: Tensor) -> Tensor:
    labels = decoder.model.config.labels
    rows = [
        b for b, example in enumerate(examples)
        if example.request.task == "classify" and not example.request.labels and example.target in labels
    ]
    if not rows:
        return torch.zeros((), device=states.device)
    wanted = torch.tensor([labels.index(examples[b].target) for b in rows], device=states.device)
    return F.cross_entropy(decoder.model.labels(states[rows]).float(), wanted)
