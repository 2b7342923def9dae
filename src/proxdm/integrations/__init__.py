"""Models and samplers in other libraries: diffusers, k-diffusion, ComfyUI, deepinv, onnxruntime.

Optional packages are imported here only, each by the module of its name, and not before that module is.
"""
