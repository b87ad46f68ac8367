"""The engines that the scenario `engines` measures: a program for each, which runs in an environment of its engine."""
