"""DRY's breakers that are sequences of tokens, in compiled code: which of them begins last in a history.

The sequences, newest token first, are laid out as a tree, and the history is read through it from its end on (Aho and
Corasick, 1975). Law: `sampling.dry`. Rule 1: no hash, since a caller could choose tokens that collide: nodes are
numbered level by level, the children of one in order of their tokens, and are found by binary search. With T tokens in
all breakers and n of history, this takes O((T + n) log T), whatever they are.
"""

# mypy: disable-error-code="no-untyped-def, assignment"

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from samplerd_server.sampling.kernels.compile import jit, load_i32

__all__ = ["tokens_after_breaker"]


class _Tree(NamedTuple):
    """One entry for each node; node 0 is the root. Arrays of int32."""

    token: Any
    parent: Any
    first: Any
    """The number of the first child."""
    count: Any
    """How many children there are; they are numbered one after the other."""
    longest: Any
    """Length of the longest sequence that ends here, or where `shorter` leads to."""
    shorter: Any
    """The node of the longest end of what this node stands for; 0 = of nothing."""


@jit
def _sift(keys, values, at, end):
    """Let the entry at `at` sink to its place in a heap of `end` entries, the largest first."""
    key, value = keys[at], values[at]
    while 2 * at + 1 < end:
        child = 2 * at + 1
        if child + 1 < end and keys[child + 1] > keys[child]:
            child += 1
        if keys[child] <= key:
            break
        keys[at], values[at] = keys[child], values[child]
        at = child
    keys[at], values[at] = key, value


@jit
def _sort(keys, values, count):
    """Sort the first `count` keys, int64, and their values with them, ascending; in O(count log count) always."""
    for at in range(count // 2 - 1, -1, -1):
        _sift(keys, values, at, count)
    for end in range(count - 1, 0, -1):
        keys[0], keys[end] = keys[end], keys[0]
        values[0], values[end] = values[end], values[0]
        _sift(keys, values, 0, end)


@jit
def _child(tree, node, token):
    """Find the child of a node by its token; 0 = it has none."""
    low = np.int64(tree.first[node])
    end = low + tree.count[node]
    high = end
    while low < high:
        middle = (low + high) >> 1
        if tree.token[middle] < token:
            low = middle + 1
        else:
            high = middle
    return low if low < end and tree.token[low] == token else 0


@jit
def _follow(tree, node, token):
    """Find the node that reading one more token leads to."""
    child = _child(tree, node, token)
    while node and not child:
        node = np.int64(tree.shorter[node])
        child = _child(tree, node, token)
    return child


@jit
def _grow(tree, ids, ends):
    """Add all sequences, level by level. Returns the number of nodes."""
    sequences = len(ends)
    keys, live = np.empty(sequences, np.int64), np.empty(sequences, np.int32)
    node_of = np.zeros(sequences, np.int32)
    for s in range(sequences):
        live[s] = s
    count, nodes, depth = sequences, 1, 0
    while count:
        for i in range(count):
            s = live[i]
            keys[i] = (np.int64(node_of[s]) << 32) | np.int64(ids[ends[s] - 1 - depth])
        _sort(keys, live, count)
        left, last = 0, np.int64(-1)
        for i in range(count):
            s = live[i]
            if keys[i] != last:
                last = keys[i]
                parent = node_of[s]
                tree.token[nodes], tree.parent[nodes] = ids[ends[s] - 1 - depth], parent
                if tree.count[parent] == 0:
                    tree.first[parent] = nodes
                tree.count[parent] += 1
                nodes += 1
            node_of[s] = nodes - 1
            begin = ends[s - 1] if s else 0
            if ends[s] - begin == depth + 1:
                tree.longest[nodes - 1] = depth + 1
            else:
                live[left] = s
                left += 1
        count = left
        depth += 1
    return nodes


@jit
def tokens_after_breaker(row, backwards):
    """Count the tokens after the sequence that begins last; -1: none stands in the history.

    Also returns the place in `backwards`, int32[n], of its first token. `row`: has dry_breaker_sequences, at least one.
    """
    total, sequences = np.int64(row.dry_breaker_sequences_ids_len), np.int64(row.dry_breaker_sequences_ends_len)
    ids, ends = np.empty(total, np.int32), np.empty(sequences, np.int32)
    for i in range(total):
        ids[i] = load_i32(row.dry_breaker_sequences_ids, i)
    for s in range(sequences):
        ends[s] = load_i32(row.dry_breaker_sequences_ends, s)
    zeros = np.zeros((6, total + 1), np.int32)
    tree = _Tree(zeros[0], zeros[1], zeros[2], zeros[3], zeros[4], zeros[5])
    nodes = _grow(tree, ids, ends)
    for node in range(1, nodes):
        parent = tree.parent[node]
        if parent:
            tree.shorter[node] = _follow(tree, np.int64(tree.shorter[parent]), tree.token[node])
        if tree.longest[node] == 0:
            tree.longest[node] = tree.longest[tree.shorter[node]]
    node = np.int64(0)
    for at in range(len(backwards)):
        node = _follow(tree, node, backwards[at])
        if tree.longest[node]:
            return np.int64(at + 1 - tree.longest[node]), np.int64(at)
    return np.int64(-1), np.int64(len(backwards))
