"""Damage of files of JSON, as disks, hands and kills do it; every one follows from its seed."""

import json
import random

VALUES = ["x", None, True, [], {}, [[1]], {"a": 1}, -5, 10**30, 0.5, "", "NaN"]
NOT_NUMBERS = ["NaN", "Infinity", "-Infinity", "1e999"]
DEEP = 100_000


def flip_bit(data, draw):
    at = draw.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << draw.randrange(8)]) + data[at + 1 :]


def edit_digit(data, draw):
    at = draw.choice([i for i, byte in enumerate(data) if chr(byte).isdigit()])
    other = draw.choice([d for d in b"0123456789" if d != data[at]])
    return data[:at] + bytes([other]) + data[at + 1 :]


def truncate(data, draw):
    return data[: draw.randrange(len(data))]


def cut_out(data, draw):
    at = draw.randrange(len(data))
    return data[:at] + data[at + draw.randint(1, 200) :]


def put_in(data, draw):
    at = draw.randrange(len(data))
    return data[:at] + draw.randbytes(draw.randint(1, 20)) + data[at:]


def zero_out(data, draw):
    at = draw.randrange(len(data))
    block = data[at : at + draw.randint(1, 512)]
    return data[:at] + bytes(len(block)) + data[at + len(block) :]


def delete_line(data, draw):
    lines = data.splitlines(keepends=True)
    del lines[draw.randrange(len(lines))]
    return b"".join(lines)


def duplicate_line(data, draw):
    lines = data.splitlines(keepends=True)
    lines.insert(draw.randrange(len(lines)), draw.choice(lines))
    return b"".join(lines)


def swap_lines(data, draw):
    lines = data.splitlines(keepends=True)
    one, other = draw.sample(range(len(lines)), 2) if len(lines) > 1 else (0, 0)
    lines[one], lines[other] = lines[other], lines[one]
    return b"".join(lines)


def edited(data, draw, change):
    """One line, parsed, changed by `change(content, draw)` and written again."""
    lines = data.splitlines(keepends=True)
    number = draw.randrange(len(lines))
    content = json.loads(lines[number])
    text = change(content, draw)
    lines[number] = text.encode("utf-8", "surrogatepass") + b"\n"
    return b"".join(lines)


def delete_key(data, draw):
    def change(content, draw):
        del content[draw.choice(list(content))]
        return json.dumps(content)

    return edited(data, draw, change)


def change_type(data, draw):
    def change(content, draw):
        key = draw.choice(list(content))
        content[key] = draw.choice([v for v in VALUES if v != content[key]])
        return json.dumps(content)

    return edited(data, draw, change)


def no_number(data, draw):
    def change(content, draw):
        key = draw.choice([k for k in content if k not in ("image_id", "status")])
        content[key] = "@@"
        return json.dumps(content).replace('"@@"', draw.choice(NOT_NUMBERS))

    return edited(data, draw, change)


def lone_surrogate(data, draw):
    def change(content, draw):
        key = draw.choice(list(content))
        content[key] = draw.choice(["\ud800", "a\udfffb"])
        return json.dumps(content, ensure_ascii=draw.random() < 0.5)

    return edited(data, draw, change)


def deep_brackets(data, draw):
    def change(content, draw):
        if draw.random() < 0.3:
            return "[" * DEEP
        bracket = draw.choice([("[", "]"), ('{"a":', "}")])
        depth = draw.choice([200, DEEP])
        content[draw.choice(list(content))] = "@@"
        middle = "1" if bracket[0] != "[" else ""
        deep = bracket[0] * depth + middle + bracket[1] * depth
        return json.dumps(content).replace('"@@"', deep)

    return edited(data, draw, change)


def empty(data, draw):
    return draw.choice([b"", b"\n", b"\0" * 100, b"\xff\xfe\n", b"null\n", b"[]\n", b"{}\n"])


KINDS = [
    *(flip_bit, edit_digit, truncate, cut_out, put_in, zero_out, delete_line, duplicate_line),
    *(swap_lines, delete_key, change_type, no_number, lone_surrogate, deep_brackets, empty),
]


def mutation(seed, data):
    """(name, damaged data) of a seed; successive seeds go through all kinds."""
    kind = KINDS[seed % len(KINDS)]
    draw = random.Random(f"{kind.__name__} {seed}")
    return kind.__name__, kind(data, draw)
