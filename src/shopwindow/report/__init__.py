"""Pages, plots and pictures that show what was measured."""
