"""A small fusion decoder with random weights, and requests with every kind of evidence."""

from dataclasses import replace

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from mmrag.decoder import DecoderModelConfig, FusionDecoder
from mmrag.decoder.engine import Engine
from mmrag.decoder.model import FusionModel
from mmrag.decoder.prefill_aside import Reader
from mmrag.decoder.prompts import MARKERS
from mmrag.decoder.scheduler import EngineLimits
from mmrag.decoder.worker import Worker
from mmrag.types import DecodeRequest, Passage

DIMENSION, GRID = 16, (4, 8)
PLAIN_T5 = dict(pointer=False, evidence=False, convolution_width=0, question_in_decoder=False)


def byte_tokenizer() -> Tokenizer:
    special = ["<pad>", "</s>", "<unk>", *MARKERS]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate(special + alphabet)}, []))
    tokenizer.add_special_tokens(special)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def small_decoder(**changes) -> FusionDecoder:
    config = DecoderModelConfig(
        vocab_size=8 + 256, d_model=32, d_kv=8, d_ff=48, num_heads=4, num_layers=2, num_decoder_layers=2,
        convolution_width=3, pointer=True, evidence=True, text_dimension=DIMENSION, image_dimension=DIMENSION,
        grid_dimension=GRID[1], labels=["Asia", "Europe"],
    )
    torch.manual_seed(1)
    model = FusionModel(replace(config, **changes))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" not in name:
                parameter.normal_(0, 0.25)
    model.open_gates()
    return FusionDecoder(model.eval().requires_grad_(False), byte_tokenizer())


def vector(seed: int) -> np.ndarray:
    values = np.random.default_rng(seed).standard_normal(DIMENSION).astype(np.float32)
    return values / np.linalg.norm(values)


def passage(name: str, text: str, seed: int, **changes) -> Passage:
    similarities = {"bm25": 0.3 * seed % 1, "image_image": 0.2 * seed % 1}
    values = dict(similarities=similarities, text_embedding=vector(seed), image_embedding=vector(seed + 50))
    return Passage(f"{name}#0", name, name, text, **values | changes)


def request(text="capital?", num_passages=3, **changes) -> DecodeRequest:
    texts = ["Lima is the capital.", "Its capital is Quito, and the currency is the dollar.", "Bogotá"]
    passages = [passage(f"p{i}", texts[i % 3], i + 1) for i in range(num_passages)]
    grid = np.random.default_rng(9).standard_normal(GRID).astype(np.float16)
    values = dict(text=text, text_embedding=vector(7), image_embedding=vector(8), image_grid=grid, passages=passages)
    values |= dict(question_states=np.stack([vector(10), vector(11)]))
    return DecodeRequest(**values | {"max_new_tokens": 12} | changes)


def engine_over(decoder: FusionDecoder, reader: Reader | None = None, **limits) -> Engine:
    limits = EngineLimits(**{"max_rows": 5, "max_waiting": 100} | limits)
    worker = Worker(decoder.model, limits.max_rows, 64, reader=reader)
    return Engine(worker, decoder.inputs, limits, 64, worker.cache_size)


def is_empty(engine: Engine) -> bool:
    worker = engine.worker
    jobs, sequences = engine._jobs or engine._last_ids, worker._sequences or worker._samplers
    nothing_left = not (jobs or sequences or worker._prefill or worker._ahead)
    read = worker.cross_cache.text, worker.cross_cache.image
    nothing_cached = not any(list(buckets) or buckets._of_row or buckets.views for buckets in read)
    return engine.scheduler.is_idle and engine.scheduler.num_bytes == 0 and nothing_left and nothing_cached
