"""What a fusion decoder is made of: the config.json beside its weights."""

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Literal

from mmrag.errors import ConfigurationError

MODEL_TYPE = "mmrag_fusion"


@dataclass(frozen=True)
class DecoderModelConfig:
    """The shape of a fusion decoder; the first half is T5's, the second half our additions.

    Attributes:
        gated: gated GELU (T5 v1.1, flan) instead of ReLU (T5 v1.0).
        tied_head: the embedding table is the output layer.
        scale_output: divide the state before the output layer by sqrt(d_model), as T5 v1.0 does.
        convolution_width: taps of the depthwise causal convolution before self-attention; 0 for none.
        fusion: "dual_stream" attends to text and image memory apart, "cross_modal" to both joined.
        scores: "dot" as T5, or "scaled_dot" divided by sqrt(d_kv).
        sentence_pooling: in each layer of the encoder a token sees the mean of its sentence (see `layers`).
        copy_context: how many tokens last written the pointer compares with those before a source token.
        evidence: read similarities, embeddings and the query image's grid; False for a plain T5.
        question_in_decoder: add what the question is read from to every input of the decoder, too.
        question_model, question_layers: read the question from the mean states of these layers of this text model,
            which say more of it than its embedding does (see `mmrag.encoders.question`); None: from its embedding.
        text_dimension, image_dimension, grid_dimension: widths of the embeddings given to the decoder.
        labels: what the classify head chooses among when the caller names no labels.
    """

    vocab_size: int
    d_model: int
    d_kv: int
    d_ff: int
    num_heads: int
    num_layers: int
    num_decoder_layers: int
    num_buckets: int = 32
    max_distance: int = 128
    norm_epsilon: float = 1e-6
    gated: bool = False
    tied_head: bool = True
    scale_output: bool = True
    pad_id: int = 0
    end_id: int = 1
    start_id: int = 0
    convolution_width: int = 0
    sentence_pooling: bool = False
    fusion: Literal["dual_stream", "cross_modal"] = "dual_stream"
    scores: Literal["dot", "scaled_dot"] = "dot"
    pointer: bool = False
    copy_context: int = 4
    evidence: bool = False
    question_in_decoder: bool = False
    question_model: str | None = None
    question_layers: list[int] = field(default_factory=list)
    text_dimension: int = 384
    image_dimension: int = 384
    grid_dimension: int = 64
    labels: list[str] = field(default_factory=list)

    def __post_init__(self):
        if (self.question_model is None) != (not self.question_layers):
            raise ConfigurationError("config.json of a decoder has question_model and question_layers, or neither")

    @property
    def has_image_attention(self) -> bool:
        """Whether the decoder attends to the image memory apart from the text."""
        return self.evidence and self.fusion == "dual_stream"

    @property
    def is_joined(self) -> bool:
        """Whether text and image memory are attended to as one."""
        return self.evidence and self.fusion == "cross_modal"

    @property
    def question_dimension(self) -> int:
        """How many numbers the question is read from: its embedding's, or so many for each layer."""
        return self.text_dimension * max(1, len(self.question_layers))

    def save(self, directory: Path) -> None:
        """Write config.json."""
        (directory / "config.json").write_text(json.dumps({"model_type": MODEL_TYPE} | asdict(self), indent=2))

    @classmethod
    def load(cls, directory: Path, has_head: bool) -> "DecoderModelConfig":
        """Read config.json, ours or a plain T5's; `has_head`: the weights hold an output layer of their own."""
        raw = json.loads((directory / "config.json").read_text())
        if raw.get("model_type") in ("t5", "mt5"):
            return from_t5(raw, has_head)
        if raw.pop("model_type", None) != MODEL_TYPE:
            raise ConfigurationError(f"{directory}/config.json is neither a T5's nor a fusion decoder's")
        unknown = set(raw) - {known.name for known in fields(cls)}
        if unknown:
            raise ConfigurationError(f"{directory}/config.json has keys unknown here: {', '.join(sorted(unknown))}")
        return cls(**raw)


def from_t5(raw: dict, has_head: bool) -> DecoderModelConfig:
    """A Hugging Face T5 config.json as ours, with every addition switched off."""
    feed_forward = raw.get("feed_forward_proj", "relu")
    if feed_forward not in ("relu", "gated-gelu"):
        raise ConfigurationError(f"T5 with feed_forward_proj {feed_forward!r} is not supported (relu, gated-gelu)")
    scaled = raw.get("scale_decoder_outputs", raw.get("tie_word_embeddings", True) is not False)
    end_id = raw.get("eos_token_id", 1)
    return DecoderModelConfig(
        vocab_size=raw["vocab_size"],
        d_model=raw["d_model"],
        d_kv=raw["d_kv"],
        d_ff=raw["d_ff"],
        num_heads=raw["num_heads"],
        num_layers=raw["num_layers"],
        num_decoder_layers=raw.get("num_decoder_layers") or raw["num_layers"],
        num_buckets=raw.get("relative_attention_num_buckets", 32),
        max_distance=raw.get("relative_attention_max_distance", 128),
        norm_epsilon=raw.get("layer_norm_epsilon", 1e-6),
        gated=feed_forward == "gated-gelu",
        tied_head=not has_head,
        scale_output=scaled,
        pad_id=raw.get("pad_token_id", 0),
        end_id=end_id[0] if isinstance(end_id, list) else end_id,
        start_id=raw.get("decoder_start_token_id", raw.get("pad_token_id", 0)),
    )
