"""From a shop's own files to a searched and measured shop: stages, rankers to compare with, a verdict."""
