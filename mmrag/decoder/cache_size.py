"""How much memory sequences take while they are read and written, known before anything is allocated.

`buckets` and `self_attention_cache` allocate what is counted here (`tests/decoder/test_cache_size.py`).
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
    """Room for a memory of so many text tokens or image vectors; a bucket has `max_places` like it at most."""

    length: int
    max_places: int

    @classmethod
    def around(cls, length: int, token_bytes: int) -> "Place":
        """The one for a memory of this length, whose keys have `token_bytes` for each token in each layer."""
        length = rounded_up(length)
        max_places = min(MAX_BUCKET_BYTES // max(1, token_bytes * length), MAX_PLACES)
        if max_places < 2:
            return cls(length, 1)
        # A quarter of an octave apart.
        return cls(rounded_up(length, max(STEP, 2 ** (length.bit_length() - 3))), max_places)


@dataclass(frozen=True, slots=True)
class StaticPlaces:
    """Where shapes are static, each row has one of both, taken or not."""

    text: Place
    image: Place


@dataclass(frozen=True)
class CacheSize:
    """Bytes of keys and values on each of `num_ranks` ranks, for a model whose numbers have `number_bytes`."""

    config: DecoderModelConfig
    number_bytes: int = 4
    num_ranks: int = 1
    static: StaticPlaces | None = None

    def sequence_bytes(self, num_source: int, num_image: int) -> int:
        """At most, from joining to leaving, for one that reads so many tokens and vectors of image memory.

        Its places in buckets, and the free ones that there may be beside them; while it is being read, less.
        """
        if self.static is not None:
            return self.static_bytes
        config = self.config
        if config.is_joined:
            num_source += num_image
        text, image = (Place.around(length, self._token_bytes) for length in (num_source, num_image))
        text_places, image_places = (min(place.max_places, MAX_PLACES_PER_SEQUENCE) for place in (text, image))
        return text_places * self.text_bytes(text) + image_places * self.image_bytes(image)

    @property
    def static_bytes(self) -> int:
        """Of a row's places where shapes are static."""
        return self.text_bytes(self.static.text) + self.image_bytes(self.static.image)

    def text_bytes(self, place: Place) -> int:
        """Of all layers, and of the pointer."""
        config, float32 = self.config, 4
        per_token = 2 * self._token_bytes + float32 * (2 if config.is_joined else 1)  # a bias, a weight where joined
        # Ids and where copying is allowed; states, and what `CopySources` keeps.
        pointer = 8 + 1 + (config.d_model * self.number_bytes + 8 * (2 + config.copy_context) if config.pointer else 0)
        return (config.num_decoder_layers * per_token + pointer) * place.length

    def image_bytes(self, place: Place) -> int:
        """Of all layers, where the decoder attends to image memory apart from the text."""
        per_vector = 2 * self._token_bytes + 4
        return self.config.num_decoder_layers * per_vector * place.length if self.config.has_image_attention else 0

    def table_bytes(self, num_rows: int, num_tokens: int) -> int:
        """What so many rows of so many written tokens take, in use or not."""
        config = self.config
        per_row = 2 * self._token_bytes * rounded_up(num_tokens)
        per_row += self.number_bytes * config.d_model * max(config.convolution_width - 1, 0)
        others = self.number_bytes * config.d_model + (4 if config.pointer else 0)  # the question; what can be copied
        return rounded_up(num_rows, ROW_STEP) * (config.num_decoder_layers * per_row + others)

    def num_rows_within(self, memory_bytes: float, max_rows: int, num_tokens: int) -> int:
        """As many rows as there is memory for, `max_rows` at most. As much is left for what is read as tables take or,
        where shapes are static, a place for each row. Raises ConfigurationError when there is not enough for one."""
        for num_rows in range(max_rows, 0, -1):
            tables = self.table_bytes(num_rows, num_tokens)
            places = tables if self.static is None else rounded_up(num_rows, ROW_STEP) * self.static_bytes
            if tables + places <= memory_bytes:
                return num_rows
        raise ConfigurationError(
            f"decoder.memory_bytes is {memory_bytes:,}, but one sequence alone needs {tables + places:,}: raise it, "
            "or lower decoder.max_new_tokens"
        )

    @property
    def _token_bytes(self) -> int:
        return self.config.num_heads * self.config.d_kv // self.num_ranks * self.number_bytes
