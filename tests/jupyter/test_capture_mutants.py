"""Each part of capture is needed: without it, a few cells are enough for a checkout that is not what was there."""

from __future__ import annotations

import types

import pytest

from kitaru.codecs import memory
from kitaru.errors import CorruptionError
from kitaru_jupyter.capture import decoding, encoding, groups, names_of, notice, reach, snippets, sources, tracker

from . import bench
from .test_capture_properties import play

NO_ONE = frozenset()


def no_aliases(patch):
    patch.setattr(groups, "_connected", lambda walked: [(name,) for name in sorted(walked)])


def no_views(patch):
    for room in (reach, notice, encoding):
        patch.setattr(room, "owner_of", lambda array: array)


def no_transitive_functions(patch):
    def own(tree, namespace):
        names = names_of(tree)
        touched = {*names.reads, *names.binds, *names.deletes}
        return types.SimpleNamespace(
            reads=names.reads, binds=names.binds, deletes=names.deletes, touched=touched, wild=names.wild
        )

    patch.setattr(bench, "touches_of", own)


def plain_cells_are_ignored(patch):
    patch.setattr(tracker.Tracker, "plain", lambda self, touches: None)


def no_merge_by_a_way_that_nobody_saw(patch):
    update = groups.Groups.update

    def only_these(self, names, alive, namespace):
        others = {n: known for n, known in self.reach.items() if n not in self.members(names)}
        self.reach.update(dict.fromkeys(others, reach.Reach(NO_ONE, NO_ONE, True, NO_ONE)))
        made = update(self, names, alive, namespace)
        self.reach.update({n: known for n, known in others.items() if n in self.reach})
        return made

    patch.setattr(groups.Groups, "update", only_these)


def an_identity_is_trusted(patch):
    kept, real = {}, tracker.fingerprint

    def cached(names, namespace, trees=()):
        key = tuple((name, id(namespace[name])) for name in names)
        return kept.setdefault(key, None) or kept.update({key: real(names, namespace, trees)}) or kept[key]

    patch.setattr(tracker, "fingerprint", cached)


def memory_is_not_looked_at(patch):
    patch.setattr(notice, "digest_of_array", lambda array: b"")


def a_look_outlives_its_cell(patch):
    one = memory.Looks()
    patch.setattr(memory, "Looks", lambda: one)
    patch.setattr(one.__class__, "forget", lambda self: None)


def identities_within_do_not_count(patch):
    patch.setattr(tracker.Groups, "update", _all_trees(groups.Groups.update))


def _all_trees(update):
    def wrong(self, names, alive, namespace):
        made = update(self, names, alive, namespace)
        self.reach.update({name: known._replace(is_tree=True) for name, known in self.reach.items()})
        return made

    return wrong


def flags_are_not_restored(patch):
    patch.setattr(decoding._One, "_flag", lambda self, array, node: array)


def flags_are_restored_at_once(patch):
    def at_once(self, array, node):
        array.flags.writeable = node["writeable"]
        return array

    patch.setattr(decoding._One, "_flag", at_once)


def labels_are_dropped(patch):
    patch.setattr(encoding._Encoder, "_again", lambda self, i: self.nodes[i])


def users_of_a_class_stay(patch):
    patch.setattr(groups.Groups, "users_of", lambda self, names: set())


def what_is_reached_through_a_class_stays(patch):
    patch.setattr(groups.Groups, "used_by", lambda self, names: set())


def hidden_names_are_ignored(patch):
    patch.setattr(groups.Groups, "reaching", lambda self, ids: set())


def cells_of_closures_are_not_shared(patch):
    patch.setattr(decoding._One, "_is_made", lambda self, node: False)


def equal_codes_have_one_source(patch):
    kept = {}
    patch.setattr(encoding, "function_source", lambda f: kept.setdefault(f.__code__, sources.source_of(f)))


def classes_are_made_with_what_is_in_them(patch):
    patch.setattr(decoding._One, "bare_class", lambda self, name: None)


def defaults_are_not_kept(patch):
    real = encoding._Encoder._function_state

    def without(self, o, code):
        node = yield from real(self, o, code)
        return {k: v for k, v in node.items() if k != "defaults"}

    patch.setattr(encoding._Encoder, "_function_state", without)


