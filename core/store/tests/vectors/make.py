#!/usr/bin/env python3
"""Makes the known-answer vectors beside it from docs/format.md alone: no code of ours is used.

    python3 -m venv /tmp/v && /tmp/v/bin/pip install cryptography
    /tmp/v/bin/python make.py            # writes hierarchy.json, records.json, keys.json, backup.json
    /tmp/v/bin/python make.py --check    # says whether they are what it would write

Needs `cryptography` 44 or later (Argon2id). Nothing is random: what is random in a store is derived
from a label here.
"""
import base64
import hashlib
import hmac
import json
import pathlib
import struct
import sys

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

HEAD, VERSION, GRANTS, CONFIG, SLOT_KEYS, PASSPHRASE, CLOCK = range(1, 8)
CIPHERS = {"aes-256-gcm": (1, AESGCM), "chacha20-poly1305": (2, ChaCha20Poly1305)}


def fixed(label, length):
    return hashlib.shake_256(label.encode()).digest(length)


def hkdf(material, salt, info, length=32):
    return HKDF(SHA256(), length, salt, info).derive(material)


def mac(key, message):
    return hmac.new(key, message, hashlib.sha256).digest()


STORE = fixed("store", 16)
ROOT = fixed("root", 32)
GENERATION = 7
NAMES = hkdf(ROOT, STORE, b"deploy-secrets/1 names")
JOURNAL = hkdf(ROOT, STORE, b"deploy-secrets/1 journal")
KEYS_FILE = hkdf(ROOT, STORE, b"deploy-secrets/1 keys")


def place(name, version=0, field=""):
    """u16 length | name | u32 version | u16 length | field, little-endian."""
    name = name if isinstance(name, bytes) else name.encode()
    field = field.encode()
    return (struct.pack("<H", len(name)) + name + struct.pack("<I", version)
            + struct.pack("<H", len(field)) + field)


def name_on_disk(kind, name, version=0, field=""):
    return mac(NAMES, bytes([kind]) + place(name, version, field))


def seal(cipher, material, kind, generation, binding, text, label):
    code, aead = CIPHERS[cipher]
    salt, nonce = fixed(label + " salt", 32), fixed(label + " nonce", 12)
    block = hkdf(material, salt, b"deploy-secrets/1 record", 64)
    key, commitment = block[:32], block[32:]
    header = bytes([1, kind, code, 0]) + struct.pack("<I", generation) + salt + commitment + nonce
    assert len(header) == 84
    return header + aead(key).encrypt(nonce, text, header + STORE + binding)


def hierarchy():
    salt = fixed("a record's salt", 32)
    block = hkdf(ROOT, salt, b"deploy-secrets/1 record", 64)
    identity = "AGE-SECRET-KEY-1 is any text here"
    places = [
        (HEAD, "db_password", 0, ""),
        (VERSION, "db_password", 3, ""),
        (VERSION, "db_password", 3, "password"),
        (VERSION, "a" * 253, (1 << 28) - 1, "Z" * 253),
        (GRANTS, "web", 0, ""),
        (CONFIG, "app.settings", 0, ""),
    ]
    return {
        "store": STORE.hex(),
        "root": ROOT.hex(),
        "journal_key": JOURNAL.hex(),
        "record": {"salt": salt.hex(), "key": block[:32].hex(), "commitment": block[32:].hex()},
        "slot": {
            "identity": identity,
            "mac_key": hkdf(identity.encode(), STORE, b"deploy-secrets/1 slot").hex(),
        },
        "keys_file": {"text": "any text\n", "mac": mac(KEYS_FILE, b"any text\n").hex()},
        "names": [
            {"kind": kind, "name": name, "version": version, "field": field,
             "hash": name_on_disk(kind, name, version, field).hex()}
            for kind, name, version, field in places
        ],
    }


