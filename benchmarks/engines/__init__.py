"""The engines that the scenario `engines` measures, each in an environment of its own below build/engines."""
