"""Distributed video-to-video GAN training."""

__version__ = "0.1.0"
