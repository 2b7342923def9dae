"""Experiments that need no training: each is a function that returns a typed result."""
