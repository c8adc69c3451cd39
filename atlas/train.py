"""Train both models of the atlas, from nothing to atlas/weights: `mmrag train atlas`."""

from typing import Literal

from atlas import train_decoder, train_image


def train(only: Literal["image", "decoder"] | None = None, device: str | None = None) -> None:
    """Train the image tower, then the fusion decoder; each goes on where it was stopped."""
    where = ["--device", device] if device else []
    if only != "decoder":
        train_image.main(where)
    if only != "image":
        train_decoder.main(where)