def records():
    head = ('{"name":"db_password","keep":10,"next":4,"oldest":2,"versions":['
            '{"number":2,"created":1764000000,"sizes":[[null,7]]},'
            '{"number":3,"created":1764000060,"sizes":[["password",7],["username",5]]}]}')
    tombstone = '{"name":"db_password","keep":10,"next":4,"oldest":4,"versions":[]}'
    grants = ('{"service":"web","grants":[{"secret":"db_password"},'
              '{"secret":"tls","until":1764003600,"pins":{"user":"www-data","unit":"web.service",'
              '"image":"sha256:00"}}]}')
    config = ('{"name":"app.settings","immutable":false,"version":2,"changed":1764000000,'
              '"data":{"log_level":"debug","max_conn":"100"}}')
    cases = [
        (HEAD, "db_password", 0, "", head.encode()),
        (HEAD, "db_password", 0, "", tombstone.encode()),
        (VERSION, "db_password", 2, "", b"s3cret\n"),
        (VERSION, "db_password", 3, "password", bytes(range(256))),
        (VERSION, "empty", 1, "", b""),
        (GRANTS, "web", 0, "", grants.encode()),
        (CONFIG, "app.settings", 0, "", config.encode()),
        (CONFIG, "gone", 0, "", b'{"name":"gone","immutable":false,"version":3,'
                                b'"changed":1764000000,"data":null}'),
    ]
    made = []
    for cipher in CIPHERS:
        for number, (kind, name, version, field, text) in enumerate(cases):
            hash = name_on_disk(kind, name, version, field)
            binding = place(name, version, field) if kind == VERSION else place(hash)
            label = f"{cipher} {number}"
            record = seal(cipher, ROOT, kind, GENERATION, binding, text, label)
            made.append({
                "cipher": cipher, "kind": kind, "name": name, "version": version, "field": field,
                "salt": fixed(label + " salt", 32).hex(), "nonce": fixed(label + " nonce", 12).hex(),
                "hash": hash.hex(), "text": text.hex(), "record": record.hex(),
            })
    return {"store": STORE.hex(), "root": ROOT.hex(), "generation": GENERATION, "records": made}


# --- age-encryption.org/v1, and Bech32 (BIP 173) for its keys

CHARSET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"


def bech32(prefix, data):
    bits = "".join(f"{byte:08b}" for byte in data)
    bits += "0" * (-len(bits) % 5)
    values = [int(bits[at:at + 5], 2) for at in range(0, len(bits), 5)]

    def polymod(values):
        check = 1
        for value in values:
            top, check = check >> 25, (check & 0x1FFFFFF) << 5 ^ value
            for bit, generator in enumerate(
                    [0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3]):
                check ^= generator if top >> bit & 1 else 0
        return check

    expanded = [ord(c) >> 5 for c in prefix] + [0] + [ord(c) & 31 for c in prefix]
    total = polymod(expanded + values + [0] * 6) ^ 1
    values += [total >> 5 * (5 - at) & 31 for at in range(6)]
    return prefix + "1" + "".join(CHARSET[value] for value in values)


def raw(public):
    return public.public_bytes(Encoding.Raw, PublicFormat.Raw)


def unpadded(data):
    return base64.b64encode(data).decode().rstrip("=")


class Half:
    """A slot's key pair."""

    def __init__(self, label):
        self.secret = fixed(label, 32)
        self.public = raw(X25519PrivateKey.from_private_bytes(self.secret).public_key())
        self.identity = bech32("age-secret-key-", self.secret).upper()
        self.recipient = bech32("age", self.public)


def age_file(halves, text):
    file_key = fixed("file key", 16)
    header = "age-encryption.org/v1\n"
    for number, half in enumerate(halves):
        ephemeral = X25519PrivateKey.from_private_bytes(fixed(f"ephemeral {number}", 32))
        share = raw(ephemeral.public_key())
        shared = ephemeral.exchange(X25519PublicKey.from_public_bytes(half.public))
        wrap = hkdf(shared, share + half.public, b"age-encryption.org/v1/X25519")
        body = ChaCha20Poly1305(wrap).encrypt(bytes(12), file_key, None)
        header += f"-> X25519 {unpadded(share)}\n{unpadded(body)}\n"
    header += "---"
    tag = mac(hkdf(file_key, b"", b"header"), header.encode())
    nonce = fixed("payload nonce", 16)
    payload = ChaCha20Poly1305(hkdf(file_key, nonce, b"payload"))
    return (f"{header} {unpadded(tag)}\n".encode() + nonce
            + payload.encrypt(bytes(11) + b"\1", text, None))


