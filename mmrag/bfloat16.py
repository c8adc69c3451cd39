"""Where products in bfloat16 pay."""

import torch


def is_faster(device: str | torch.device) -> bool:
    """Whether the hardware multiplies bfloat16 itself: a GPU of Ampere or later, or an x86 processor with AVX-512 BF16
    or AMX. Where it is imitated, it is slower than float32: 30 times with AVX2 alone. Other processors are unmeasured
    and count as those that imitate it."""
    kind = torch.device(device).type
    if kind == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    features = torch.cpu.get_capabilities()
    has_it = features.get("avx512_bf16") or features.get("amx_bf16")
    return kind == "cpu" and torch.backends.mkldnn.is_available() and bool(has_it)
