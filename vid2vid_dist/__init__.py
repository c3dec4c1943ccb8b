"""Distributed video-to-video GAN training."""
