"""Figures, one module a subject, all in the style of :mod:`proxdm.plotting.style`."""
