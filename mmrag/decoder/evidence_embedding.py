"""What the retriever measured and the encoders saw, as states that the network reads beside the words."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmrag.decoder.inputs import NUM_FEATURES, NUM_KINDS, Batch, Chunk
from mmrag.decoder.settings import DecoderModelConfig


class EvidenceEmbedding(nn.Module):
    """Turns embeddings and similarities into states: image memory, and what is added to a passage's tokens."""

    def __init__(self, config: DecoderModelConfig):
        super().__init__()
        self.config = config
        self.text = nn.Linear(config.text_dimension, config.d_model)
        self.image = nn.Linear(config.image_dimension, config.d_model)
        self.grid = nn.Linear(config.grid_dimension, config.d_model)
        self.kind = nn.Embedding(NUM_KINDS, config.d_model)
        self.features = nn.Sequential(nn.Linear(NUM_FEATURES, 64), nn.ReLU(), nn.Linear(64, config.d_model))
        self.query = nn.Linear(config.question_dimension, config.d_model)
        self.question = nn.Linear(config.question_dimension, config.d_model) if config.question_in_decoder else None
        if config.question_layers:
            # States have dimensions far larger than others: these begin as what is usual in each, and are learned.
            self.question_mean = nn.Parameter(torch.zeros(config.question_dimension))
            self.question_scale = nn.Parameter(torch.ones(config.question_dimension))
        self.shared_word = nn.Parameter(torch.zeros(config.d_model))
        self.gate = nn.Parameter(torch.zeros(()))

    def passages(self, chunks: list[Chunk]) -> Tensor:
        """What is added to the token states [T, d] of all passages."""
        embedding, features, has_question = (
            torch.cat([getattr(chunk, name) for chunk in chunks])
            for name in ("question", "features", "has_question")
        )
        num = len(features)
        # A multiple of four rows: fewer take another way through a matrix product, and round differently.
        embedding, features = (F.pad(x, (0, 0, 0, -num % 4)) for x in (embedding, features))
        query = self.query(self.as_read(embedding))[:num] * has_question[:, None]
        of_passage = self.features(features)[:num] + query
        lengths = [length for chunk in chunks for length in [chunk.ids.shape[1]] * len(chunk.ids)]
        of_token = of_passage.repeat_interleave(torch.tensor(lengths, device=features.device), 0)
        in_query = torch.cat([chunk.in_query.flatten() for chunk in chunks])
        return self.gate * (of_token + in_query[:, None] * self.shared_word)

    def asked(self, batch: Batch) -> Tensor | float:
        """What is added to each input of the decoder [B, 1, d]."""
        if self.question is None:
            return 0.0
        question = self.question(self.as_read(batch.question))
        return (self.gate * question * batch.has_question[:, None])[:, None]

    def as_read(self, question: Tensor) -> Tensor:
        """What a question is read from, given as float32 [n, question_dimension], as the network takes it."""
        if self.config.question_layers:
            question = (question - self.question_mean.float()) * self.question_scale.float()
        else:
            question = unit_variance(question)
        return question.to(self.gate.dtype)  # the layers may be packed, and have no weights to look at

    def memory(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Image memory [B, M, d]: the query's and the passages' embeddings, then the query image's grid."""
        features = self.features(batch.features)
        text = self.text(unit_variance(batch.text_embeddings)) + features + self.kind(batch.text_kinds)
        image = self.image(unit_variance(batch.image_embeddings)) + features + self.kind(batch.image_kinds)
        grid = self.grid(batch.grid) + self.kind.weight[-1]
        masks = [batch.text_embeddings_mask, batch.image_embeddings_mask, batch.grid_mask]
        return torch.cat([text, image, grid], 1), torch.cat(masks, 1)


def unit_variance(embeddings: Tensor) -> Tensor:
    """Embeddings of length 1 [..., d] as the network reads them; else they are faint beside tokens, and learnt late."""
    return embeddings * embeddings.shape[-1] ** 0.5
