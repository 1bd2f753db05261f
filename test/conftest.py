"""What holds for all tests."""

from hypothesis import settings

# How long an example takes says how busy the machine is; that one hangs is seen by pytest-timeout.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
