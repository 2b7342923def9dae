"""Metrics between samples and references. Each sub-module is imported where it is used."""
