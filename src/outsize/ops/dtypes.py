"""Compute dtypes by the names that options use."""

import torch

TORCH_DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}
