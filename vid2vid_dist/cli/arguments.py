"""Kinds of arguments that several commands read, for argparse."""

import argparse


def positive(text: str) -> int:
    """A whole number from 1 on."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text} is no number above 0")
    return int(text)


def count(text: str) -> int:
    """A whole number from 0 on."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text} is no number from 0 on")
    return int(text)


def size(text: str) -> tuple[int, int]:
    """Width and height of WxH."""
    width, _, height = text.partition("x")
    return positive(width), positive(height)
