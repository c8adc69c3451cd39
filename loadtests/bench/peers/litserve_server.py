"""LitServe with its dynamic batches: python litserve_server.py PORT"""

import sys

import litserve
from models import image_model, text_model

MAX_BATCH, BATCH_TIMEOUT_S = 32, 0.01


class Texts(litserve.LitAPI):
    def setup(self, device: str) -> None:
        self.embed = text_model()

    def decode_request(self, request: dict) -> str:
        return request["inputs"][0]

    def predict(self, inputs: list[str]):
        return self.embed(inputs)

    def encode_response(self, output) -> list[list[float]]:
        return [output.tolist()]


class Images(Texts):
    def setup(self, device: str) -> None:
        self.embed = image_model()


if __name__ == "__main__":
    batches = {"max_batch_size": MAX_BATCH, "batch_timeout": BATCH_TIMEOUT_S}
    apis = [Texts(api_path="/texts", **batches), Images(api_path="/images", **batches)]
    server = litserve.LitServer(apis, accelerator="cpu")
    server.run(host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False)
