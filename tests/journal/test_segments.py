"""Segments and packs: damage is found and named, and is never read as something else."""

from __future__ import annotations

import random

import ormsgpack
import pytest

from kitaru.errors import CorruptionError, InvalidNameError, KeyMissingError, StoreFormatError, UnrecordableValueError
from kitaru.ids import check_step_name
from kitaru.reading import read_journal
from kitaru.records import Claim, Logged, Release, Started, Value, to_wire
from kitaru.segments import (
    Segment,
    _array_of,
    encode_record,
    journal_key,
    pack,
    pack_key,
    seal,
    segment_digest,
    unpack,
)
from kitaru.stores import MemoryStore
from kitaru.testing.faults import FaultyStore

from .scene import BEGUN, EXEC, journal_on, note, notes


def chain(count: int, exec_id: str = EXEC) -> list[bytes]:
    """So many segments of one note each; the first one begins the execution."""
    out, prev = [], b""
    for n in range(1, count + 1):
        records = (BEGUN, Claim({}, 20.0), note(1)) if n == 1 else (note(n),)
        out.append(Segment(exec_id, n, "w1", n.to_bytes(16), 1, prev, records).encode())
        prev = segment_digest(out[-1])
    return out


def store_of(raw: list[bytes], exec_id: str = EXEC) -> MemoryStore:
    store = MemoryStore()
    for n, data in enumerate(raw, 1):
        store.put(journal_key(exec_id, n), data)
    return store


def test_a_segment_gives_back_what_it_was_made_of():
    segment = Segment(EXEC, 3, "w1", b"n" * 16, 2, b"p" * 32, (note(1), note(2)), 12.5)
    assert Segment.decode(segment.encode(), EXEC, 3, b"p" * 32) == segment


def test_every_truncation_of_a_segment_is_found():
    data = chain(1)[0]
    for length in range(len(data)):
        with pytest.raises(CorruptionError, match=r"executions/audit-1/journal/0000000001 is damaged"):
            Segment.decode(data[:length], EXEC, 1, b"")


def test_every_bit_flip_of_a_segment_is_found():
    data = chain(1)[0]
    for bit in range(len(data) * 8):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(CorruptionError, match="0000000001"):
            Segment.decode(bytes(flipped), EXEC, 1, b"")


@pytest.mark.parametrize("extra", [b"\0", b"more", b"\n" * 40])
def test_bytes_behind_the_end_are_found(extra):
    with pytest.raises(CorruptionError):
        Segment.decode(chain(1)[0] + extra, EXEC, 1, b"")


def test_every_damage_to_a_pack_is_found():
    data, key, rng = pack(chain(3)), pack_key(EXEC, 1, 3), random.Random(1)
    for length in range(len(data)):
        with pytest.raises(CorruptionError, match="packs/0000000001-0000000003"):
            unpack(data[:length], key)
    for bit in rng.sample(range(len(data) * 8), 2000):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(CorruptionError, match="packs"):
            unpack(bytes(flipped), key)


def test_a_version_from_the_future_asks_for_an_upgrade():
    body = ormsgpack.packb({"something": "else"})
    with pytest.raises(StoreFormatError, match="upgrade kitaru"):
        Segment.decode(seal(b"kitaru7\n", body), EXEC, 1)
    with pytest.raises(StoreFormatError, match="upgrade kitaru"):
        unpack(seal(b"kitpak12\n", body), "packs/x")
    store = store_of(chain(2))
    store.put(journal_key(EXEC, 3), seal(b"kitaru2\n", body))
    with pytest.raises(StoreFormatError, match="0000000003 was written by a newer Kitaru"):
        read_journal(store, EXEC)


@pytest.mark.parametrize(
    "body",
    [
        {},
        [],
        7,
        None,
        {"exec": EXEC, "n": 1},
        {"exec": EXEC, "n": 1, "prev": b"", "records": None, "writer": "w", "nonce": b"", "epoch": 1, "at": 0.0},
        {"exec": EXEC, "n": 1, "prev": b"", "records": [7], "writer": "w", "nonce": b"", "epoch": 1, "at": 0.0},
        {
            "exec": EXEC,
            "n": 1,
            "prev": b"",
            "records": [{"kind": "ended", "id": None}],
            "writer": "w",
            "nonce": b"",
            "epoch": 1,
            "at": 0.0,
        },
    ],
)
def test_a_sound_checksum_around_nonsense_is_no_segment(body):
    with pytest.raises(CorruptionError):
        Segment.decode(seal(b"kitaru1\n", ormsgpack.packb(body)), EXEC, 1)


def test_what_is_no_object_of_ours_is_said_to_be_none():
    with pytest.raises(CorruptionError, match="no object that Kitaru wrote"):
        Segment.decode(seal(b"PK\x03\x04----", b"zip"), EXEC, 1)


