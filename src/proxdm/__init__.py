"""Proximal diffusion models: exact and learned proximal operators, their samplers, training and evaluation."""
