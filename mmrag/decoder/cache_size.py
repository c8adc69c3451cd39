"""How much memory sequences take while they are read and written, known before anything is allocated.

`cross_attention_cache` and `self_attention_cache` allocate what is counted here (`tests/decoder/test_cache_size.py`).
"""

from dataclasses import dataclass

from mmrag.decoder.settings import DecoderModelConfig
from mmrag.errors import ConfigurationError

STEP = 16
"""Attention sees a multiple of this many source tokens. Masked zeros at the end of such a length change no bit of the
result, so an answer is the same whatever shares its bucket."""

ROW_STEP = 4
"""Multiples of so many rows are computed: products of fewer rows take another way and round differently."""

MAX_BUCKET_BYTES = 4 * 2**20
MAX_PLACES = 16
MAX_PLACES_PER_SEQUENCE = 2
"""A bucket grows and shrinks by doubling and halving: places that nobody has are no more than those that are taken."""


def rounded_up(length: int, step: int = STEP) -> int:
    return -(-length // step) * step


@dataclass(frozen=True, slots=True)
class Place:
    """Room for so many tokens of text memory and vectors of image memory; a bucket has `max_places` like it at most."""

    num_text: int
    num_image: int
    max_places: int

    @classmethod
    def around(cls, num_text: int, num_image: int, token_bytes: int) -> "Place":
        """The one for memories of this length, whose keys have `token_bytes` for each token in each layer."""
        length, num_image = rounded_up(num_text), rounded_up(num_image)
        max_places = min(MAX_BUCKET_BYTES // max(1, token_bytes * length), MAX_PLACES)
        if max_places < 2:
            return cls(length, num_image, 1)
        # A quarter of an octave apart.
        return cls(rounded_up(length, max(STEP, 2 ** (length.bit_length() - 3))), num_image, max_places)


@dataclass(frozen=True)
class CacheSize:
    """Bytes of keys and values on each of `num_ranks` ranks, for a model whose numbers have `number_bytes`.

    Attributes:
        static_place: where shapes are static, each row has a place of this size, taken or not.
    """

    config: DecoderModelConfig
    number_bytes: int = 4
    num_ranks: int = 1
    static_place: Place | None = None

    def sequence_bytes(self, num_source: int, num_image: int) -> int:
        """At most, from joining to leaving, for one that reads so many tokens and vectors of image memory.

        Its place in a bucket, and the free one that there may be beside it; while it is being read, less.
        """
        if self.static_place is not None:
            return self.place_bytes(self.static_place)
        config = self.config
        if config.fusion == "cross_modal" or not config.evidence:
            num_source, num_image = num_source + (num_image if config.evidence else 0), 0
        place = Place.around(num_source, num_image, self._token_bytes)
        return min(place.max_places, MAX_PLACES_PER_SEQUENCE) * self.place_bytes(place)

    def place_bytes(self, place: Place) -> int:
        """Of all layers, and of the pointer."""
        config, keys_and_values, float32 = self.config, 2 * self._token_bytes, 4
        is_joined = config.evidence and config.fusion == "cross_modal"
        per_token = keys_and_values + float32 * (2 if is_joined else 1)  # a bias, and a weight for what is joined
        per_vector = keys_and_values + float32
        pointer = 8 + 1 + (config.d_model * self.number_bytes if config.pointer else 0)
        in_layers = config.num_decoder_layers * (per_token * place.num_text + per_vector * place.num_image)
        return in_layers + pointer * place.num_text

    def table_bytes(self, num_rows: int, num_tokens: int) -> int:
        """What so many rows of so many written tokens take, in use or not."""
        config = self.config
        per_row = 2 * self._token_bytes * rounded_up(num_tokens)
        per_row += self.number_bytes * config.d_model * max(config.convolution_width - 1, 0)
        question = self.number_bytes * config.d_model
        return rounded_up(num_rows, ROW_STEP) * (config.num_decoder_layers * per_row + question)

    def num_rows_within(self, memory_bytes: float, max_rows: int, num_tokens: int) -> int:
        """As many rows as there is memory for, `max_rows` at most. As much is left for what is read as tables take or,
        where shapes are static, a place for each row. Raises ConfigurationError when there is not enough for one."""
        for num_rows in range(max_rows, 0, -1):
            tables = self.table_bytes(num_rows, num_tokens)
            static = self.static_place and rounded_up(num_rows, ROW_STEP) * self.place_bytes(self.static_place)
            places = tables if static is None else static
            if tables + places <= memory_bytes:
                return num_rows
        raise ConfigurationError(
            f"decoder.memory_bytes is {memory_bytes:,}, but one sequence alone needs {tables + places:,}: raise it, "
            "or lower decoder.max_new_tokens"
        )

    @property
    def _token_bytes(self) -> int:
        return self.config.num_heads * self.config.d_kv // self.num_ranks * self.number_bytes
