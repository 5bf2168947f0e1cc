"""How names are written in the report's picture: in any script that an installed font has, and short enough."""

import textwrap
import unicodedata

#: Letters of a name that is drawn whole; a longer one loses its middle.
LONGEST = 28


def lettering(names):
    """Fonts and labels for a picture with these names in it.

    Returns:
        (font families in the order in which they are to be tried, {name: label}): a name with characters that no
        installed font has is labelled by its number, #1 for the first.
    """
    from matplotlib import font_manager

    default = font_manager.FontProperties(family="DejaVu Sans")
    families, missing = ["DejaVu Sans"], _characters(names) - _drawn_by(font_manager.findfont(default))
    plain_first = sorted(font_manager.findSystemFonts(), key=lambda path: ("regular" not in path.lower(), path))
    for path in plain_first if missing else ():
        if has := missing & _drawn_by(path):
            if all(font.fname != path for font in font_manager.fontManager.ttflist):
                font_manager.fontManager.addfont(path)
            families.append(font_manager.FontProperties(fname=path).get_name())
            missing -= has
    labels = {name: f"#{i + 1}" if set(name) & missing else shortened(name) for i, name in enumerate(names)}
    return families, labels


def shortened(name):
    """A name without its middle, where it is long."""
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 9]}…{name[-8:]}"


def written(text, labels):
    """A sentence with its names as they are labelled."""
    for name in sorted(labels, key=len, reverse=True):
        text = text.replace(name, labels[name])
    return text


def lines(text, width):
    """Broken into lines of so many letters, of which some scripts' are twice as wide."""
    wide = sum(unicodedata.east_asian_width(letter) in "WF" for letter in text)
    return textwrap.wrap(text, max(1, round(width * len(text) / (len(text) + wide)))) or [""]


def _characters(names):
    return {letter for letter in "".join(names) if letter.isprintable() and not letter.isspace()}


def _drawn_by(path):
    """The characters that a font file has; none where it cannot be read, or has boxes for all."""
    from matplotlib.ft2font import FT2Font

    try:
        font = FT2Font(path)
    except (RuntimeError, OSError):
        return set()
    boxes = "lastresort" in font.family_name.lower().replace(" ", "")
    return set() if boxes else set(map(chr, font.get_charmap()))
