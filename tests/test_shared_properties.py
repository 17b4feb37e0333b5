"""Each property of `shared_properties` over each merge; each exception must really be one."""

import pytest
from shared_properties import EXCEPTIONS, MERGES, PROPERTIES

HOLDS = [(p, m) for p in PROPERTIES for m in MERGES if m not in EXCEPTIONS.get(p, {})]
FAILS = [(p, m) for p in EXCEPTIONS for m in EXCEPTIONS[p]]


@pytest.mark.parametrize(("name_of_property", "name"), HOLDS)
def test_holds(name_of_property, name):
    PROPERTIES[name_of_property](MERGES[name])


@pytest.mark.parametrize(("name_of_property", "name"), FAILS)
def test_exception_is_real(name_of_property, name):
    with pytest.raises((AssertionError, ValueError, pytest.fail.Exception)):
        PROPERTIES[name_of_property](MERGES[name])
