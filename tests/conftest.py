"""Settings of all tests."""

from hypothesis import settings

# Other work on the machine must not make an example look slow.
settings.register_profile("samplerd", deadline=None)
settings.load_profile("samplerd")
