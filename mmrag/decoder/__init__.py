"""The fusion decoder: a small T5-family reader that copies its answers from retrieved passages and pictures."""

from mmrag.decoder.fusion import FusionDecoder
from mmrag.decoder.settings import DecoderModelConfig

__all__ = ["DecoderModelConfig", "FusionDecoder"]
