"""The settings are bounded."""

import pytest
from pydantic import ValidationError

from console_service.settings import Settings


@pytest.mark.parametrize("megabytes", [15, 4097])
def test_the_memory_that_it_keeps_is_bounded(megabytes: int) -> None:
    with pytest.raises(ValidationError, match="console_memory_mb"):
        Settings.model_validate({"service_name": "console", "console_memory_mb": megabytes})
