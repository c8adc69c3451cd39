"""Where products in bfloat16 pay."""

import torch


def is_faster(device: str | torch.device) -> bool:
    """Whether the hardware multiplies bfloat16 faster than float32. A processor that has to imitate it is 30 times
    slower (measured on one with AVX2 alone)."""
    kind = torch.device(device).type
    return kind == "cuda" or (kind == "cpu" and _processor_has_it())


def _processor_has_it() -> bool:
    features = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return torch.backends.mkldnn.is_available() and bool(features.get("avx512_bf16") or features.get("amx_bf16"))