def test_records_of_a_later_version_are_passed_over():
    body = {"exec": EXEC, "n": 1, "prev": b"", "writer": "w", "nonce": b"", "epoch": 1, "at": 0.0, "later": 1}
    data = seal(b"kitaru1\n", ormsgpack.packb(body | {"records": [{"kind": "hologram", "x": 1}]}))
    assert Segment.decode(data, EXEC, 1).records == ()


# ---------------------------------------------------------------- where it stands


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda raw: raw[:1] + raw[2:3] + raw[1:2] + raw[3:], r"0000000002 holds segment 3 of audit-1"),  # swapped
        (lambda raw: [*raw, raw[0]], r"0000000005 holds segment 1 of audit-1"),  # a copy under another name
        (lambda raw: [*raw[:3], chain(4, "other-1")[3]], r"0000000004 holds segment 4 of other-1"),
        (lambda raw: [*raw[:3], b""], r"0000000004 is damaged"),
    ],
)
def test_a_segment_that_was_moved_is_found(change, said):
    with pytest.raises(CorruptionError, match=said):
        read_journal(store_of(change(chain(4))), EXEC)


def test_an_earlier_segment_that_was_replaced_breaks_the_chain():
    raw = chain(4)
    raw[1] = Segment(EXEC, 2, "w1", b"another nonce....", 1, segment_digest(raw[0]), (note(99),)).encode()
    with pytest.raises(CorruptionError, match="0000000003 does not follow the segment before it"):
        read_journal(store_of(raw), EXEC)


@pytest.mark.parametrize("gone", [1, 2, 3])
def test_a_missing_segment_is_named(gone):
    store = store_of(chain(4))
    store.delete([journal_key(EXEC, gone)])
    with pytest.raises(CorruptionError, match=rf"journal/000000000{gone} is missing"):
        read_journal(store, EXEC)


@pytest.mark.parametrize("stray", ["2", "0000000002 (copy)", ".DS_Store", "00000000002", "٠٠٠٠٠٠٠٠٠٢", "zz/0000000009"])
def test_what_else_lies_in_the_folder_is_no_segment(stray):
    store = store_of(chain(3))
    store.put(f"executions/{EXEC}/journal/{stray}", b"?")
    store.put(f"executions/{EXEC}/packs/{stray}", b"?")
    assert notes(store) == [1, 2, 3]


# ---------------------------------------------------------------- packs


def packed(count: int, size: int) -> FaultyStore:
    raw = chain(count)
    store = store_of(raw)
    for first in range(1, count - size + 2, size):
        last = first + size - 1
        store.put(pack_key(EXEC, first, last), pack(raw[first - 1 : last]))
    return FaultyStore(store)


def test_ten_thousand_segments_open_with_a_handful_of_requests():
    store = packed(10_000, 1024)
    reading = read_journal(store, EXEC)
    assert (reading.n, reading.packed) == (10_000, 9 * 1024)
    assert len(reading.raw) == 10_000 - 9 * 1024
    store.inner.put(pack_key(EXEC, 9217, 10_000), pack(reading.raw))
    store.log.clear()
    again = read_journal(store, EXEC)
    assert again.segments == reading.segments
    assert again.last_digest == reading.last_digest
    assert again.last_entry.key == journal_key(EXEC, 10_000)
    assert store.count() == 12  # ten packs, and two listings: of packs, and of what came since


def test_an_earlier_reading_is_read_on_from_where_it_ended():
    store = FaultyStore(store_of(chain(50)))
    known = read_journal(store, EXEC)
    store.inner.put(journal_key(EXEC, 51), chain(51)[50])
    store.log.clear()
    reading = read_journal(store, EXEC, known)
    assert (reading.n, store.count("get"), store.count("list")) == (51, 1, 1)
    whole = read_journal(store, EXEC)
    assert (reading.segments, reading.last_digest, reading.raw) == (whole.segments, whole.last_digest, whole.raw)


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-1],
        lambda data: data[:100] + bytes([data[100] ^ 4]) + data[101:],
        lambda data: b"",
        lambda data: pack(chain(30)[10:20]),  # of other segments
        lambda data: pack(chain(10, "other-1")),  # of another execution
        lambda data: pack([]),
        lambda data: seal(b"kitpak1\n", ormsgpack.packb(7)),
        lambda data: seal(b"kitpak1\n", ormsgpack.packb([7])),
        lambda data: seal(b"kitpak9\n", ormsgpack.packb([])),  # of a later version
    ],
)
@pytest.mark.parametrize("which", [1, 11])
def test_a_damaged_pack_is_left_aside_and_the_segments_are_read(damage, which):
    store = packed(30, 10)
    key = pack_key(EXEC, which, which + 9)
    store.inner.put(key, damage(store.inner.get(key)))
    assert notes(store) == list(range(1, 31))


