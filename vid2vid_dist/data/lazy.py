"""A sequence whose items are made when they are asked for."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Generic, TypeVar, overload

T = TypeVar("T")


class LazySequence(Sequence[T], Generic[T]):
    """`count` items; a slice is the list of its items."""

    def __init__(self, count: int) -> None:
        self._count = count

    @abstractmethod
    def make(self, number: int) -> T:
        """Item `number`, which lies in 0..count-1."""

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, which: int) -> T: ...
    @overload
    def __getitem__(self, which: slice) -> list[T]: ...
    def __getitem__(self, which: int | slice) -> T | list[T]:
        found = range(self._count)[which]
        return [self.make(number) for number in found] if isinstance(found, range) else self.make(found)
