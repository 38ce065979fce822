"""Copies of a network that share its weights: gradients of several pieces side by side."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import torch
from accelerate import Accelerator
from torch import nn

from pileupgen.parallel.threads import Map, torch_threads

T = TypeVar("T")


class Replicas:
    """A network and its copies, one for each thread.

    A small network trains little faster with threads within its operations, but nearly by their
    number with a piece of the batch for each. Copies have gradients of their own, which are added
    up in a fixed order, and the weights of the original.

    Parameters
    ----------
    network : nn.Module
        As ``accelerator.prepare`` gives it.
    over : Map
        Over as many threads as there are networks.
    """

    def __init__(self, network: nn.Module, copies: Sequence[nn.Module], over: Map) -> None:
        self.network, self._over = network, over
        self._networks = [network, *copies]

    def __len__(self) -> int:
        return len(self._networks)

    @classmethod
    @contextmanager
    def of(
        cls, network: nn.Module, accelerator: Accelerator, n: int | None = None
    ) -> Iterator[Replicas]:
        """A network's replicas, and their threads, for as long as the context lasts.

        Parameters
        ----------
        network : nn.Module
            As ``accelerator.prepare`` gives it.
        accelerator : Accelerator
            A GPU has its own parallelism, and processes have shared the cores out: one then.
        n : int, optional
            Replicas; by default as many as torch has threads.
        """
        if accelerator.device.type != "cpu" or accelerator.num_processes > 1:
            yield cls(network, [], map)
            return
        n = n or torch.get_num_threads()
        copies = [_copy(network, accelerator) for _ in range(n - 1)]
        with torch_threads(n) as over:
            yield cls(network, copies, over)

    def gradients(self, piece: Callable[[nn.Module, int], T], n_pieces: int) -> list[T]:
        """Do every piece's forward and backward; the network's gradient is then their sum.

        Parameters
        ----------
        piece : callable
            Adds a piece's gradient to that of the network it is given.

        Returns
        -------
        list
            What ``piece`` returned, in the order of the pieces.
        """
        networks = self._networks[:n_pieces]
        for other in networks[1:]:
            _share_weights(self.network, other)

        def work(first: int) -> list[T]:
            return [
                piece(networks[first], number) for number in range(first, n_pieces, len(networks))
            ]

        found = list(self._over(work, range(len(networks))))
        for other in networks[1:]:
            _move_gradients(other, self.network)
        return [found[number % len(found)][number // len(found)] for number in range(n_pieces)]


def _copy(network: nn.Module, accelerator: Accelerator) -> nn.Module:
    clone = copy.deepcopy(network)
    # What `prepare` has put around forward is the original's; the copy gets its own.
    for wrapped in ("forward", "_original_forward"):
        clone.__dict__.pop(wrapped, None)
    prepared: nn.Module = accelerator.prepare_model(clone)
    return prepared


def _share_weights(network: nn.Module, other: nn.Module) -> None:
    for own, its in zip(network.parameters(), other.parameters(), strict=True):
        its.data = own.data


def _move_gradients(other: nn.Module, network: nn.Module) -> None:
    for its, own in zip(other.parameters(), network.parameters(), strict=True):
        if its.grad is not None:
            own.grad = its.grad if own.grad is None else own.grad.add_(its.grad)
            its.grad = None
