"""Encryption at rest, keyed digests, and the form of a key."""

import pytest
from hypothesis import given, strategies

from apikeys import keyformat
from console.vault import Vault, VaultError, new_key, parse_keys

ONE, TWO, DIGEST = new_key(), new_key().replace("1:", "2:"), new_key()


@given(strategies.binary(max_size=200), strategies.text(max_size=50))
def test_what_is_sealed_opens_in_its_place_alone(secret: bytes, place: str) -> None:
    vault = Vault(ONE, DIGEST)
    box = vault.seal(place, secret)
    assert vault.open(place, box) == secret
    with pytest.raises(VaultError):
        vault.open(place + "x", box)
    assert vault.seal(place, secret) != box


@given(strategies.integers(min_value=0))
def test_a_flipped_bit_does_not_open(where: int) -> None:
    vault = Vault(ONE, DIGEST)
    box = bytearray(vault.seal("here", b"secret"))
    box[where // 8 % len(box)] ^= 1 << where % 8
    with pytest.raises(VaultError, match="of here cannot be opened"):
        vault.open("here", bytes(box))


def test_the_newest_key_seals_and_older_ones_still_open() -> None:
    old, both, new = Vault(ONE, DIGEST), Vault(f"{ONE},{TWO}", DIGEST), Vault(TWO, DIGEST)
    box = old.seal("here", b"secret")
    assert both.open("here", box) == b"secret"
    assert new.open("here", both.seal("here", b"secret")) == b"secret"
    with pytest.raises(VaultError):
        new.open("here", box)
    with pytest.raises(VaultError):
        old.open("here", b"")


def test_digests_differ_by_key_and_purpose_and_come_newest_first() -> None:
    first, second = new_key(), new_key().replace("1:", "2:")
    both = Vault(ONE, f"{first},{second}").digests("purpose", "secret")
    assert both == Vault(ONE, second).digests("purpose", "secret") + Vault(ONE, first).digests("purpose", "secret")
    assert len({*both, *Vault(ONE, first).digests("other", "secret")}) == 3
    assert {len(digest) for digest in both} == {32}


@pytest.mark.parametrize(
    "text", ["", "1", "1:", ONE.replace("1:", "x:"), ONE.replace("1:", "0:"), "1:AA", ONE + ",", "1:é"]
)
def test_keys_that_are_none_say_what_to_set(text: str) -> None:
    with pytest.raises(ValueError, match="VAULT_KEYS must be one or more `version:key`"):
        parse_keys("VAULT_KEYS", text)


def test_too_many_digest_keys_are_told() -> None:
    keys = new_key()
    for _ in range(8):
        keys = new_key(keys)
    with pytest.raises(ValueError, match="DIGEST_KEYS has more than 8 keys"):
        Vault(ONE, keys)


def test_a_key_has_its_form() -> None:
    keys = {keyformat.new_secret() for _ in range(1000)}
    assert len(keys) == 1000
    for key in keys:
        assert keyformat.well_formed(key)
        assert len(key) == 41 and key.startswith("sk-") and key[3:].isalnum()
        assert keyformat.hint(key) == f"{key[:7]}…{key[-4:]}"


@given(strategies.text(max_size=60))
def test_other_text_is_no_key(text: str) -> None:
    assert not keyformat.well_formed(text)


@given(strategies.integers(0, 40), strategies.characters())
def test_one_wrong_sign_is_noticed(where: int, sign: str) -> None:
    key = keyformat.new_secret()
    changed = key[:where] + sign + key[where + 1 :]
    assert keyformat.well_formed(changed) == (changed == key)
