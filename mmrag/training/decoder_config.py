"""How a fusion decoder is trained."""

from dataclasses import dataclass


@dataclass(frozen=True)
class DecoderTrainingConfig:
    """How long and how fast to learn.

    Attributes:
        max_batch_tokens, max_batch: a batch ends at whichever comes first; tokens of all passages, estimated.
        slow_words_share: how much of each step those embeddings take that begin with a meaning.
        alignment_weight: of the term that asks the pointer to look where the answer stands in the gold passage.
        topics, topic_weight: what facts are about, which is learned beside the answers (see `topics`); and its weight.
        bf16: matrix products in bfloat16, where the hardware multiplies it faster than float32.
        validate_every: steps between validations, and one at the end; 0 for none.
        max_minutes: where given, the schedule follows the clock, and `num_steps` is only an upper bound.
        frozen_base: train only what fusion adds to a T5; the T5 stays as it is, number for number.
    """

    num_steps: int = 3_000
    max_batch: int = 64
    max_batch_tokens: int = 12_000
    learning_rate: float = 1.5e-3
    num_warmup: int = 100
    slow_words_share: float = 0.3
    weight_decay: float = 0.01
    max_gradient_norm: float = 1.0
    alignment_weight: float = 0.3
    topics: tuple[str, ...] = ()
    topic_weight: float = 0.3
    bf16: bool = True
    validate_every: int = 250
    save_every: int = 250
    max_minutes: float | None = None
    frozen_base: bool = False
