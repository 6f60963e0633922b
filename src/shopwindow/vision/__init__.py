"""From photos to regions: reading of pictures, backbones that encode them, detectors, and the verb's `extract`."""
