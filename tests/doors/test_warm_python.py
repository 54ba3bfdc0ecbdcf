"""The Python that tests start commands in."""

import importlib

import warm_python


def test_every_library_that_it_loads_exists():
    for library in warm_python.LIBRARIES:
        assert importlib.import_module(library).__name__ == library
