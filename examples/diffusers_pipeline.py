"""Good samples in two evaluations of any pipeline of diffusers: put our scheduler, with a prior, into it."""

from pathlib import Path

import proxdm
from proxdm.data import load_data
from proxdm.integrations.diffusers import ProxMultistepScheduler, load, to_pipeline
from proxdm.priors import fit_prior, with_gain

folder = Path("pipeline")
to_pipeline(proxdm.load("digits")).save_pretrained(folder)  # any pipeline will do: here a model of the box

model = load(folder)  # its network as a model of ours: every sampler, every verb works on it
images = load_data("digits").images
prior = with_gain(fit_prior(images), model)  # a mixture, and where the network begins to be better

from diffusers import DDPMPipeline  # noqa: E402

pipe = DDPMPipeline.from_pretrained(folder)
scheduler = ProxMultistepScheduler.from_config(pipe.scheduler.config, prior=prior)
scheduler.attach(pipe)(batch_size=4, num_inference_steps=2).images[0].resize((64, 64)).save("digit.png")
