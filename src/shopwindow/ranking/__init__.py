"""How good is a ranking? Runs, answers, pools, measures, submissions. numpy and scipy only; knows no model."""
