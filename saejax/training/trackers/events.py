"""Records of TensorBoard's event files, as bytes.

An event is a protocol buffer (`event.proto` and `summary.proto` of TensorBoard) in the frame of a
TFRecord: length, checksum of the length, event, checksum of the event. Written out here because the
writers that can be installed open a file, a thread and a queue for each run, which a sweep has one
of for every cell; they import PyTorch where it is found, too.

Source: https://www.tensorflow.org/tutorials/load_data/tfrecord#tfrecords_format_details
"""

import struct
from collections.abc import Mapping

# Kinds of a field's value in a protocol buffer.
VARINT, DOUBLE, BYTES, FLOAT = 0, 1, 2, 5


def _crc_table() -> list[int]:
    """Of CRC-32C: the reflected Castagnoli polynomial, a byte at a time."""
    table = []
    for crc in range(256):
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
        table.append(crc)
    return table


TABLE = _crc_table()


def crc32c(data: bytes) -> int:
    """CRC-32C of some bytes."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def _checksum(data: bytes) -> bytes:
    """Masked as the format wants it, so that checksums of checksums stay good ones."""
    crc = crc32c(data)
    masked = ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
    return struct.pack("<I", masked)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _field(number: int, kind: int, value: bytes) -> bytes:
    length = _varint(len(value)) if kind == BYTES else b""
    return _varint(number << 3 | kind) + length + value


def _event(wall_time: float, step: int, rest: bytes) -> bytes:
    head = _field(1, DOUBLE, struct.pack("<d", wall_time)) + _field(2, VARINT, _varint(step))
    event = head + rest
    length = struct.pack("<Q", len(event))
    return length + _checksum(length) + event + _checksum(event)


def version(wall_time: float) -> bytes:
    """The record that a file begins with.

    Args:
        wall_time: seconds since 1970.
    """
    return _event(wall_time, 0, _field(3, BYTES, b"brain.Event:2"))


def scalars(wall_time: float, step: int, values: Mapping[str, float]) -> bytes:
    """A record of numbers by tag.

    Args:
        wall_time: seconds since 1970.
        step: number of steps done.
        values: tag -> number, kept in float32.
    """
    parts = (
        _field(1, BYTES, tag.encode()) + _field(2, FLOAT, struct.pack("<f", value))
        for tag, value in values.items()
    )
    return _event(wall_time, step, _field(5, BYTES, b"".join(_field(1, BYTES, p) for p in parts)))


def image(wall_time: float, step: int, tag: str, png: bytes) -> bytes:
    """A record of a picture.

    Args:
        wall_time: seconds since 1970.
        step: number of steps done.
        tag: its name.
        png: its file.
    """
    width, height = struct.unpack(">II", png[16:24])
    picture = b"".join(
        [
            _field(1, VARINT, _varint(height)),
            _field(2, VARINT, _varint(width)),
            _field(3, VARINT, _varint(4)),  # channels
            _field(4, BYTES, png),
        ]
    )
    value = _field(1, BYTES, tag.encode()) + _field(4, BYTES, picture)
    return _event(wall_time, step, _field(5, BYTES, _field(1, BYTES, value)))