def test_a_pack_never_stands_in_for_segments_that_are_not_there():
    store = packed(30, 10)
    store.delete([journal_key(EXEC, n) for n in range(26, 31)])
    assert notes(store) == list(range(1, 26))  # a copy that was made while it ran: the segments are the truth
    store.delete([journal_key(EXEC, 7)])
    with pytest.raises(CorruptionError, match="0000000007 is missing"):
        read_journal(store, EXEC)


def test_a_pack_that_goes_away_while_it_is_read_is_not_missed():
    class Collected(MemoryStore):
        def get(self, key, **options):
            if "/packs/" in key:
                raise KeyMissingError(key)
            return super().get(key, **options)

    store = Collected()
    for n, data in enumerate(chain(20), 1):
        store.put(journal_key(EXEC, n), data)
    store.put(pack_key(EXEC, 1, 20), b"")
    assert notes(store) == list(range(1, 21))


def test_an_owner_packs_what_it_wrote_and_what_it_found(monkeypatch):
    monkeypatch.setattr("kitaru.reading._SHORT", 1000)
    store = FaultyStore(MemoryStore())
    journal = journal_on(store)
    for i in range(70):
        journal.wait(journal.add(note(i)))
    journal.write_pack(64)
    for i in range(70, 100):
        journal.wait(journal.add(note(i)))
    journal.write_pack(64)  # not yet worth it
    reading = read_journal(store, EXEC)
    assert (reading.n, reading.packed) == (100, 70)
    later = journal_on(store, writer="w2", n=reading.n, last_digest=reading.last_digest)
    later.begin_pack(reading.packed + 1, reading.raw)
    for i in range(100, 140):
        later.wait(later.add(note(i)))
    later.write_pack(64)
    reading = read_journal(store, EXEC)
    assert (reading.n, reading.packed) == (140, 140)
    assert notes(store) == list(range(140))


# ---------------------------------------------------------------- what cannot be encoded


@pytest.mark.parametrize("count", [0, 1, 15, 16, 65_535, 65_536])
def test_records_are_joined_as_msgpack_would(count):
    assert _array_of(count) + b"\x01" * count == ormsgpack.packb([1] * count)


def test_a_joined_segment_is_what_msgpack_makes_of_the_whole():
    segment = Segment(EXEC, 3, "w1", b"n" * 16, 2, b"p" * 32, tuple(note(i) for i in range(20)), 12.5)
    body = {"exec": EXEC, "n": 3, "writer": "w1", "nonce": b"n" * 16, "epoch": 2, "prev": b"p" * 32, "at": 12.5}
    whole = ormsgpack.packb(body | {"records": [to_wire(r, EXEC) for r in segment.records]})
    assert segment.encode()[8:-32] == whole


def started(name="a", **more):
    preview = Value(b"d" * 32, 1, "text", {"text": "\ud800"}, b"x")
    return Started((EXEC, 1), None, name, 1, (), b"", arguments=(("x", preview),), **more)


def test_a_record_that_cannot_be_written_is_its_callers_alone():
    store = MemoryStore()
    journal = journal_on(store)
    journal.add(note(1))
    with pytest.raises(UnrecordableValueError, match=r"record 'logged' of audit-1 .* its data holds"):
        journal.add(Logged(None, 2, {"i": object()}))
    with pytest.raises(UnrecordableValueError, match=r"record 'started' of audit-1 .* its name holds"):
        journal.add(started("\ud800"))
    with pytest.raises(UnrecordableValueError, match=r"record 'started' of audit-1 .* its type holds"):
        journal.add(started(type="\ud800"))
    journal.wait(journal.add(note(3)))
    assert notes(store) == [1, 3]
    assert journal.halted is None


def test_lone_surrogates_in_what_people_read_are_written_out():
    store = MemoryStore()
    journal = journal_on(store)
    journal.add(started(source="x = '\ud83d'"))
    journal.add(Logged(None, 1, {"\udc00": ["\udcff"]}))
    journal.add(Release("interrupted", "SystemExit: \udcff"))
    journal.flush()
    first, logged, release = read_journal(store, EXEC).records
    assert first.source == "x = '\\ud83d'"
    assert first.arguments[0][1].preview == {"text": "\\ud800"}
    assert logged.data == {"\\udc00": ["\\udcff"]}
    assert release.reason == "SystemExit: \\udcff"
    assert encode_record(first, EXEC)


def test_no_name_holds_a_lone_surrogate():
    with pytest.raises(InvalidNameError, match="lone surrogates"):
        check_step_name("a\ud800")
