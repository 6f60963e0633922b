"""Vectors and text sides in the formats of other systems."""
