"""Models on disk and on the hub.

`portable`: one safetensors file that carries its configuration. `store`: run folders with their checkpoints.
`load`: any source by one call. `official`: the paper's `.pth` files. `hub`: the Hugging Face Hub. Nothing here
unpickles objects.
"""
