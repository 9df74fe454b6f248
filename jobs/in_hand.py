"""What a process has in hand, in memory that outlives it: written before each touch, read after its death.

Written some 30 times a batch, so not sent as messages: that took a third of a millisecond a picture at both ends.
"""

import mmap
import os
import struct
from collections.abc import Sequence

#: A count and as many numbers of four bytes.
_BYTES = mmap.PAGESIZE


class InHand:
    """A few numbers from 0 on, in memory that two processes share by its descriptor."""

    def __init__(self, descriptor: int | None = None) -> None:
        """That of another process, inherited under this descriptor; or a new one, with nothing in it."""
        if descriptor is None:
            descriptor = os.memfd_create("in-hand")
            os.ftruncate(descriptor, _BYTES)
        self.descriptor = descriptor
        self._memory = mmap.mmap(descriptor, _BYTES)

    def set(self, numbers: Sequence[int]) -> None:
        """At most a thousand."""
        struct.pack_into("i", self._memory, 0, 0)  # never a count of numbers that are not there yet
        struct.pack_into(f"{len(numbers)}i", self._memory, 4, *numbers)
        struct.pack_into("i", self._memory, 0, len(numbers))

    def get(self) -> list[int]:
        (count,) = struct.unpack_from("i", self._memory, 0)
        return list(struct.unpack_from(f"{count}i", self._memory, 4))

    def close(self) -> None:
        self._memory.close()
        os.close(self.descriptor)
