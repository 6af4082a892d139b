"""What `status` says of how things are."""

import pytest

from reconciler.report.status import not_in_force


@pytest.mark.parametrize(
    ("file", "unit"),
    [
        ("/etc/reconciler/config.toml", "reconciler"),
        ("/etc/reconciler/acme.toml", "reconciler@acme"),
        ("/home/ada/acme.toml", "reconciler"),
    ],
)
def test_the_unit_that_is_to_be_reloaded_is_the_one_of_the_settings(file: str, unit: str) -> None:
    assert not_in_force(file).endswith(f"systemctl reload {unit}")
