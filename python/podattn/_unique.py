# SPDX-License-Identifier: Apache-2.0
"""Objects that hold memory by its address, which a copy would share and the first of both would free."""

from __future__ import annotations

from typing import Any, NoReturn

from ._errors import UnsupportedError


class Unique:
    """Cannot be copied or pickled."""

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        """Refuses `copy.copy`, `copy.deepcopy` and `pickle`."""
        raise UnsupportedError(
            f"a podattn.{type(self).__name__} holds memory of its device and cannot be copied or pickled; make another"
        )
