"""The four scenarios with their baselines: `make loadtest`, or `locust -f locustfiles/suite.py --headless`."""

from asyncload_lib.suite import *  # noqa: F403  Locust takes the classes that it finds here
