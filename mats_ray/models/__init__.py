"""The model, in plain PyTorch: without Ray, DeepSpeed and torch.distributed."""
