"""Where items go that join a catalogue: free numbers, and the nearest code with room, against enumeration."""

import itertools

import numpy as np
import pytest
from changing import WIDTH, embed, make_codec

from cart_fairseq.catalogue.identifiers import write_bundle
from cart_fairseq.catalogue.positions import unique_positions, unique_tokens
from preprocess.identifiers.codec import TransformedCodec
from preprocess.identifiers.schemes.coarse_fine import ResidualCodec
from preprocess.identifiers.schemes.grace import AtomicCodec
from preprocess.identifiers.schemes.residual_kmeans import ResidualKMeansCodec
from preprocess.identifiers.schemes.tree import TreeCodec
from preprocess.identifiers.transform import Transform
from preprocess.updating.placement import place, rows_beginning_with

POINTS = np.random.default_rng(3).standard_normal((40, WIDTH)).astype(np.float32)
CODECS = {
    "rqvae": ResidualCodec(POINTS[:1], 0, make_codec().rqvae, 0.7),
    "coarse-fine": make_codec(),
    "tree": TreeCodec.fit(POINTS, [3, 3], "lloyd", 1),
    "residual-kmeans": ResidualKMeansCodec.fit(POINTS, [3, 3, 2], "lloyd", 1),
    "transformed": TransformedCodec(Transform(normalize=True), ResidualKMeansCodec.fit(POINTS, [3, 4], "lloyd", 1)),
}


def bundle_of(path, codec, embeddings, unique_size):
    codes = codec.encode(embeddings)
    unique = unique_tokens(codes, unique_size)
    items = [{"item_id": str(row)} for row in range(len(codes))]
    positions = [*codec.positions, *unique_positions(unique.shape[1], unique_size)]
    return write_bundle(path, np.column_stack([codes, unique]), positions, items, {}, codec.tensors(), {})


def codes_of(codec):
    """All codes that have a codeword on every level."""
    sizes = [position.size for position in codec.positions]
    found = []
    for code in itertools.product(*map(range, sizes)):
        inside = True
        for level in range(len(code)):
            distances = codec.distances(POINTS[:1], np.array([code[:level]], dtype=np.int32).reshape(1, -1))[0]
            inside &= code[level] < len(distances) and bool(np.isfinite(distances[code[level]]))
        if inside:
            found.append(code)
    return found


def greedy(codec, point, code, room):
    """The nearest code with room, level by level, found by looking at all codes."""
    for kept in reversed(range(len(code))):
        options = [option for option in room if option[:kept] == code[:kept] and room[option] > 0]
        if options:
            for level in range(kept, len(code)):
                prefix = np.array([options[0][:level]], dtype=np.int32).reshape(1, -1)
                distances = codec.distances(point[None], prefix)[0]
                best = min({option[level] for option in options}, key=lambda value: distances[value])
                options = [option for option in options if option[level] == best]
            return options[0]
    raise AssertionError("no room")


@pytest.mark.parametrize("name", CODECS)
def test_items_on_full_codes_take_the_nearest_with_room(tmp_path, name):
    codec = CODECS[name]
    bundle = bundle_of(tmp_path / "b", codec, POINTS, 20)
    capacity = bundle.positions[-1].size ** (bundle.length - len(codec.positions))
    assert capacity == 20
    room = dict.fromkeys(codes_of(codec), capacity)
    for code in map(tuple, codec.encode(POINTS).tolist()):
        room[code] -= 1
    points = np.repeat(POINTS[:2], [70, 50], axis=0)
    points[:2] = POINTS[5:7]
    codes = codec.encode(points)
    placed = place(bundle, codec, points, codes)
    expected = [tuple(code) for code in codes.tolist()]
    late = []
    for row, code in enumerate(expected):
        if room[code] > 0:
            room[code] -= 1
        else:
            late.append(row)
    for row in late:
        expected[row] = greedy(codec, points[row], expected[row], room)
        room[expected[row]] -= 1
    assert len(late) > 40
    assert np.flatnonzero(placed.moved).tolist() == late
    assert [tuple(values[:-1]) for values in placed.values.tolist()] == expected
    assert len(np.unique(np.concatenate([bundle.values, placed.values]), axis=0)) == 160


@pytest.mark.parametrize("name", ["tree", "residual-kmeans", "transformed"])
def test_distances_on_the_last_level_are_those_to_the_decoded_codes(name):
    codec = CODECS[name]
    prefixes = codec.encode(POINTS)[:, :-1]
    distances = codec.distances(POINTS, prefixes)
    points, inner = POINTS, codec
    if isinstance(codec, TransformedCodec):
        points, inner = codec.transform(POINTS), codec.inner
    for row, value in itertools.product(range(0, 40, 7), range(distances.shape[1])):
        if np.isfinite(distances[row, value]):
            decoded = inner.decode(np.array([[*prefixes[row], value]], dtype=np.int32))[0]
            assert distances[row, value] == pytest.approx(np.square(points[row] - decoded).sum(), rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("name", CODECS)
def test_the_nearest_codeword_of_every_level_is_the_codec_s_own(name):
    codes = CODECS[name].encode(POINTS)
    for level in range(codes.shape[1]):
        distances = CODECS[name].distances(POINTS, codes[:, :level])
        np.testing.assert_array_equal(distances.argmin(axis=1), codes[:, level])


def test_numbers_of_several_digits_go_on(tmp_path):
    codec = make_codec()
    bundle = bundle_of(tmp_path / "b", codec, np.repeat(embed(1, 0), 10, axis=0), 4)
    assert bundle.length == 5
    points = np.repeat(embed(1, 0), 6, axis=0)
    placed = place(bundle, codec, points, codec.encode(points))
    assert (placed.values[:, 3:] @ [4, 1]).tolist() == [10, 11, 12, 13, 14, 15]
    assert placed.shared.all()
    assert not placed.moved.any()


def test_items_without_a_code_get_numbers_until_they_are_used_up(tmp_path):
    codec = AtomicCodec.fit(POINTS)
    bundle = bundle_of(tmp_path / "b", codec, POINTS, 45)
    placed = place(bundle, codec, POINTS[:5], codec.encode(POINTS[:5]))
    assert placed.values.tolist() == [[40], [41], [42], [43], [44]]
    with pytest.raises(ValueError, match="no code has room for another item"):
        place(bundle, codec, POINTS[:6], codec.encode(POINTS[:6]))


@pytest.mark.parametrize("size", [5, 2**11])
def test_rows_are_found_by_how_they_begin(size):
    """Seven positions of 2^11 values are more than a 64-bit integer holds."""
    values = np.random.default_rng(0).integers(0, 3, size=(500, 7)).astype(np.int32)
    prefixes = values[[3, 7, 7, 100]]
    exact = {tuple(prefix[:5]) for prefix in prefixes.tolist()}
    found = rows_beginning_with(values, prefixes[:, :5], [size] * 7)
    assert found.tolist() == [row for row, value in enumerate(values.tolist()) if tuple(value[:5]) in exact]
    longer = set(rows_beginning_with(values, prefixes, [size] * 7).tolist())
    assert {3, 7, 100} <= longer <= set(found.tolist())
    assert rows_beginning_with(values, prefixes[:, :0], [size] * 7).tolist() == list(range(500))
