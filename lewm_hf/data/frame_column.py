"""The pictures of a data set, decoded row by row.

Read from the Arrow buffers that `datasets` memory-maps: its formatted access (`with_format("torch")`, `Array3D`) is ten
to a hundred times slower and turns uint8 into int64.
"""

from collections.abc import Callable

import numpy as np
import pyarrow as pa

Decoder = Callable[[memoryview], np.ndarray]


class FrameColumn:
    """An `Image()` column.

    Args:
        column: its Arrow data, structs with `bytes`.
        decode: turns the bytes of one frame into `(H, W, 3)` uint8.
        name: what error messages call the data set.

    Raises:
        ValueError: one line where the column has paths instead of bytes.
    """

    def __init__(self, column: pa.ChunkedArray, decode: Decoder, name: str):
        self.decode, self.name = decode, name
        self._chunks, ends = [], []
        first = 0
        for chunk in column.chunks:
            data = chunk.field("bytes")
            if data.null_count:
                raise ValueError(f"{name} stores paths instead of frames: import it, which embeds them")
            wide = pa.types.is_large_binary(data.type)
            _, offsets, buffer = data.buffers()
            bounds = np.frombuffer(offsets, dtype=np.int64 if wide else np.int32)
            bounds = bounds[data.offset : data.offset + len(data) + 1]
            self._chunks.append((memoryview(buffer), bounds, first))
            first += len(data)
            ends.append(first)
        self._chunk_ends = np.array(ends)

    def first_size(self) -> tuple[int, int]:
        """Height and width of the frame in the first row, in pixels."""
        height, width = self.decode(self._encoded(0, 0)).shape[:2]
        return height, width

    def read(self, rows: np.ndarray, out: np.ndarray) -> None:
        """Decodes these rows, all of which exist, into `out` `(n, H, W, 3)` uint8.

        Raises:
            ValueError: one line for a damaged frame, or one of another size than `out` has room for.
        """
        shape = out.shape[1:]
        chunks = np.searchsorted(self._chunk_ends, rows, side="right")
        for number, (row, chunk) in enumerate(zip(rows.tolist(), chunks.tolist(), strict=True)):
            image = self.decode(self._encoded(row, chunk))
            if image.shape != shape:
                height, width = image.shape[:2]
                raise ValueError(
                    f"the frame in row {row} of {self.name} is {height}x{width}, the first one {shape[0]}x{shape[1]}: "
                    "collect or import again at one size"
                )
            out[number] = image

    def _encoded(self, row: int, chunk: int) -> memoryview:
        data, ends, first = self._chunks[chunk]
        at = row - first
        return data[ends[at] : ends[at + 1]]
