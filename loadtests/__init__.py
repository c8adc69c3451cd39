"""Load tests: what many users at once see of the service. They speak only HTTP."""
