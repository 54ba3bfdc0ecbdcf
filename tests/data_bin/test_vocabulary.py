"""The query vocabulary agrees with fairseq's dictionary and with fairseq's own sentencepiece step."""

import pytest
from fairseq.data import Dictionary
from fairseq.data.encoders.sentencepiece_bpe import SentencepieceBPE, SentencepieceConfig

from preprocess.data_bin.vocabulary import UNK, QueryVocabulary, train_sentencepiece

TEXTS = [f"a {size} {colour} {shape}" for size in ("big", "tiny") for colour in ("red", "blue", "Übergrün")
         for shape in ("circle", "square", "<pad> star", "</s>")]  # fmt: skip


@pytest.fixture(scope="module")
def vocabulary():
    return QueryVocabulary(train_sentencepiece(TEXTS, 60, 1))


def test_same_texts_give_the_same_model():
    assert train_sentencepiece(TEXTS, 60, 1) == train_sentencepiece(TEXTS, 60, 1)


def test_size_is_a_limit_that_small_data_need_not_reach(vocabulary):
    assert len(vocabulary) <= 60
    assert 10 < len(QueryVocabulary(train_sentencepiece(TEXTS, 10_000, 1))) < 10_000


def test_dictionary_is_in_sentencepiece_order_without_padding_words(vocabulary, tmp_path):
    (tmp_path / "dict.txt").write_text(vocabulary.dictionary(), encoding="utf-8")
    dictionary = Dictionary.load(str(tmp_path / "dict.txt"))
    assert len(dictionary) == len(vocabulary)
    assert not any("madeup" in symbol for symbol in dictionary.symbols)
    (tmp_path / "model").write_bytes(vocabulary.model)
    bpe = SentencepieceBPE(SentencepieceConfig(sentencepiece_model=str(tmp_path / "model")))
    for text in [*TEXTS, "never Seen ☃☃ words", "<s> <pad> </s>"]:
        theirs = dictionary.encode_line(bpe.encode(text), add_if_not_exist=False, append_eos=False)
        assert vocabulary.encode([text])[0] == theirs.tolist()


@pytest.mark.parametrize(("size", "known"), [(600, True), (100, False)])
def test_rare_letters_have_symbols_where_there_is_room(size, known):
    texts = [*TEXTS * 20, "a rare ß8#"]
    encoded = QueryVocabulary(train_sentencepiece(texts, size, 1)).encode(["8#"])[0]
    assert (UNK not in encoded) is known


def test_case_and_width_make_no_difference(vocabulary):
    plain, shouted, wide = vocabulary.encode(["big red circle", "BIG Red\tCircle", "ｂｉｇ red  circle"])
    assert plain == shouted == wide


def test_invisible_text_encodes_to_nothing(vocabulary):
    assert vocabulary.encode(["\u200b"]) == [[]]


@pytest.mark.parametrize(
    ("texts", "size", "message"),
    [
        (TEXTS, 4, "--vocab-size is 4"),
        (TEXTS, 12, "--vocab-size is 12, less than the captions have different letters"),
        (["\u200b"], 100, "no vocabulary can be learned from the 1 training captions"),
    ],
)
def test_impossible_vocabularies_are_refused(texts, size, message):
    with pytest.raises(ValueError, match=message):
        train_sentencepiece(texts, size, 1)


def test_a_large_corpus_is_sampled_by_seed(monkeypatch):
    monkeypatch.setattr("preprocess.data_bin.vocabulary.MAX_TRAINING_TEXTS", 5)
    models = [train_sentencepiece(TEXTS, 100, seed) for seed in (1, 1, 2, 3)]
    assert models[0] == models[1]
    assert len(set(models)) == 3
