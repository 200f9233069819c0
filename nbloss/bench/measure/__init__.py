"""Measuring: the clock, the races, the memory baselines, two source trees in turns, the machine and the result files."""
