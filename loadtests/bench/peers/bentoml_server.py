"""A BentoML service with adaptive batching: bentoml serve bentoml_server:Embeddings"""

import bentoml
import numpy as np
from models import image_model, text_model


@bentoml.service(traffic={"timeout": 60})
class Embeddings:
    def __init__(self) -> None:
        self.embed_texts, self.embed_images = text_model(), image_model()

    @bentoml.api(batchable=True)
    def texts(self, inputs: list[str]) -> np.ndarray:
        return self.embed_texts(inputs)

    @bentoml.api(batchable=True)
    def images(self, inputs: list[str]) -> np.ndarray:
        return self.embed_images(inputs)
