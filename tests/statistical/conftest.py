"""The samplers under test."""

from tests.support.samplers import parametrize_samplers

sampler = parametrize_samplers()
