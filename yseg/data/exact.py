"""Grey levels that float32 cannot hold: wide integers and floats with large offsets, as differences that it can.

float32, in which a network computes, has whole numbers up to 2^24: what is above, such as 32-bit grey levels or a small signal
on a large offset, would lose its contrast, or wrap around where a device has no 64 bits.
"""

import numpy as np
import tensorstore as ts

_LOOKED_AT = 64  # voxels between two that the pivot is found among, along rows and columns, at most


def is_wide(dtype: np.dtype) -> bool:
    """Whether a type has values that float32 cannot tell apart: integers of 32 and 64 bits, float64."""
    return dtype.itemsize >= {"f": 8}.get(dtype.kind, 4)


def differences(values: np.ndarray, pivot: int | float) -> np.ndarray:
    """`values - pivot` as float64: exact for whole numbers whose difference is below 2^53, whatever they are themselves."""
    if not pivot:
        return values.astype(np.float64)
    if values.dtype.kind not in "ui":
        return values.astype(np.float64) - pivot
    rough = values.astype(np.float64) - float(pivot)
    # Modulo 2^64, which is the difference itself where that is small.
    wrapped = (values.astype(np.int64).view(np.uint64) - np.uint64(int(pivot) % 2**64)).view(np.int64)
    return np.where(np.abs(rough) < 2.0**62, wrapped.astype(np.float64), rough)


def pivot_of(store: ts.TensorStore) -> int | float:
    """A grey level amid those of an image [z, y, x]: the median of some voxels of its middle section; 0 of narrow types.

    Values that are not finite have no part in it.
    """
    if not is_wide(store.dtype.numpy_dtype):
        return 0
    steps = [max(1, size // _LOOKED_AT) for size in store.shape]
    values = store[store.shape[0] // 2, ::steps[1], ::steps[2]].read().result().ravel()
    values = values[np.isfinite(values)]
    return np.partition(values, values.size // 2)[values.size // 2].item() if values.size else 0
