"""DRY's breakers that are sequences of tokens, in compiled code: which of them begins last in a history.

The sequences, newest token first, are laid out as a tree, and the history is read through it from its end on (Aho and
Corasick, 1975). Law: `sampling.dry`. Rule 1: no hash, since a caller could choose tokens that collide: nodes are
numbered level by level, the children of one in order of their tokens, and are found by binary search; those of the
root, which every token is looked up in, by a table of V numbers. With T tokens in all breakers and n of history, this
takes O((T + n) log T), whatever they are.
"""

# mypy: disable-error-code="no-untyped-def, assignment"

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from samplerd_server.sampling.kernels.compile import allocating, carray, inlined, int32_at, int64_at, jit, load_i32
from samplerd_server.sampling.kernels.sorting import BINS, Sorting, sort

__all__ = ["tokens_after_breaker"]


class _Tree(NamedTuple):
    """One entry for each node; node 0 is the root. Arrays of int32, unowned, so that calls count no references."""

    token: Any
    first: Any
    """The number of the first child."""
    count: Any
    """How many children there are; they are numbered one after the other."""
    longest: Any
    """Length of the longest sequence that ends here, or where `shorter` leads to."""
    shorter: Any
    """The node of the longest end of what this node stands for; 0 = of nothing."""
    roots: Any
    """int32[V]: the root's child by its token; 0 = there is none. All 0 between uses."""


@inlined
def _child(tree, node, token):
    """Find the child of a node by its token; 0 = it has none."""
    if node == 0:
        return np.int64(tree.roots[token])
    low = np.int64(tree.first[node])
    end = low + tree.count[node]
    high = end
    while low < high:
        middle = (low + high) >> 1
        if tree.token[middle] < token:
            low = middle + 1
        else:
            high = middle
    return low if low < end and tree.token[low] == token else np.int64(0)


@inlined
def _follow(tree, node, token):
    """Find the node that reading one more token leads to."""
    child = _child(tree, node, token)
    while node and not child:
        node = np.int64(tree.shorter[node])
        child = _child(tree, node, token)
    return child


@jit
def _begin_of(row, s):
    """Find where sequence `s` begins among the ids."""
    return np.int64(load_i32(row.dry_breaker_sequences_ends, s - 1)) if s else np.int64(0)


@allocating
def _grow(row, tree):
    """Add all sequences."""
    sequences = np.int64(row.dry_breaker_sequences_ends_len)
    longs, ints = np.empty(2 * sequences + BINS, np.int64), np.zeros(3 * sequences, np.int32)
    at8, at4, n = np.uint64(longs.ctypes.data), np.uint64(ints.ctypes.data), np.uint64(sequences)
    sorting = Sorting(
        carray(int64_at(at8), sequences),
        carray(int32_at(at4), sequences),
        carray(int64_at(at8 + np.uint64(8) * n), sequences),
        carray(int32_at(at4 + np.uint64(4) * n), sequences),
        carray(int64_at(at8 + np.uint64(16) * n), BINS),
    )
    _grow_levels(row, tree, sorting, carray(int32_at(at4 + np.uint64(8) * n), sequences))
    longs[0], ints[0] = 0, 0  # the memory of the unowned arrays is held until here


@jit
def _grow_levels(row, tree, sorting, node_of):
    """Add all sequences, level by level. node_of: int32[sequences] of 0, the node that each has come to."""
    keys, live = sorting.keys, sorting.values
    sequences = np.int64(row.dry_breaker_sequences_ends_len)
    for s in range(sequences):
        live[s] = s
    count, nodes, depth = sequences, np.int64(1), np.int64(0)
    while count > 1:
        for i in range(count):
            s = np.int64(live[i])
            end = np.int64(load_i32(row.dry_breaker_sequences_ends, s))
            token = load_i32(row.dry_breaker_sequences_ids, end - 1 - depth)
            keys[i] = (np.int64(node_of[s]) << 32) | np.int64(token)
        sort(sorting, count)
        left, last = np.int64(0), np.int64(-1)
        for i in range(count):
            s, key = np.int64(live[i]), keys[i]
            if key != last:
                last = key
                _add_node(tree, nodes, key >> 32, key & 0xFFFFFFFF)
                nodes += 1
            node_of[s] = nodes - 1
            if load_i32(row.dry_breaker_sequences_ends, s) - _begin_of(row, s) == depth + 1:
                tree.longest[nodes - 1] = depth + 1
            else:
                live[left] = s
                left += 1
        count = left
        depth += 1
    if count:
        _grow_tail(row, tree, nodes, np.int64(live[0]), np.int64(node_of[live[0]]), depth)


@jit
def _grow_tail(row, tree, nodes, s, node, depth):  # noqa: PLR0917
    """Add what is left of the last sequence below its node."""
    begin, end = _begin_of(row, s), np.int64(load_i32(row.dry_breaker_sequences_ends, s))
    for at in range(end - 1 - depth, begin - 1, -1):
        _add_node(tree, nodes, node, load_i32(row.dry_breaker_sequences_ids, at))
        node = nodes
        nodes += 1
    tree.longest[node] = end - begin


@inlined
def _add_node(tree, node, parent, token):
    """Add a node below another; all nodes of the levels above it are there."""
    tree.token[node] = token
    if parent == 0:
        tree.roots[token] = node
    else:
        shorter = _follow(tree, np.int64(tree.shorter[parent]), token)
        tree.shorter[node], tree.longest[node] = shorter, tree.longest[shorter]
    if tree.count[parent] == 0:
        tree.first[parent] = node
    tree.count[parent] += 1


@jit
def _read_back(row, tree, length):
    """Read the last `length` of the history, newest first, up to a sequence, and empty the table of the root.

    Returns what `tokens_after_breaker` does.
    """
    after, node, read = np.int64(-1), np.int64(0), np.int64(0)
    while read < length and after < 0:
        node = _follow(tree, node, load_i32(row.history, row.history_len - 1 - read))
        if tree.longest[node]:
            after = read + 1 - tree.longest[node]
        else:
            read += 1
    for child in range(1, tree.count[0] + 1):
        tree.roots[tree.token[child]] = 0
    return after, read


@allocating
def tokens_after_breaker(row, work, length):
    """Count the tokens after the sequence that begins last within the last `length`; -1: none does.

    Also returns how many tokens follow its first one. `row`: has dry_breaker_sequences, at least one.
    """
    size = np.int64(row.dry_breaker_sequences_ids_len) + 1
    memory = np.zeros(5 * size, np.int32)
    at, step = np.uint64(memory.ctypes.data), np.uint64(4 * size)
    tree = _Tree(
        carray(int32_at(at), size),
        carray(int32_at(at + step), size),
        carray(int32_at(at + np.uint64(2) * step), size),
        carray(int32_at(at + np.uint64(3) * step), size),
        carray(int32_at(at + np.uint64(4) * step), size),
        carray(int32_at(np.uint64(work.counts.ctypes.data)), len(work.counts)),
    )
    _grow(row, tree)
    after, read = _read_back(row, tree, length)
    memory[0] = 0  # the memory of the unowned arrays is held until here
    return after, read
