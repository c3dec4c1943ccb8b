"""Renderers of the toy sets: guests of the house, which nothing in it imports."""
