"""The forward runs the kernels that training runs, whatever a module has for inference."""

import torch
from torch import nn

from outsize.train.kernels import _without_inference_kernels


def test_a_layer_with_an_inference_kernel_gives_its_training_bits():
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True).eval()
    hidden = torch.randn(2, 24, 32)
    trained = layer(hidden)
    before = torch.backends.mha.get_fastpath_enabled()
    with torch.no_grad(), _without_inference_kernels():
        assert not torch.backends.mha.get_fastpath_enabled()
        assert torch.equal(layer(hidden), trained)
    assert torch.backends.mha.get_fastpath_enabled() == before
