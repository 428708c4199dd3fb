"""Out-of-distribution detection: the evaluation of ODIN."""
