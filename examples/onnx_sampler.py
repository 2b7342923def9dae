"""A whole sampler, prior and network, as one ONNX file that onnxruntime runs without torch: noise in, pictures out."""

import numpy as np
import onnxruntime
from PIL import Image

from proxdm.cli import main

main(["export", "digits", "--to", "onnx", "--steps", "2", "--out", "digits.onnx", "--overwrite"])

session = onnxruntime.InferenceSession("digits.onnx", providers=["CPUExecutionProvider"])
noise = np.random.default_rng(0).standard_normal((16, 1, 8, 8)).astype(np.float32)
samples = session.run(None, {"noise": noise})[0]
pixels = ((samples.clip(-1, 1) + 1) * 127.5).round().astype(np.uint8)
Image.fromarray(pixels.reshape(4, 4, 8, 8).swapaxes(1, 2).reshape(32, 32)).resize((256, 256), 0).save("digits.png")
