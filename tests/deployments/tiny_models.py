"""Untrained models of a megabyte, for tests of everything around the models."""

from pathlib import Path

import torch

from mmrag.config import TextEncoderConfig
from mmrag.decoder import DecoderModelConfig, FusionDecoder
from mmrag.decoder.model import FusionModel
from mmrag.encoders.image import ImageEncoder
from mmrag.encoders.tokenizer import load_tokenizer
from mmrag.encoders.tower import ImageTower, TowerConfig


def write_image_encoder(directory: Path) -> None:
    torch.manual_seed(0)
    backbone = {"kind": "residual", "widths": [8, 16, 16]}
    tower = ImageTower(TowerConfig(backbone, side_px=32, grid_shape=(4, 4), grid_dimension=8))
    ImageEncoder(tower).save(directory)


def write_decoder(directory: Path, **changes) -> None:
    torch.manual_seed(0)
    tokenizer = load_tokenizer(TextEncoderConfig())
    config = DecoderModelConfig(
        vocab_size=tokenizer.get_vocab_size(),
        d_model=32,
        d_kv=8,
        d_ff=64,
        num_heads=4,
        num_layers=1,
        num_decoder_layers=1,
        end_id=tokenizer.token_to_id("[SEP]"),
        start_id=tokenizer.token_to_id("[CLS]"),
        convolution_width=3,
        pointer=True,
        evidence=True,
        grid_dimension=8,
        labels=["Europe", "Asia"],
        **changes,
    )
    FusionDecoder(FusionModel(config).eval(), tokenizer).save(directory)
