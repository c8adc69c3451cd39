"""Where each token of a sequence that is to be explained came from."""

import numpy as np
import torch
from torch import Tensor

from mmrag.decoder.buckets import Buckets
from mmrag.decoder.cross_attention_cache import CachedMemory
from mmrag.decoder.heads import Copying
from mmrag.decoder.inputs import Batch
from mmrag.decoder.model import FusionModel
from mmrag.decoder.plan import Admission, TokenTrace


class AttributionTracer:
    """Keeps attention and copying in the steps of sequences that are explained; does nothing in others.

    Args:
        text, image: of each layer of the decoder its `CachedMemory`; None where there is no attention to images.
    """

    def __init__(self, model: FusionModel, sources: Buckets, text: list, image: list):
        self._model, self._sources = model, sources
        self._text: list[CachedMemory] = text
        self._image: list[CachedMemory] = [memory for memory in image[-1:] if memory is not None]
        self._watched: list[int] = []

    def watch(self, rows: list[int]) -> None:
        """Have attention kept in the next step if it is needed."""
        self._watched = rows
        for memory in self._text + self._image:
            memory.is_kept = bool(rows)

    def traces(
        self, tokens: list[int], scores: Tensor, copyings: list[Copying], sequences: list[Admission]
    ) -> dict[int, TokenTrace]:
        """Of each watched row, for the token it has just been given; `scores` [R, V], `copyings` of each view."""
        if not self._watched:
            return {}
        text, image = self._mean(self._text), self._mean(self._image)
        found = {}
        for row in self._watched:
            evidence, copied = sequences[row].evidence, None
            num_source = evidence.source_ids.shape[1]
            v, place = self._sources.place_in_views(row)
            if copyings:
                source_ids = self._sources.views[v].source.ids
                copied = copied_part(copyings[v], source_ids, place, tokens[row], scores[row])[:num_source]
            # Where text and image memory are joined, the image's comes after the text's.
            over_image = text[v][place, num_source:]
            if image:
                v_image, place_of_image = self._image[0].buckets.place_in_views(row)
                over_image = image[v_image][place_of_image]
            attended = numpy_of(text[v][place, :num_source])
            found[row] = TokenTrace(copied, attended, regions(over_image, evidence))
        return found

    def _mean(self, memories: list[CachedMemory]) -> list[Tensor]:
        """Attention [n, S] in each view, mean over heads and the layers of `memories`."""
        if not memories:
            return []
        by_view = list(zip(*(memory.kept for memory in memories), strict=True))
        for memory in memories:
            memory.kept = ()
        return [self._model.mean_over_heads(torch.stack(layers).mean(0))[:, 0] for layers in by_view]


def copied_part(copying: Copying, source_ids: Tensor, place: int, token: int, scores: Tensor) -> np.ndarray:
    """[S]: the part of the token's probability that each source token gave."""
    attention, share = copying.attention[place, 0], copying.share[place, 0]
    return numpy_of(attention * (source_ids[place] == token) * share / scores[token].clamp(min=1e-9))


def regions(over_image: Tensor, evidence: Batch) -> np.ndarray | None:
    """[G]: the shares of the query image's regions, which sum to 1, from attention over the image memory."""
    num_regions = int(evidence.grid_mask.sum())
    if not num_regions:
        return None
    first = evidence.text_embeddings.shape[1] + evidence.image_embeddings.shape[1]
    over_grid = over_image[first : first + num_regions]
    return numpy_of(over_grid / over_grid.sum().clamp(min=1e-9))


def numpy_of(tensor: Tensor) -> np.ndarray:
    """float32, on the CPU."""
    return tensor.float().cpu().numpy()
