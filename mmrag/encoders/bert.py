"""BERT's encoder in plain torch. The transformers library gives the same numbers, but takes four seconds to import."""

import json
from pathlib import Path
from types import SimpleNamespace

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F


class Bert(nn.Module):
    """A BERT encoder (Devlin et al. 2018, post-norm) with the parameter names of its checkpoints."""

    def __init__(self, config: SimpleNamespace):
        super().__init__()
        self.config = config
        self.embeddings = _Embeddings(config)
        self.encoder = nn.ModuleDict({"layer": nn.ModuleList(_Layer(config) for _ in range(config.num_hidden_layers))})

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, output_hidden_states: bool = False
    ) -> SimpleNamespace:
        """input_ids, attention_mask: int64 [batch, tokens]. `last_hidden_state`: float [batch, tokens, dimension];
        `hidden_states`, where asked for: the same after the embeddings and after each layer, the last one last."""
        states, kept = self.embeddings(input_ids, torch.arange(input_ids.shape[1], device=input_ids.device)), []
        mask = attention_mask.bool()[:, None, None, :]
        for layer in self.encoder["layer"]:
            kept += [states] * output_hidden_states
            states = layer(states, mask)
        return SimpleNamespace(last_hidden_state=states, hidden_states=[*kept, states])


class _Embeddings(nn.Module):
    def __init__(self, config: SimpleNamespace):
        super().__init__()
        self.word_embeddings = nn.Embedding(config.vocab_size, config.hidden_size)
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, input_ids: Tensor, positions: Tensor) -> Tensor:
        own = self.word_embeddings(input_ids) + self.position_embeddings(positions)
        return self.LayerNorm(own + self.token_type_embeddings.weight[0])


class _Layer(nn.Module):
    def __init__(self, config: SimpleNamespace):
        super().__init__()
        size = config.hidden_size
        self.num_heads = config.num_attention_heads
        self.attention = nn.ModuleDict(
            {
                "self": nn.ModuleDict({name: nn.Linear(size, size) for name in ("query", "key", "value")}),
                "output": _dense_and_norm(size, size, config.layer_norm_eps),
            }
        )
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(size, config.intermediate_size)})
        self.output = _dense_and_norm(config.intermediate_size, size, config.layer_norm_eps)

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        attended = self.attention["output"]["dense"](self._attend(states, mask))
        states = self.attention["output"]["LayerNorm"](states + attended)
        widened = F.gelu(self.intermediate["dense"](states))
        return self.output["LayerNorm"](states + self.output["dense"](widened))

    def _attend(self, states: Tensor, mask: Tensor) -> Tensor:
        batch, tokens, size = states.shape
        query, key, value = (
            self.attention["self"][name](states).view(batch, tokens, self.num_heads, -1).transpose(1, 2)
            for name in ("query", "key", "value")
        )
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return attended.transpose(1, 2).reshape(batch, tokens, size)


def is_plain_bert(directory: Path) -> bool:
    """Whether the checkpoint is a BERT that this file computes exactly: the common kind, in one safetensors file."""
    config = json.loads((directory / "config.json").read_text())
    return (
        config.get("model_type") == "bert"
        and config.get("hidden_act") == "gelu"
        and config.get("position_embedding_type", "absolute") == "absolute"
        and not config.get("is_decoder", False)
        and (directory / "model.safetensors").is_file()
    )


def load_bert(directory: Path) -> Bert:
    """The encoder of a checkpoint directory, in float32; its pooler and heads are left out."""
    config = SimpleNamespace(**json.loads((directory / "config.json").read_text()))
    model = Bert(config)
    stored = {name.removeprefix("bert."): value for name, value in load_file(directory / "model.safetensors").items()}
    wanted = model.state_dict()
    model.load_state_dict({name: stored[_older_name(name, stored)].to(wanted[name].dtype) for name in wanted})
    return model.eval()


def _dense_and_norm(in_size: int, out_size: int, epsilon: float) -> nn.ModuleDict:
    return nn.ModuleDict({"dense": nn.Linear(in_size, out_size), "LayerNorm": nn.LayerNorm(out_size, eps=epsilon)})


def _older_name(name: str, stored: dict[str, Tensor]) -> str:
    # The first checkpoints, converted from TensorFlow, call a norm's weight gamma and its bias beta.
    older = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
    return name if name in stored else older
