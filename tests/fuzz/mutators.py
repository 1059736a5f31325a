"""Damage of bytes, texts and trees of plain values; every one follows from what it draws."""

import copy

from tests import mutations

TEXTS = [
    *(
        "",
        " ",
        "\0",
        "a\0b",
        "\ud800",
        "a\udfffb",
        ".",
        "..",
        "/",
        "//",
        "a//b",
        "a/",
        "/a",
        "C:\\x",
    ),
    *("../../x", "a/../../x", "/etc/passwd", "~", "~/x", "~root/x", "~nobody-at-all/x", "$HOME/x"),
    *("${HOME}", "$DETECTURE_DATASETS_ROOT/../x", "%s%n%d", "{0}{a!r}", "{N}", "{i}", "<|seg|>"),
    *("<|im_end|>", "x" * 300, "x" * 100_000, "a/" * 3000, "\u202eabc", "e\u0301", "\u00e9"),
    *("\u0130", "\u00df", "\u00b2", "\u0663", "\u2460", "\uff11", "1_000", "-1", "0x10", "1e999"),
    *("9" * 5000, "NaN", "inf", "-0", "null", "true", "no", "0", "1", "", "<b>&\"'</b>", "a\nb"),
    *("a\r\nb", "\r", "\t", "\x1b[31m", "\u2028", "\ufeffx", "\ufffe", "CON", "x:y", "x|y", "x,y"),
    *("!!python/object:os.system", "*a", "&a", "=1+1", "2024-01-01", "12:30:45", "0o17", "\\u0041"),
]
"""Texts that have been the end of some program."""

NUMBERS = [
    *(
        0,
        1,
        -1,
        2,
        255,
        256,
        65535,
        65536,
        2**31 - 1,
        2**31,
        2**32,
        2**53 + 1,
        2**63,
        2**64,
        -(2**63),
    ),
    *(10**30, -(10**30), 10**399, 10**450, 0.5, -0.5, 1e-300, 1e308, -1e308, 0.1),
    *(float("nan"), float("inf"), float("-inf")),
]
DEPTHS = (1, 2, 20, 62, 63, 64, 65, 200, 900, 5000)
MARK = "@@deep{}@@"
"""Stands for a nesting of so many levels, which `json.dumps` could not write."""

_LONGEST = 1 << 22


def hostile(draw):
    """A value of any kind."""
    kind = draw.randrange(12)
    if kind < 4:
        return draw.choice(TEXTS)
    if kind < 7:
        return draw.choice(NUMBERS)
    if kind < 8:
        return MARK.format(draw.choice(DEPTHS))
    plain = [None, True, False, [], {}, [[]], [None], {"": None}, {"a": {"a": 1}}, [1, "a", None]]
    return copy.deepcopy(draw.choice(plain)) if kind < 11 else [hostile(draw) for _ in range(3)]


# ---- trees -----------------------------------------------------------------------------------


def places(tree):
    """(container, key) of all that is within a tree."""
    found, todo = [], [tree]
    while todo:
        container = todo.pop()
        if isinstance(container, dict):
            inner = list(container.items())
        elif isinstance(container, list):
            inner = list(enumerate(container))
        else:
            continue
        for key, value in inner:
            found.append((container, key))
            todo.append(value)
    return found


def altered(draw, tree, times=None):
    """A copy of a tree with one to three changes."""
    holder = [copy.deepcopy(tree)]
    for _ in range(times or draw.choice((1, 1, 1, 2, 3))):
        found = places(holder)
        container, key = draw.choice(found)
        draw.choice(_CHANGES)(draw, container, key, found)
        if not holder:
            holder.append(hostile(draw))
    return holder[0]


def _replace(draw, container, key, found):
    container[key] = hostile(draw)


def _delete(draw, container, key, found):
    del container[key]


def _twice(draw, container, key, found):
    value = copy.deepcopy(container[key])
    if isinstance(container, list):
        container.insert(draw.randrange(len(container) + 1), value)
    else:
        container[f"{key}{draw.choice('x_ ')}"] = value


def _many(draw, container, key, found):
    if isinstance(container, list):
        value = container[key]
        container.extend(copy.deepcopy(value) for _ in range(draw.choice((3, 300))))
    else:
        container |= {f"{key}{n}": container[key] for n in range(draw.choice((3, 300)))}


