"""diffusers: its models here (:func:`load`), our sampler there (:class:`ProxMultistepScheduler`), our models there.

Needs `pip install "proxdm[diffusers]"`. Index i of T = 1000 stands for the time `(i + 1) / T`
(:class:`proxdm.schedules.Discrete`), or of a rectified flow for `i / T`; indices between whole numbers are meant.
"""

import diffusers

# A saved pipeline is read by asking this module for the base classes of what it has.
from diffusers import DiffusionPipeline as DiffusionPipeline
from diffusers import ModelMixin as ModelMixin
from diffusers import SchedulerMixin as SchedulerMixin

from proxdm.integrations.diffusers.export import NetworkModel as NetworkModel
from proxdm.integrations.diffusers.export import ProxPipeline as ProxPipeline
from proxdm.integrations.diffusers.export import to_diffusers as to_diffusers
from proxdm.integrations.diffusers.export import to_pipeline as to_pipeline
from proxdm.integrations.diffusers.pipelines import from_denoiser as from_denoiser
from proxdm.integrations.diffusers.pipelines import load as load
from proxdm.integrations.diffusers.scheduler import ProxMultistepScheduler as ProxMultistepScheduler

for _kind in (NetworkModel, ProxPipeline, ProxMultistepScheduler):
    _kind.__module__ = __name__  # saved pipelines name it, and are not to name a file inside
diffusers.ProxPipeline = ProxPipeline  # where DiffusionPipeline.from_pretrained looks for the pipelines it knows
