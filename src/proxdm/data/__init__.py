"""Data: the Datasaurus point sets, image data sets, folders of images, arrays and VAE latents.

Everything that a model sees lies in [-1, 1] (latents excepted); images are kept as uint8 and converted in one
place. Sub-modules are imported where they are used, so that the package stays quick to import.
"""
