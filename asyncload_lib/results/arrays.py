"""numpy, imported by the first who computes: its import takes longer than all else of a locustfile's start.

A run calls `load_numpy()` before its users begin, for 100 ms of import must not come amid the load.
"""

from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Floats", "Integers", "load_numpy", "np"]

Floats: TypeAlias = "NDArray[np.float64]"
Integers: TypeAlias = "NDArray[np.int64]"


class _Numpy:
    def __getattr__(self, name: str) -> Any:
        import numpy

        value = getattr(numpy, name)
        setattr(self, name, value)  # the next one finds it here
        return value


if not TYPE_CHECKING:
    np = _Numpy()


def load_numpy() -> None:
    """Import numpy now, if that has not been done yet."""
    import numpy  # noqa: F401