def what_was_put_into_a_class_is_not_kept(patch):
    patch.setattr(encoding, "_is_made_anew", lambda *args: True)


def decorators_run_again(patch):
    patch.setattr(decoding._One, "_is_own", lambda self, decorator, needs: False)


def frames_that_share_are_kept_whole(patch):
    patch.setattr(encoding._Encoder, "_open", lambda self, frame: None)


def nothing_is_bound_anew_unseen(patch):
    patch.setattr(tracker.Tracker, "_rebound", lambda self: set(self._ids.keys() - self.names()))


R, PLAIN, UNSEEN = True, False, None
# What these need lies outside of the variables, and so is not there again when cells are run on.
BEYOND = {no_merge_by_a_way_that_nobody_saw, hidden_names_are_ignored}
NEEDED = [
    (no_aliases, [("a=[1]; b=[a]", R)]),
    (no_views, [("a=np.arange(6.); b=a[1:3]", R)]),
    (no_transitive_functions, [("a=[]\ndef f(): a.append(1)\ndef g(): f()", R), ("g()", R)]),
    (plain_cells_are_ignored, [("a=[1]", R), ("a.append(2)", PLAIN), ("b=1", R)]),
    (
        no_merge_by_a_way_that_nobody_saw,
        [("a=[1]; types.kept=a", R), ("b=types.kept; del types.kept", R)],
    ),
    (an_identity_is_trusted, [("a=[1]", R), ("a.append(2)", R)]),
    (memory_is_not_looked_at, [("a=np.arange(3.)", R), ("a[0]=9", R)]),
    (a_look_outlives_its_cell, [("a=np.arange(3000.)", R), ("a[0]=9", R)]),
    (identities_within_do_not_count, [("a=[[1],[1]]", R), ("a[1]=a[0]", R)]),
    (flags_are_not_restored, [("a=np.arange(3.); a.flags.writeable=False", R)]),
    (flags_are_restored_at_once, [("a=np.arange(3.); b=a[1:]; a.flags.writeable=False", R)]),
    (labels_are_dropped, [("a=[1]; b=[a,a]", R)]),
    (users_of_a_class_stay, [("a=P(1)", R), ("class P:\n  pass", R)]),
    (
        what_is_reached_through_a_class_stays,
        [("a=[0]*3000+[P(1)]", R), ("a[-1].shared.append(3)", R)],
    ),
    (hidden_names_are_ignored, [("a=[1]; _=[0]*3000+[a]", R), ("_[-1].append(2)", R)]),
    (
        cells_of_closures_are_not_shared,
        [("def two():\n  n=[]\n  def up():\n    nonlocal n\n    n=n+[1]\n  return up, lambda: n\na,b=two()", R)],
    ),
    (
        equal_codes_have_one_source,
        [("class c:\n  def m(s): d.append(0)", R), ("class b:\n  def m(s): d.append(0)", R)],
    ),
    (classes_are_made_with_what_is_in_them, [("class A(P):\n  pass\nP.z=A()", R)]),
    (defaults_are_not_kept, [("def f(x, acc=[]):\n  acc.append(x)\n  return acc\nf(1)", R)]),
    (what_was_put_into_a_class_is_not_kept, [("P.z=[1]; P.shared.append(2)", R)]),
    (
        decorators_run_again,
        [("a=[]\ndef deco(c):\n  a.append(1)\n  return c\n@deco\nclass S:\n  pass", R), ("a.append(S)", R)],
    ),
    (frames_that_share_are_kept_whole, [("a=np.arange(3.); b=pd.Series(a,copy=False)", R), ("a[0]=9", R)]),
    (nothing_is_bound_anew_unseen, [("a=[1]", R), ("b=2", UNSEEN), ("c=3", R)]),
]  # fmt: skip


@pytest.mark.parametrize(("without", "cells"), NEEDED, ids=[mutant.__name__ for mutant, _ in NEEDED])
def test_without_it_a_checkout_is_wrong(without, cells, monkeypatch):
    snippets.code_of.cache_clear()
    run_on = without not in BEYOND
    play(cells, run_on=run_on)
    without(monkeypatch)
    with pytest.raises((AssertionError, CorruptionError)):
        play(cells, run_on=run_on)
