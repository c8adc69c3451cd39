"""The reader that the peers of whole answers serve, with our weights and our runtime beneath."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from mmrag.components.answer_decoder import question_reader
from mmrag.config_file import read_config
from mmrag.decoder.fusion import FusionDecoder
from mmrag.decoder.packed import pack
from mmrag.types import Decoded, DecodeRequest

CONFIG = Path("serve_config.yaml")


def reader() -> Callable[[list[DecodeRequest]], list[Decoded]]:
    """Answers requests as one batch."""
    config = read_config(CONFIG).decoder
    decoder = FusionDecoder.load(config.model, max_passage_tokens=config.max_passage_tokens)
    pack(decoder.model)
    read_question = question_reader(decoder.model.config)

    def read(requests: list[DecodeRequest]) -> list[Decoded]:
        if read_question is not None:
            requests = [replace(one, question_states=read_question(one.text)) for one in requests]
        return decoder.decode(requests)

    return read
