"""Nodes for ComfyUI: put this folder, or a link to it, into `custom_nodes`; `proxdm` must be installed there.

`SamplerProxMultistep` gives a SAMPLER and the SIGMAS to use it with, for `SamplerCustom`. The prior is a file of
`proxdm prior fit`, made of latents of the model. Models of epsilon, v and rectified-flow type are called alike: ComfyUI
hands denoised samples to its samplers.
"""

from proxdm.integrations.comfyui.nodes import NODE_CLASS_MAPPINGS as NODE_CLASS_MAPPINGS
from proxdm.integrations.comfyui.nodes import NODE_DISPLAY_NAME_MAPPINGS as NODE_DISPLAY_NAME_MAPPINGS

__all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS"]
