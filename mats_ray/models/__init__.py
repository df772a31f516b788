"""The model, in plain PyTorch: knows neither Ray nor DeepSpeed nor torch.distributed."""
