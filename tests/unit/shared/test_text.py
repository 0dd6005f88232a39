"""Vietnamese text: one normal form to keep, one folded form to search by."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.text import DIRECTIONS, clean_line, clean_text, fold, fold_place, kind_of_unit, normalize
from tests.support import wards

VIETNAMESE = "aăâbcdđeêghiklmnoôơpqrstuưvxyáàảãạấầẩẫậắằẳẵặéèẻẽẹếềểễệíìỉĩịóòỏõọốồổỗộớờởỡợúùủũụứừửữựýỳỷỹỵ"
vietnamese = st.text(st.sampled_from(VIETNAMESE + VIETNAMESE.upper() + " "), max_size=30)
NAMES = [w.name for w in wards()]


@pytest.mark.parametrize(
    ("written", "folded"),
    [
        ("Đông Thọ", "dong tho"),
        ("ĐÔNG THỌ", "dong tho"),
        ("\u00d0ông Thọ", "dong tho"),  # Ð, the Icelandic eth, which old keyboards type
        ("ðông thọ", "dong tho"),
        (unicodedata.normalize("NFD", "Đông Thọ"), "dong tho"),
        ("Dong Tho", "dong tho"),
        ("  Đông \t Thọ\n", "dong tho"),
        ("Ngọc Trạo", "ngoc trao"),
        ("Thanh Hoá", "thanh hoa"),
        ("Thanh Hóa", "thanh hoa"),
        ("Trường Thi", "truong thi"),
    ],
)
def test_two_spellings_of_one_place_fold_alike(written: str, folded: str) -> None:
    assert fold(written) == folded


@pytest.mark.parametrize(
    "prefix",
    [
        *("Phường ", "phường ", "PHƯỜNG ", "P. ", "P.", "p ", "Phuong  ", "Xã ", "xa ", "X. ", "x."),
        *("Thị trấn ", "THỊ TRẤN ", "TT. ", "tt.", "Đặc khu ", "dac khu ", "ĐK. "),
    ],
)
@pytest.mark.parametrize("name", NAMES)
def test_the_kind_of_a_ward_may_stand_before_its_name(prefix: str, name: str) -> None:
    assert fold_place(prefix + name) == fold(name)


@pytest.mark.parametrize(("written", "folded"), [("TP. Thanh Hóa", "thanh hoa"), ("Thành phố Thanh Hoá", "thanh hoa")])
def test_the_city_may_be_called_a_city(written: str, folded: str) -> None:
    assert fold_place(written) == folded


@pytest.mark.parametrize("name", ["Phú Sơn", "Tào Xuyên", "Phường", "Xã", "P", "Xuân", "Tp", "Phuongx"])
def test_a_name_that_only_begins_like_a_kind_keeps_its_beginning(name: str) -> None:
    assert fold_place(name) == fold(name)


def test_no_two_wards_fold_alike() -> None:
    assert len({fold_place(name) for name in NAMES}) == len(NAMES) == 34


@given(st.text(max_size=40))
def test_folding_twice_is_folding_once_and_text_in_any_normal_form_folds_alike(text: str) -> None:
    once = fold(text)
    for form in ("NFC", "NFD"):
        assert fold(unicodedata.normalize(form, once)) == fold(once)


@given(vietnamese)
def test_folded_vietnamese_is_plain_ascii_in_small_letters(text: str) -> None:
    folded = fold(text)
    assert folded.isascii()
    assert folded == folded.lower() == " ".join(folded.split())
    for form in ("NFC", "NFD"):
        assert fold(unicodedata.normalize(form, text)) == folded
    assert fold(text.upper()) == fold(text.lower()) == folded


@given(st.text(max_size=40))
def test_text_is_kept_composed_without_outer_space(text: str) -> None:
    kept = normalize(text)
    assert unicodedata.is_normalized("NFC", kept)
    assert kept == kept.strip()
    assert normalize(kept) == kept
    assert normalize(unicodedata.normalize("NFD", kept)) == kept


@pytest.mark.parametrize(
    ("written", "kind"),
    [
        ("phường", "phường"),
        ("PHƯỜNG", "phường"),
        ("Phuong", "phường"),
        ("P.", "phường"),
        ("Xã", "xã"),
        ("Thị trấn", "thị trấn"),
        ("ĐẶC KHU", "đặc khu"),
        ("quận", None),
        ("", None),
    ],
)
def test_a_kind_of_unit_is_known_however_it_is_written(written: str, kind: str | None) -> None:
    assert kind_of_unit(written) == kind


@pytest.mark.parametrize("character", DIRECTIONS)
def test_what_changes_the_direction_of_a_text_is_shown_in_it_and_stands_in_no_name(character: str) -> None:
    text = f"xe {character}kham uẫm"
    assert clean_text(text) == f"xe [U+{ord(character):04X}]kham uẫm"
    assert clean_text(clean_text(text)) == clean_text(text)
    with pytest.raises(ValueError, match="cannot be seen"):
        clean_line(text)


def test_a_text_keeps_what_joins_its_pictures() -> None:
    assert clean_text("gia đình 👨\u200d👩\u200d👧") == "gia đình 👨\u200d👩\u200d👧"


def test_a_text_that_anybody_may_send_is_not_kept() -> None:
    assert not hasattr(fold_place, "cache_info")
