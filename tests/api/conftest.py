"""Two apps with a two-layer student: one for this computer, and one that others reach."""

import pytest
from served import serving

from kdloop.student.transformers import TransformersEngine


@pytest.fixture(scope="session")
def engine(tiny_student):
    return TransformersEngine(tiny_student)


@pytest.fixture(scope="module")
def app(tmp_path_factory, engine):
    """On loopback: whoever is at this computer needs no key."""
    with serving(tmp_path_factory.mktemp("api"), engine) as here:
        yield here


@pytest.fixture(scope="module")
def shared(tmp_path_factory, engine):
    """One that others reach: nobody enters without a key."""
    with serving(tmp_path_factory.mktemp("shared"), engine, admin_token="open sesame") as there:
        yield there
