"""Training: network family, data, synthesis, augmentation, training loop and evaluation."""