def keys():
    b64 = lambda data: base64.b64encode(data).decode()
    passphrase = "correct horse battery staple"
    argon2 = {"memory_kib": 19456, "passes": 2, "lanes": 1}
    salt = fixed("argon2 salt", 16)
    stretched = Argon2id(salt=salt, length=32, iterations=2, lanes=1, memory_cost=19456).derive(
        passphrase.encode())
    file, typed = Half("file slot"), Half("passphrase slot")
    wrapped = seal("chacha20-poly1305", stretched, PASSPHRASE, 0, place(typed.recipient),
                   typed.identity.encode(), "wrapped")
    slots = [
        {"id": 1, "label": "", "recipient": file.recipient,
         "holder": {"file": {"path": "file-slot.key"}}},
        {"id": 3, "label": "the safe", "recipient": typed.recipient,
         "holder": {"passphrase": {"argon2": argon2, "salt": salt.hex(), "wrapped": b64(wrapped)}}},
    ]
    tag_keys = {
        slot["id"]: hkdf(half.identity.encode(), STORE, b"deploy-secrets/1 slot")
        for slot, half in zip(slots, (file, typed))
    }
    table = b"".join(struct.pack("<I", number) + key for number, key in tag_keys.items())
    body = {
        "format": 1, "store": STORE.hex(), "generation": GENERATION, "next_slot": 4, "slots": slots,
        "root": b64(age_file([file, typed], ROOT)),
        "slot_keys": b64(
            seal("aes-256-gcm", ROOT, SLOT_KEYS, GENERATION, place("slots"), table, "slot keys")),
    }
    line = json.dumps(body, separators=(",", ":")) + "\n"
    text = line + "".join(
        f"slot {number} {mac(key, line.encode()).hex()}\n" for number, key in tag_keys.items())
    text += f"mac {mac(KEYS_FILE, text.encode()).hex()}\n"
    return {
        "store": STORE.hex(), "root": ROOT.hex(), "generation": GENERATION,
        "passphrase": passphrase, "argon2": argon2, "argon2_salt": salt.hex(),
        "argon2_key": stretched.hex(), "identity": file.identity, "keys": text,
    }


def backup():
    """A whole backup to one recipient, in one piece of an age file (so at most 64 KiB of text)."""
    head = ('{"name":"db_password","keep":10,"next":4,"oldest":2,"versions":['
            '{"number":2,"created":1764000000,"sizes":[[null,7]]},'
            '{"number":3,"created":1764000060,"sizes":[["password",7],["username",5]]}]}')
    cases = [
        (CLOCK, "clock", 0, "", '{"time":7200,"wall":1764000000,"uptime":86400,"boot":"none"}'),
        (HEAD, "db_password", 0, "", head),
        (VERSION, "db_password", 2, "", "s3cret\n"),
        (VERSION, "db_password", 3, "password", "s3cret2"),
        (VERSION, "db_password", 3, "username", "admin"),
        (GRANTS, "web", 0, "", '{"service":"web","grants":[{"secret":"db_password"}]}'),
        (CONFIG, "app", 0, "", '{"name":"app","immutable":false,"version":2,'
                               '"changed":1764000000,"data":{"a":"1"}}'),
    ]
    header = {
        "format": 1, "store": STORE.hex(), "cipher": "aes-256-gcm", "generation": GENERATION,
        "transaction": 41, "made": 1764000100, "records": len(cases),
        "anchor": "12:" + "ab" * 32,
    }
    slots = keys()["keys"].encode()
    text = b"deploy-secrets backup\n" + json.dumps(header, separators=(",", ":")).encode() + b"\n"
    text += ROOT + struct.pack("<I", len(slots)) + slots
    for number, (kind, name, version, field, content) in enumerate(cases):
        hash = name_on_disk(kind, name, version, field)
        binding = place(name, version, field) if kind == VERSION else place(hash)
        record = seal("aes-256-gcm", ROOT, kind, GENERATION, binding, content.encode(),
                      f"backup {number}")
        text += hash + struct.pack("<I", len(record)) + record
    recipient = Half("backup")
    return {
        "store": STORE.hex(), "root": ROOT.hex(), "generation": GENERATION,
        "identity": recipient.identity, "recipient": recipient.recipient, "text": text.hex(),
        "backup": age_file([recipient], text).hex(),
    }


def main():
    here = pathlib.Path(__file__).parent
    for name, make in [("hierarchy", hierarchy), ("records", records), ("keys", keys),
                       ("backup", backup)]:
        path = here / f"{name}.json"
        text = json.dumps(make(), indent=1) + "\n"
        if sys.argv[1:] == ["--check"]:
            if path.read_text() != text:
                sys.exit(f"{path} differs")
        else:
            path.write_text(text)


if __name__ == "__main__":
    main()