def _rename(draw, container, key, found):
    if isinstance(container, dict):
        text = str(key)
        other = [text.upper(), text[:-1], text + text, f" {text}", draw.choice(TEXTS)]
        value = container.pop(key)
        container[draw.choice(other)] = value


def _other_type(draw, container, key, found):
    value = container[key]
    others = [str(value), [value], {"value": value}, bool(value)]
    if isinstance(value, dict):
        others += [list(value.values()), [list(pair) for pair in value.items()]]
    if isinstance(value, list):
        others += [dict(enumerate(map(str, value))), " ".join(map(str, value))]
    if isinstance(value, str):
        others += [list(value[:50]), value.encode("utf-8", "replace").hex(), value + " "]
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        others += [float(value) if abs(value) < 1e300 else 0.0, value + 0.5, f"{value}"]
    container[key] = draw.choice(others)


def _move(draw, container, key, found):
    other, place = draw.choice(found)
    if isinstance(other, list) and place >= len(other):
        return
    other[place] = copy.deepcopy(container[key])


def _nudge(draw, container, key, found):
    value = container[key]
    if isinstance(value, bool) or value is None:
        container[key] = not value
    elif isinstance(value, (int, float)):
        third = value / 3 if isinstance(value, float) else value // 3
        container[key] = draw.choice([value + 1, value - 1, -value, value * 1000, third])
    elif isinstance(value, str):
        at = draw.randrange(len(value) + 1)
        container[key] = value[:at] + draw.choice(TEXTS)[:1000] + value[at:]
    elif isinstance(value, list):
        draw.shuffle(value)


_CHANGES = (
    *(_replace, _replace, _replace, _delete, _twice, _many, _rename, _other_type, _move),
    *(_nudge, _nudge),
)


# ---- bytes -----------------------------------------------------------------------------------


def damaged(draw, data, times=None):
    """Bytes with one to four faults."""
    for _ in range(times or draw.choice((1, 1, 1, 2, 4))):
        if not data:
            return draw.randbytes(draw.choice((0, 1, 40)))
        data = draw.choice(_DAMAGES)(data, draw)[:_LONGEST]
    return data


def _digit(data, draw):
    has_digit = any(chr(byte).isdigit() for byte in data)
    return (mutations.edit_digit if has_digit else mutations.flip_bit)(data, draw)


def _spliced(data, draw):
    start, at = draw.randrange(len(data)), draw.randrange(len(data))
    return data[:at] + data[start : start + draw.randint(1, 300)] + data[at:]


def _extreme(data, draw):
    """A whole number in it, of any width, made as large or small as can be."""
    width = draw.choice((1, 2, 4, 8))
    number = draw.choice((0, 1, (1 << 8 * width) - 1, (1 << 8 * width - 1) - 1, 1 << 8 * width - 1))
    at = draw.randrange(min(len(data), draw.choice((64, 1 << 20))))
    return data[:at] + number.to_bytes(width, draw.choice(("big", "little"))) + data[at + width :]


def _text_in(data, draw):
    at = draw.randrange(len(data))
    text = draw.choice(TEXTS).encode("utf-8", "surrogatepass")
    return data[:at] + text + data[at + draw.choice((0, 0, len(text))) :]


def _encoded(data, draw):
    codec = draw.choice(("utf-16", "utf-16-le", "utf-32", "latin-1", "cp037", "utf-8-sig", "utf-7"))
    return data.decode("utf-8", "replace").encode(codec, "replace")


def _repeated(data, draw):
    return data * draw.choice((2, 3, 8))


def _other_lines(data, draw):
    return data.replace(b"\n", draw.choice((b"\r\n", b"\r", b"\n\n", b"\0", b"", b"\xe2\x80\xa8")))


def _framed(data, draw):
    junk = draw.choice(
        (b"\0" * 100, b"\xff" * 9, b"\n" * 3000, b"PK\x03\x04", b"garbage", b"[", b"}")
    )
    return draw.choice((junk + data, data + junk))


_DAMAGES = (
    *(mutations.flip_bit, mutations.flip_bit, _digit, _digit, mutations.truncate),
    *(mutations.truncate, mutations.cut_out, mutations.put_in, mutations.zero_out),
    *(mutations.delete_line, mutations.duplicate_line, mutations.swap_lines, _spliced),
    *(_extreme, _extreme, _text_in, _text_in, _encoded, _repeated, _other_lines, _framed),
)
