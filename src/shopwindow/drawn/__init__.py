"""The drawn shop: photos, competition-format rows and answers out of a seed, for those who have no data yet.

From the bottom: `paint` (colours, patterns, materials), `canvas` (shaded outlines), `look`, `wear` and `home` (how each
kind is drawn), `goods` (the kinds), `props` and `scenes`, `photo` (one composed photo), `regions` (a detector's boxes),
`words` (queries), `catalogue` (products, rows, pools); `writing` (the folder). Its features are those of the backbone
`plain` (`vision/featurise.py`).
"""
