"""What some processors cannot do."""

import pytest
import torch

can_pack_bfloat16 = pytest.mark.skipif(
    not torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason="oneDNN lays out no bfloat16 weights on this processor"
)
