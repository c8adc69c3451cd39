"""infinity: python infinity_server.py v2 --model-id DIRECTORY; with SESSION=ours its batches run in our session."""

import os

from infinity_emb.cli import cli
from infinity_emb.transformer.embedder.sentence_transformer import SentenceTransformerPatched


def with_our_session() -> None:
    from models import text_model

    embed = text_model()
    SentenceTransformerPatched.encode_pre = lambda self, sentences: sentences
    SentenceTransformerPatched.encode_core = lambda self, sentences: embed(sentences)
    SentenceTransformerPatched.encode_post = lambda self, embeddings, *quantization: embeddings


if __name__ == "__main__":
    if os.environ.get("SESSION") == "ours":
        with_our_session()
    cli()
