"""How many candidates a plan keeps."""

from __future__ import annotations

from pydantic import Field

from kernel.definitions import Frozen


class Keep(Frozen):
    """Of few all are kept: the plan of a small problem is exact."""

    #: most candidates of a user, where any are left out
    most: int = Field(default=12, ge=1)
    #: pairs of user and task from which on what cannot matter is left out
    above: int = Field(default=2_000_000, ge=0)
