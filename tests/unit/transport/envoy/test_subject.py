"""The common name in a subject as text: a name cannot pose as another one by what stands beside it."""

from __future__ import annotations

import pytest

from samplerd_server.transport.envoy.subject import common_name, subject_of


@pytest.mark.parametrize(
    ("subject", "name"),
    [
        ("CN=client", "client"),
        ("CN=client,O=somebody,C=XX", "client"),
        ("C=XX,O=somebody,CN=client", "client"),
        ("O=x\\,CN=admin,CN=client", "client"),
        ("O=x\\,CN=admin", ""),
        ("OU=a+CN=client,O=b", "client"),
        ("CN=last,CN=first", "first"),
        ("CN=a\\,b\\2Bc", "a,b+c"),
        ("CN=x\\", ""),
        ("nonsense", ""),
        ("", ""),
        ("2.5.4.3=client", "client"),
    ],
)
def test_common_name(subject, name):
    assert common_name(subject) == name


@pytest.mark.parametrize("name", ["client", "a,CN=admin", 'q"+;<>', "tail\\"])
def test_a_certificate_as_the_standard_library_gives_it(name):
    certificate = {"subject": ((("organizationName", "x,CN=admin"),), (("commonName", name),))}
    assert common_name(subject_of(certificate)) == name
    assert subject_of(None) == ""
