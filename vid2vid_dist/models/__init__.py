"""Networks as torch modules: generators, discriminators, perceptual, flow. They know no device, no rank."""
