"""Checkpoints: the paper's `.pth` files (:mod:`proxdm.checkpoints.official`)."""
