"""Pictures of things by several artists, and the batches drawn from them."""

import math
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mmrag.training.augment import augment


@dataclass(frozen=True)
class PictureSet:
    """One artist: keys [n] of the things shown, and their pictures, uint8 [n, S, S, 4] (S >= the tower's side)."""

    keys: list[str]
    pictures: np.ndarray


class PictureBank:
    """All pictures of all artists, drawn from by thing."""

    def __init__(self, pictures: dict[str, PictureSet], group_shares: dict[str, float]):
        self.pictures = torch.from_numpy(np.concatenate([artist.pictures for artist in pictures.values()]))
        by_key: dict[str, list[int]] = {}
        for row, key in enumerate(key for artist in pictures.values() for key in artist.keys):
            by_key.setdefault(key, []).append(row)
        self.keys = sorted(by_key)
        self.rows = [np.array(by_key[key]) for key in self.keys]
        groups = np.array([key.partition("-")[0] for key in self.keys])
        rest = np.flatnonzero(~np.isin(groups, list(group_shares)))
        self.pools = [(share, np.flatnonzero(groups == group)) for group, share in group_shares.items()]
        self.pools.append((1 - sum(group_shares.values()), rest))

    def draw(self, num_things: int, num_views: int, random: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Thing indices [num_things * num_views] and their pictures; different artists where there are enough."""
        things = np.concatenate([
            random.choice(pool, min(len(pool), round(share * num_things)), replace=False)
            for share, pool in self.pools
        ])
        rows = [self._views(self.rows[thing], num_views, random) for thing in things]
        return torch.from_numpy(things.repeat(num_views)), self.pictures[np.concatenate(rows)]

    @staticmethod
    def _views(rows: np.ndarray, num_views: int, random: np.random.Generator) -> np.ndarray:
        repeated = [random.permutation(rows) for _ in range(math.ceil(num_views / len(rows)))]
        return np.concatenate(repeated)[:num_views]


class Batches:
    """Draws and changes the pictures of the next step on a thread of its own while this one is learnt from."""

    def __init__(self, bank: PictureBank, num_things: int, num_views: int, side_px: int, seed: int):
        self.bank, self.num_things, self.num_views = bank, num_things, num_views
        self.side_px, self.seed = side_px, seed
        self._thread = ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(1,))
        self._next: tuple[int, Future] | None = None

    def take(self, step: int) -> tuple[Tensor, Tensor, np.random.Generator]:
        """Thing indices [n], float32 [n, 3, side, side], and the step's random numbers; all follow from the seed."""
        if self._next is None or self._next[0] != step:
            self._next = (step, self._thread.submit(self._make, step))
        batch = self._next[1].result()
        self._next = (step + 1, self._thread.submit(self._make, step + 1))
        return batch

    def _make(self, step: int) -> tuple[Tensor, Tensor, np.random.Generator]:
        random = np.random.default_rng((self.seed, step))
        generator = torch.Generator().manual_seed(int(random.integers(2**62)))
        things, pictures = self.bank.draw(self.num_things, self.num_views, random)
        return things, augment(pictures, self.side_px, generator), random
